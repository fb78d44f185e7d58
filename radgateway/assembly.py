"""From a configuration to components: each function makes one part of the reference app."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from limits import RateLimitItem, parse

from radgateway import __version__
from radgateway.asgi import ASGIApp, Layer
from radgateway.composition import compose
from radgateway.config.schema import GatewayConfig, ProviderConfig
from radgateway.exchange import Principal
from radgateway.inbound.auth import ApiKeys
from radgateway.provider.breaker import CircuitBreaker
from radgateway.provider.bulkhead import Bulkhead
from radgateway.provider.circuit.ejection import EjectionGroup
from radgateway.provider.circuit.hints import BreakerHints, hints_client
from radgateway.provider.circuit.policy import BreakerPolicy
from radgateway.provider.deadline import Deadline
from radgateway.provider.faults import FaultInjector
from radgateway.provider.http import HTTPProvider
from radgateway.provider.mock import MockConfig, MockProvider
from radgateway.routing.models import Candidate, ModelTable, Provider, Route
from radgateway.surface import SPOKEN_BY
from radgateway.telemetry.breaker_report import BreakerReport
from radgateway.telemetry.instruments import Instruments, LabelSets
from radgateway.upstream import Upstream
from radgateway.upstream.connect import connect
from radgateway.upstream.interface import Timeouts
from radgateway.usage.ledger import Ledger, MemoryLedger, SQLiteLedger

_log = logging.getLogger("radgateway.app")


def caller_keys(config: GatewayConfig) -> ApiKeys:
    """The keys of the data plane; an admin's is none of them."""
    return ApiKeys((Principal(key.name), key.secret.reveal()) for key in config.keys)


def admin_keys(config: GatewayConfig) -> ApiKeys:
    """The keys the management routes know. Callers' are among them, to be told apart: 403."""
    return ApiKeys(
        [(Principal(key.name), key.secret.reveal()) for key in config.keys]
        + [(Principal(key.name, admin=True), key.secret.reveal()) for key in config.admin_keys]
    )


def limits_by_key(config: GatewayConfig) -> Callable[[str], tuple[RateLimitItem, ...]]:
    """The request limits of a key by its name; none for a name that has none."""
    by_name = {key.name: tuple(parse(text) for text in key.limits) for key in config.keys}
    return lambda name: by_name.get(name, ())


class LimitsState:
    """Whether the limits' storage answers: one log line a change, and a word for readiness."""

    def __init__(self) -> None:
        self.word = "ok"

    def changed(self, available: bool, reason: str) -> None:
        """Take note of the storage's going or coming back."""
        self.word = "ok" if available else "unavailable: limits are not checked"
        if available:
            _log.warning("radgateway.rate_limit.storage_recovered")
        else:
            _log.warning("radgateway.rate_limit.storage_lost", extra={"reason": reason})


def ledger(config: GatewayConfig) -> Ledger:
    """Where usage rows go."""
    usage = config.storage.usage
    return MemoryLedger() if usage.scheme == "memory" else SQLiteLedger(usage.path)


def upstream_client(config: GatewayConfig, ca_file: str | None) -> Upstream:
    """A client for providers that trust the system's authorities, or those of one file."""
    context = ssl.create_default_context(cafile=ca_file) if ca_file is not None else None
    settings = config.upstream
    return connect(
        settings.client,
        max_connections=settings.max_connections,
        keepalive_expiry_s=settings.keepalive_expiry_s,
        ssl_context=context,
    )


def instruments(config: GatewayConfig) -> Instruments:
    """The metrics, with the configured names as the only values that labels may take."""
    models = {c.model for model in config.models.values() for c in model.candidates}
    names = {name for model in config.models for name in (model, *config.models[model].aliases)}
    labels = LabelSets(
        providers=frozenset(config.providers),
        models=frozenset(name for name in models | names if "*" not in name),
        api_key_names=(
            frozenset(key.name for key in config.keys)
            if config.telemetry.key_names_in_metrics
            else None
        ),
    )
    return Instruments(labels=labels, version=__version__, environment=config.environment)


def provider(
    name: str,
    config: ProviderConfig,
    client: Upstream | None,
    instruments: Instruments,
    hints: BreakerHints | None = None,
) -> Provider:
    """A provider behind what protects it from us and us from it."""
    timeouts = config.timeouts.clocks
    app: ASGIApp
    if client is None:
        app = MockProvider(
            MockConfig(
                latency_ms=config.latency_ms,
                tokens_per_s=config.tokens_per_s,
                error_ratio=config.error_ratio,
            )
        )
    else:
        assert config.base_url is not None
        assert config.kind != "mock"
        app = HTTPProvider(
            name,
            client,
            base_url=config.base_url,
            kind=config.kind,
            api_key=config.api_key.reveal if config.api_key is not None else None,
            headers=[
                (key.lower().encode(), value.reveal().encode())
                for key, value in config.headers.items()
            ],
            # The other clocks are the Deadline layer's.
            timeouts=Timeouts(connect_s=timeouts.connect_s, pool_s=timeouts.pool_s),
        )
    layers: list[Layer] = []
    if config.breaker is not None:
        on_trip = hints.publish if hints is not None else None
        policy = BreakerReport(name, config.breaker, instruments, on_trip).policy
        if hints is not None:
            hints.watch(name, policy)
        layers.append(partial(CircuitBreaker, policy=policy))
    if config.max_concurrency is not None:
        layers.append(partial(Bulkhead, max_concurrency=config.max_concurrency))
    layers.append(partial(Deadline, timeouts=timeouts))
    if config.faults is not None:
        layers.append(partial(FaultInjector, faults=config.faults))
    return Provider(compose(app, *layers), SPOKEN_BY[config.kind], config.include_usage)


def providers(
    config: GatewayConfig, instruments: Instruments, hints: BreakerHints | None = None
) -> tuple[dict[str, Provider], list[Upstream]]:
    """All providers, and the clients they share: one for each set of trusted authorities."""
    clients: dict[str | None, Upstream] = {}
    made: dict[str, Provider] = {}
    for name, settings in config.providers.items():
        client: Upstream | None = None
        if settings.kind != "mock":
            if settings.ca_file not in clients:
                clients[settings.ca_file] = upstream_client(config, settings.ca_file)
            client = clients[settings.ca_file]
        made[name] = provider(name, settings, client, instruments, hints)
    join_ejection_groups(config, breakers(made))
    return made, list(clients.values())


def breakers(made: Mapping[str, Provider]) -> dict[str, BreakerPolicy]:
    """The policies of the providers that have a breaker, by name."""
    return {
        name: provider.app.policy
        for name, provider in made.items()
        if isinstance(provider.app, CircuitBreaker)
    }


def join_ejection_groups(config: GatewayConfig, policies: Mapping[str, BreakerPolicy]) -> None:
    """Let the breakers of each model's providers ask each other before they open."""
    sets = {
        (frozenset(candidate.provider for candidate in model.candidates), model.max_open_ratio)
        for model in config.models.values()
    }
    for names, max_open_ratio in sets:
        members = [policies[name] for name in names if name in policies]
        group = EjectionGroup(
            members, unguarded=len(names) - len(members), max_open_ratio=max_open_ratio
        )
        for member in members:
            member.join(group)


def breaker_hints(config: GatewayConfig) -> BreakerHints | None:
    """What shares openings with other replicas, where that is configured."""
    if not config.storage.breaker_hints:
        return None

    def changed(available: bool, reason: str) -> None:
        word = "recovered" if available else "lost"
        _log.warning("radgateway.breaker_hints.%s", word, extra={"reason": reason})

    def heeded(name: str) -> None:
        _log.warning("radgateway.breaker_hints.heeded", extra={"provider": name})

    return BreakerHints(
        hints_client(config.storage.limits.reveal()),
        prefix=f"radgateway:{config.environment}:breaker:",
        on_change=changed,
        on_heeded=heeded,
    )


def model_table(config: GatewayConfig) -> ModelTable:
    """What callers may ask for."""
    return ModelTable(
        {
            name: Route(
                tuple(
                    Candidate(
                        c.provider,
                        c.model,
                        c.weight,
                        (c.price.input, c.price.output) if c.price is not None else None,
                    )
                    for c in model.candidates
                ),
                model.strategy,
                model.aliases,
            )
            for name, model in config.models.items()
        }
    )


def config_view(config: GatewayConfig) -> dict[str, Any]:
    """The configuration as the management API shows it: the original's shape, and no secret."""
    return {
        "listenAddr": f"{config.server.host}:{config.server.port}",
        "retryBudget": config.retry_budget.max_attempts,
        "keysConfigured": len(config.keys),
        "models": {
            name: [
                {"Provider": c.provider, "Model": c.model, "Weight": c.weight}
                for c in model.candidates
            ]
            for name, model in config.models.items()
        },
        "environment": config.environment,
        "strategies": {name: model.strategy for name, model in config.models.items()},
        "retryBudgetRatio": config.retry_budget.ratio,
        "usageStorage": str(config.storage.usage),
        "limitsStorage": str(config.storage.limits),
    }


def provider_states(
    config: GatewayConfig, made: Mapping[str, Provider]
) -> Callable[[], list[dict[str, Any]]]:
    """What each provider is up to, for the management API."""

    def states() -> list[dict[str, Any]]:
        return [_state_of(name, config.providers[name], made[name].app) for name in made]

    return states


def _state_of(name: str, config: ProviderConfig, app: Any) -> dict[str, Any]:
    state: dict[str, Any] = {
        "name": name,
        "kind": config.kind,
        "baseUrl": config.base_url,
        "circuitState": None,
        "retryAfterS": None,
        "inFlight": None,
        "maxConcurrency": config.max_concurrency,
    }
    while app is not None:
        if isinstance(app, CircuitBreaker):
            state["circuitState"] = app.state
            state["retryAfterS"] = round(app.retry_after_s(), 3)
        elif isinstance(app, Bulkhead):
            state["inFlight"] = app.slots.in_use
        app = getattr(app, "app", None)
    return state
