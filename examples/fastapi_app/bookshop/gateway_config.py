"""What the gateway serves, as the mapping that `create_gateway` takes.

A path to a YAML file works as well, and every key can be set from the environment:
RADGATEWAY_PROVIDERS__MOCK__TOKENS_PER_S=20, RADGATEWAY_STORAGE__USAGE=sqlite:////var/lib/usage.db.
"""

from __future__ import annotations

from typing import Any

CONFIG: dict[str, Any] = {
    # Whom the gateway lets in. The secret itself stays in the environment.
    "keys": [{"name": "bookshop", "secret": "env:BOOKSHOP_AI_KEY", "limits": ["600/minute"]}],
    "providers": {
        # Answers by itself, so the example runs without an account anywhere.
        "mock": {"kind": "mock", "latency_ms": 50, "tokens_per_s": 20},
        # A real one. Anything that speaks OpenAI's API works like it, given its base_url.
        # "openai": {"kind": "openai", "api_key": "env:OPENAI_API_KEY"},
    },
    "models": {
        "gpt-4o-mini": {
            "candidates": [
                # The heavier comes first; the next one where it fails before its first word.
                # {"provider": "openai", "model": "gpt-4o-mini", "weight": 80},
                {"provider": "mock", "model": "gpt-4o-mini", "weight": 20},
            ],
        },
        "claude-3-5-sonnet": {"candidates": [{"provider": "mock"}]},
    },
    "storage": {"usage": "sqlite:///bookshop-usage.db"},
}
