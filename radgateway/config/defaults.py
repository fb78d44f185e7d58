"""What holds where nothing was said: the strategy's matrix, and a gateway to start with.

The matrix is that of the strategy's 4.3 and 5.2, as defaults: any explicit key wins. Three cells
differ, on purpose. Storage: `in-memory` for local and alpha would lose usage at each restart, and
no default could say where a `postgresql` is, so all environments keep it in a SQLite file, and a
notice says so where PostgreSQL is expected. Providers: real ones may be configured in any
environment. Metrics: off for local, but the embedded configuration turns them on, so that a first
look sees them.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from radgateway.config import original
from radgateway.config.problems import Report
from radgateway.config.secrets import Secret
from radgateway.config.tree import Node, from_values
from radgateway.config.values import DAY_S


def _row(log_level: str, *, metrics: bool, tracing: bool) -> Mapping[str, Any]:
    telemetry = {"log_level": log_level, "metrics": metrics, "tracing": {"enabled": tracing}}
    storage = {"usage": "sqlite:///radgateway.db", "limits": "memory://"}
    return {"telemetry": telemetry, "storage": storage}


MATRIX: Mapping[str, Mapping[str, Any]] = {
    "local": _row("debug", metrics=False, tracing=False),
    "alpha": _row("info", metrics=True, tracing=False),
    "staging": _row("info", metrics=True, tracing=True),
    "production": _row("warn", metrics=True, tracing=True),
}
"""Defaults by environment (strategy 4.3, 5.2)."""

_OPENAI_MODELS = (
    "gpt-4o-mini",
    "text-embedding-3-small",
    "gpt-image-1",
    "whisper-1",
    "gpt-4o-mini-tts",
)
_MOCK_MODELS = (*_OPENAI_MODELS, "claude-3-5-sonnet", "gemini-1.5-flash")
_VENDOR_MODELS: Mapping[str, Mapping[str, str]] = {
    "openai": {name: name for name in _OPENAI_MODELS},
    "anthropic": {"claude-3-5-sonnet": "claude-3-5-sonnet-20241022"},
    "gemini": {"gemini-1.5-flash": "gemini-1.5-flash"},
}
"""The original's models, and each vendor's name for its own."""

OLLAMA_URL = "http://localhost:11434/v1"
_OLLAMA_MODELS = ("llama3", "mistral", "codellama")


def matrix(environment: str) -> Node:
    """The defaults of an environment; local's for a name that is none, which others report."""
    return from_values(MATRIX.get(environment, MATRIX["local"]), Report())


def give_answers_time(root: Node) -> None:
    """Let only `total_s` bound an answer that does not stream, where nobody said otherwise.

    Its first byte comes with its last token, so the 30 s that a stream gets to begin would cut
    every long one. Who sets `first_byte_s` means it, for all answers.
    """
    providers = root.value.get("providers") if isinstance(root.value, dict) else None
    named = providers.value if providers is not None else None
    for provider in named.values() if isinstance(named, dict) else ():
        if not isinstance(provider.value, dict):
            continue
        timeouts = provider.value.setdefault("timeouts", Node({}))
        if isinstance(timeouts.value, dict) and "first_byte_s" not in timeouts.value:
            timeouts.value.setdefault("answer_s", Node(DAY_S))


def embedded(environ: Mapping[str, str], environment: str, report: Report) -> Node:
    """The configuration of a gateway that was given none.

    The original's models from the mock, or from each vendor whose key is in the environment; then
    the mock no longer stands in for that vendor, so nothing invented passes for an answer. In
    staging and production there is no mock, and no key is made up.
    """
    deployed = environment in ("staging", "production")
    providers: dict[str, Any] = {}
    models: dict[str, Any] = {}
    if not deployed:
        providers["mock"] = {"kind": "mock"}
        models = {name: _only("mock", name) for name in _MOCK_MODELS}
        models["gpt-4o-mini"] = {
            "candidates": [
                {"provider": "mock", "model": "gpt-4o-mini", "weight": 80},
                {"provider": "mock", "model": "fallback-mini", "weight": 20},
            ]
        }
    for kind, variable in original.VENDOR_KEYS.items():
        if environ.get(variable):
            providers[kind] = {"kind": kind, "api_key": f"env:{variable}"}
            models |= {name: _only(kind, own) for name, own in _VENDOR_MODELS[kind].items()}
    _add_ollama(environ, providers, models)
    root = from_values({"providers": providers, "models": models}, report)
    assert isinstance(root.value, dict)
    root.value["telemetry"] = from_values({} if deployed else {"metrics": True}, report)
    _add_keys(root.value, environ, deployed, report)
    return root


def _only(provider: str, model: str) -> dict[str, Any]:
    return {"candidates": [{"provider": provider, "model": model}]}


def _add_ollama(
    environ: Mapping[str, str], providers: dict[str, Any], models: dict[str, Any]
) -> None:
    if environ.get("OLLAMA_ENABLED", "").strip().lower() not in ("1", "t", "true"):
        return
    url = environ.get("OLLAMA_BASE_URL") or OLLAMA_URL
    providers["ollama"] = {"kind": "openai", "base_url": url}
    if environ.get("OLLAMA_API_KEY"):
        providers["ollama"]["api_key"] = "env:OLLAMA_API_KEY"
    for name in _OLLAMA_MODELS:
        own = environ.get(f"OLLAMA_MODEL_{name.upper()}") or name
        models[name] = _only("ollama", own)


def _add_keys(
    root: dict[str, Node], environ: Mapping[str, str], deployed: bool, report: Report
) -> None:
    keys = original.keys(environ, report)
    if environ.get("RAD_KEY"):
        keys.insert(0, from_values({"name": "default", "secret": "env:RAD_KEY"}, report))
    if not keys and not deployed:
        secret = Secret(f"rad-{secrets.token_urlsafe(24)}", generated=True)
        keys.append(from_values({"name": "default", "secret": secret}, report))
    if keys:
        root["keys"] = Node(list(keys))
    if environ.get("RAD_ADMIN_KEY"):
        root["admin_keys"] = from_values([{"name": "ops", "secret": "env:RAD_ADMIN_KEY"}], report)
