"""The project's settings; the last two are what the gateway added."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ.get("HELPDESK_SECRET_KEY") or secrets.token_urlsafe(32)
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
INSTALLED_APPS = ["articles"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "helpdesk.urls"
ASGI_APPLICATION = "helpdesk.asgi.application"
DATABASES: dict[str, Any] = {}
USE_TZ = True

# What `create_gateway` takes; a path to a YAML file works as well. Every key can be set from the
# environment: RADGATEWAY_STORAGE__USAGE=sqlite:////var/lib/usage.db
AI_GATEWAY: dict[str, Any] = {
    # Whom the gateway lets in. The secret itself stays in the environment.
    "keys": [{"name": "helpdesk", "secret": "env:HELPDESK_AI_KEY", "limits": ["600/minute"]}],
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
    "storage": {"usage": f"sqlite:///{BASE_DIR / 'helpdesk-usage.db'}"},
}

OWN_VIEWS_LIMIT = os.environ.get("HELPDESK_LIMIT", "30/minute")
"""What one address may ask of the project's own views."""
