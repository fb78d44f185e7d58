"""What no key can tell by itself: whether the parts of a configuration fit together."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Container, Iterator
from itertools import chain

from radgateway.config.problems import Path, nearest, shown
from radgateway.config.schema import MODEL, NAME, GatewayConfig, ModelConfig, ProviderConfig
from radgateway.config.secrets import Dsn, Secret

DEPLOYED = frozenset({"staging", "production"})
"""Environments with real callers."""

USAGE_STORAGES = ("sqlite", "memory")
LIMITS_STORAGES = ("memory", "redis", "rediss")
"""What this release implements, by the scheme of the address."""

_FORMS = {
    "sqlite": "sqlite:///PATH",
    "memory": "memory://",
    "redis": "redis://HOST:6379/0 (rediss:// with TLS)",
}

Fault = tuple[Path, str]


def faults(config: GatewayConfig, known_providers: Container[str] = ()) -> Iterator[Fault]:
    """Everything that does not fit. `known_providers` exist besides those that could be read."""
    yield from _keys(config)
    for name, provider in config.providers.items():
        yield from _provider(config, name, provider)
    yield from _names(config)
    for name, model in config.models.items():
        yield from _model(config, name, model, known_providers)
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
    if not config.keys:
        yield "keys is empty: the data plane is open to whoever reaches it"
    for key in config.keys:
        unkept = [name for name in ("token_limits", "max_concurrency") if getattr(key, name)]
        if unkept:
            yield f"the key {key.name!r} sets {' and '.join(unkept)}, which is not enforced yet"
    if config.environment not in DEPLOYED:
        return
    for name, provider in config.providers.items():
        if provider.kind == "mock":
            yield f"providers.{name} is a mock in {config.environment}: its answers are invented"
    if config.storage.usage.resolved and config.storage.usage.scheme in USAGE_STORAGES:
        yield (
            f"storage.usage is {config.storage.usage}: {config.environment} is meant to have "
            "PostgreSQL, which this release does not implement; usage stays with each replica"
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


def _provider(config: GatewayConfig, name: str, provider: ProviderConfig) -> Iterator[Fault]:
    if provider.faults is not None and config.environment == "production":
        yield ("providers", name, "faults"), "faults are not injected in production; remove them"
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
    if dsn.scheme != "sqlite":
        missing = importlib.util.find_spec("redis") is None
        return 'needs redis-py: pip install "radgateway[redis]"' if missing else None
    if not dsn.path or "?" in text or "#" in text:
        return "must be sqlite:/// and the path of a file, with a fourth / for an absolute one"
    return "is memory:// for a database that is not kept" if dsn.path == ":memory:" else None
