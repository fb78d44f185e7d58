"""A configuration whose secrets are in a store."""

from __future__ import annotations

import base64
from typing import Any

from radgateway.chaos.fake_infisical import FakeInfisical

CACHE_KEY = base64.b64encode(bytes(range(32))).decode()


def environ_of(fake: FakeInfisical) -> dict[str, str]:
    """What the machine has to know."""
    return {**fake.environ, "CACHE_KEY": CACHE_KEY}


def config_of(fake: FakeInfisical, **store: Any) -> dict[str, Any]:
    """Keys of a caller, an admin and a provider, all of the store."""
    return {
        "keys": [{"name": "a", "secret": "infisical:CALLER"}],
        "admin_keys": [{"name": "ops", "secret": "infisical:/deep/ADMIN"}],
        "providers": {
            "p": {"kind": "openai", "base_url": "http://localhost:1/v1", "api_key": "infisical:P"}
        },
        "models": {"m": {"candidates": [{"provider": "p"}]}},
        "storage": {"usage": "memory://"},
        "secrets": {"refresh_s": 1, "infisical": fake.settings(**store)},
    }


def filled(fake: FakeInfisical) -> FakeInfisical:
    """The store with these secrets."""
    fake.values = {
        "/": {"CALLER": "the-callers-key-1", "P": "sk-of-the-provider-1"},
        "/deep": {"ADMIN": "the-admins-key-1"},
    }
    return fake
