"""What no key can tell by itself: whether the parts of a configuration fit together."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Container, Iterator
from itertools import chain

from radgateway.config.jwt import SOURCES, JwtConfig
from radgateway.config.problems import Path, nearest, shown
from radgateway.config.providers import ModelConfig, ProviderConfig
from radgateway.config.schema import GatewayConfig
from radgateway.config.secrets import Dsn, Secret
from radgateway.config.secrets_store import InfisicalConfig
from radgateway.config.values import MODEL, NAME
from radgateway.inbound.bearer_tokens import SECRET_MIN_BYTES
from radgateway.inbound.compact_jwt import looks_like_token

DEPLOYED = frozenset({"staging", "production"})
"""Environments with real callers."""

POSTGRES = ("postgresql", "postgres")
USAGE_STORAGES = ("sqlite", *POSTGRES, "memory")
LIMITS_STORAGES = ("memory", "redis", "rediss")
"""What this release implements, by the scheme of the address."""

_FORMS = {
    "sqlite": "sqlite:///PATH",
    "postgresql": "postgresql://USER:PASSWORD@HOST/DATABASE",
    "memory": "memory://",
    "redis": "redis://HOST:6379/0 (rediss:// with TLS)",
}

Fault = tuple[Path, str]


def faults(config: GatewayConfig, known_providers: Container[str] = ()) -> Iterator[Fault]:
    """Everything that does not fit. `known_providers` exist besides those that could be read."""
    yield from _keys(config)
    if config.jwt is not None:
        yield from _jwt(config, config.jwt)
    for name, provider in config.providers.items():
        yield from _provider(config, name, provider)
    if config.secrets.infisical is not None:
        yield from _store(config, config.secrets.infisical)
    yield from _names(config)
    for name, model in config.models.items():
        yield from _model(config, name, model, known_providers)
    if config.prices.source == "builtin" and importlib.util.find_spec("genai_prices") is None:
        yield ("prices", "source"), 'needs genai-prices: pip install "radgateway[prices]"'
    limits = config.storage.limits
    if config.storage.breaker_hints and limits.resolved and "redis" not in limits.scheme:
        yield ("storage", "breaker_hints"), "needs storage.limits to be a redis:// address"
    for key, dsn, known in (
        ("usage", config.storage.usage, USAGE_STORAGES),
        ("limits", config.storage.limits, LIMITS_STORAGES),
    ):
        fault = _storage(dsn, known) if dsn.resolved else None
        if fault:
            yield ("storage", key), fault


def notices(config: GatewayConfig) -> Iterator[str]:
    """What works, and is worth knowing before it surprises somebody."""
    if not config.keys and config.jwt is None:
        yield "keys is empty: the data plane is open to whoever reaches it"
    yield from _limits(config)
    if config.environment not in DEPLOYED:
        return
    if config.environment == "production" and config.chaos.allow:
        yield "chaos.allow is on in production: whoever has an admin key can inject faults"
    for name, provider in config.providers.items():
        if provider.kind == "mock":
            yield f"providers.{name} is a mock in {config.environment}: its answers are invented"
    if config.storage.usage.resolved and config.storage.usage.scheme not in POSTGRES:
        yield (
            f"storage.usage is {config.storage.usage}: {config.environment} is meant to have "
            "PostgreSQL; so usage stays with each replica"
        )


def _limits(config: GatewayConfig) -> Iterator[str]:
    replicas = config.limits.replicas
    if replicas > 1 and config.storage.limits.resolved and config.storage.limits.scheme == "memory":
        yield (
            f"limits.replicas is {replicas} and storage.limits is memory://, which each "
            f"process has for itself: a caller gets up to {replicas} times what is configured"
        )


def _keys(config: GatewayConfig) -> Iterator[Fault]:
    holders: dict[Secret, str] = {}
    names: set[tuple[str, str]] = set()
    keys = [("keys", i, key.name, key.secret) for i, key in enumerate(config.keys)]
    keys += [("admin_keys", i, key.name, key.secret) for i, key in enumerate(config.admin_keys)]
    for group, index, name, secret in keys:
        if (group, name) in names:
            yield (group, index, "name"), f"the name {name!r} is given twice"
        names.add((group, name))
        holder = holders.setdefault(secret, f"{group}.{name}")
        if holder != f"{group}.{name}":
            yield (group, index, "secret"), f"is the same secret as that of {holder}"


def _jwt(config: GatewayConfig, jwt: JwtConfig) -> Iterator[Fault]:
    if any(importlib.util.find_spec(name) is None for name in ("jwt", "cryptography")):
        yield ("jwt",), 'needs PyJWT: pip install "radgateway[jwt]"'
    if not any(getattr(jwt, name) for name in SOURCES):
        yield ("jwt", "jwks_url"), "is missing; or give jwks_file, or secret for HS256"
    secret = jwt.secret
    if secret is not None and secret.resolved and len(secret.reveal()) < SECRET_MIN_BYTES:
        yield ("jwt", "secret"), f"must have at least {SECRET_MIN_BYTES} bytes (RFC 7518 §3.2)"
    for name, path in (("jwks_file", jwt.jwks_file), ("ca_file", jwt.ca_file)):
        if path is not None and not os.path.isfile(path):
            yield ("jwt", name), f"there is no file {path!r}"
    for index, key in enumerate(config.keys):
        if key.secret.resolved and looks_like_token(key.secret.reveal().encode()):
            yield ("keys", index, "secret"), "has the form of a JWT, and would be taken for one"


def _store(config: GatewayConfig, store: InfisicalConfig) -> Iterator[Fault]:
    at = ("secrets", "infisical")
    if store.token is None:
        for name in ("client_id", "client_secret"):
            if getattr(store, name) is None:
                yield (*at, name), "is missing; an identity has one (or give a token)"
    elif store.client_id is not None or store.client_secret is not None:
        yield (*at, "token"), "stands beside a client id and secret; give one or the other"
    if (store.cache_file is None) != (store.cache_key is None):
        yield (*at, "cache_file"), "and cache_key go together"
    elif store.cache_file is not None and importlib.util.find_spec("cryptography") is None:
        yield (*at, "cache_file"), 'needs cryptography: pip install "radgateway[secrets]"'
    if store.ca_file is not None and not os.path.isfile(store.ca_file):
        yield (*at, "ca_file"), f"there is no file {store.ca_file!r}"
    if store.max_stale_s is not None and store.max_stale_s < 2 * config.secrets.refresh_s:
        yield (*at, "max_stale_s"), "must be at least twice secrets.refresh_s"


def _provider(config: GatewayConfig, name: str, provider: ProviderConfig) -> Iterator[Fault]:
    if provider.faults is not None and config.environment == "production":
        message = "faults are not configured in production; arm them, where chaos.allow is set"
        yield ("providers", name, "faults"), message
    if provider.at_vendor and provider.api_key is None:
        yield ("providers", name, "api_key"), f"is missing; {provider.base_url} asks for one"
    if provider.ca_file is not None and not os.path.isfile(provider.ca_file):
        yield ("providers", name, "ca_file"), f"there is no file {provider.ca_file!r}"


def _names(config: GatewayConfig) -> Iterator[Fault]:
    for name in config.providers:
        if not NAME.fullmatch(name):
            yield ("providers", name), "a provider's name has up to 64 letters, digits and _.@-"
    owners: dict[str, str] = {}
    for name, model in config.models.items():
        if not MODEL.fullmatch(name):
            yield ("models", name), "a model's name is visible ASCII without spaces"
        for known in chain((name,), model.aliases):
            owner = owners.setdefault(known, name)
            if owner != name:
                yield (
                    ("models", name),
                    f"{shown(known)!r} is a name of {shown(owner)!r} already",
                )


def _model(
    config: GatewayConfig, name: str, model: ModelConfig, known_providers: Container[str]
) -> Iterator[Fault]:
    for index, candidate in enumerate(model.candidates):
        provider = candidate.provider
        if provider not in config.providers and provider not in known_providers:
            hint = nearest(provider, config.providers)
            path = ("models", name, "candidates", index, "provider")
            yield path, f"there is no provider {shown(provider)!r}{hint}"


def _storage(dsn: Dsn, known: tuple[str, ...]) -> str | None:
    supported = " or ".join(_FORMS[scheme] for scheme in known if scheme in _FORMS)
    text = dsn.reveal()
    if "://" not in text or not text.isprintable():
        return f"must be an address: {supported}"
    if dsn.scheme not in known:
        return f"{shown(dsn.scheme)}:// is not supported in this release; use {supported}"
    if dsn.scheme == "memory":
        return None if text == "memory://" else "must be memory:// and nothing else"
    if dsn.scheme == "sqlite":
        return _sqlite(dsn, text)
    if dsn.scheme in POSTGRES:
        return _postgres(text)
    missing = importlib.util.find_spec("redis") is None
    return 'needs redis-py: pip install "radgateway[redis]"' if missing else None


def _sqlite(dsn: Dsn, text: str) -> str | None:
    if not dsn.path or "?" in text or "#" in text:
        return "must be sqlite:/// and the path of a file, with a fourth / for an absolute one"
    return "is memory:// for a database that is not kept" if dsn.path == ":memory:" else None


def _postgres(text: str) -> str | None:
    try:
        from radgateway.usage.postgres_connection import connection_parameters  # noqa: PLC0415
    except ImportError:
        return 'needs psycopg: pip install "radgateway[postgres]"'
    try:
        connection_parameters(text)
    except ValueError as error:
        return str(error)
    return None
