"""From a configuration to components: each function makes one part of the reference app."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from limits.aio.storage import Storage

from radgateway import __version__
from radgateway.asgi import ASGIApp, Layer
from radgateway.composition import compose
from radgateway.config.schema import GatewayConfig, ProviderConfig
from radgateway.exchange import Principal
from radgateway.inbound.auth import ApiKeys
from radgateway.inbound.bearer_tokens import NAME_PREFIX
from radgateway.inbound.drain import Drain, DrainLimits
from radgateway.inbound.limit_plan import LimitBook, Price
from radgateway.inbound.limit_set import LimitSet
from radgateway.inbound.limit_storage import storage_of
from radgateway.inbound.load_shed import LoadShed
from radgateway.inbound.rate_limit import RateLimiter
from radgateway.operations.degraded import Check, Mode
from radgateway.operations.fault_switch import FaultSwitch
from radgateway.operations.providers import ProviderStatus
from radgateway.provider.adaptive_limit import AdaptiveLimit
from radgateway.provider.breaker import BreakerPolicy, CircuitBreaker
from radgateway.provider.bulkhead import Bulkhead
from radgateway.provider.deadline import Deadline
from radgateway.provider.faults import FaultInjector
from radgateway.provider.health import HealthBook, ProviderHealth
from radgateway.provider.http import HTTPProvider
from radgateway.provider.mock import MockConfig, MockProvider
from radgateway.provider.probe import (
    MODELS,
    Ask,
    ProbeConfig,
    Probes,
    by_connection,
    by_request,
)
from radgateway.provider.slots import Slots
from radgateway.provider.unreachable import UnreachableNotice
from radgateway.routing.models import Candidate, ModelTable, Provider, Route
from radgateway.surface import SPOKEN_BY
from radgateway.telemetry.instruments import Instruments, LabelSets
from radgateway.token_auth import TokenAuth
from radgateway.upstream import Upstream
from radgateway.upstream.connect import connect
from radgateway.upstream.interface import Timeouts
from radgateway.usage.ledger import Ledger, MemoryLedger, SQLiteLedger
from radgateway.usage.writer import UsageWriter

L = TypeVar("L")

_log = logging.getLogger("radgateway.app")


def caller_keys(config: GatewayConfig) -> ApiKeys:
    """The keys of the data plane; an admin's is none of them."""
    return ApiKeys(
        (Principal(key.name, priority=key.priority), key.secret.reveal()) for key in config.keys
    )


def admin_keys(config: GatewayConfig) -> ApiKeys:
    """The keys the management routes know. Callers' are among them, to be told apart: 403."""
    return ApiKeys(
        [(Principal(key.name), key.secret.reveal()) for key in config.keys]
        + [(Principal(key.name, admin=True), key.secret.reveal()) for key in config.admin_keys]
    )


def token_auth(config: GatewayConfig) -> TokenAuth | None:
    """Who judges tokens, where any are taken."""
    if config.jwt is None:
        return None
    fetches = config.jwt.jwks_url is not None
    return TokenAuth(config.jwt, upstream_client(config, config.jwt.ca_file) if fetches else None)


def limits_storage(config: GatewayConfig) -> Storage:
    """Where limits are counted; says so aloud where that can't be what is wanted."""
    storage, replicas = config.storage.limits, config.limits.replicas
    if storage.scheme == "memory" and replicas > 1:
        _log.warning("radgateway.rate_limit.memory_per_replica", extra={"replicas": replicas})
    return storage_of(storage.reveal())


_NO_LIMITS = LimitSet()


def limit_book(config: GatewayConfig, models: ModelTable) -> LimitBook:
    """All limits of a configuration, and the prices that money is reserved by."""
    limits, none = config.limits, (None, _NO_LIMITS)
    own = {key.name: key.limit_set for key in config.keys if key.limit_set != _NO_LIMITS}
    of_models = {
        name: model.limits for name, model in config.models.items() if model.limits not in none
    }

    of_tokens = limits.per_caller
    if config.jwt is not None and config.jwt.limits:
        of_tokens = LimitSet(requests=config.jwt.limits)

    def of_key(name: str) -> LimitSet | None:
        return of_tokens if name.startswith(NAME_PREFIX) else own.get(name, limits.per_caller)

    def of_model(asked: str) -> tuple[str, LimitSet] | None:
        entry = models.entry_of(asked)
        found = of_models.get(entry) if entry is not None else None
        return (entry, found) if entry is not None and found is not None else None

    def price_of(asked: str) -> Price | None:
        route = models.find(asked)
        prices = [c.price for c in route.candidates if c.price is not None] if route else []
        # Whoever will serve it; the dearest is reserved for.
        return max(prices) if prices else None

    return LimitBook(
        of_key=of_key,
        of_model=of_model if of_models else None,
        total=limits.total,
        price_of=price_of,
        shadow=limits.shadow,
    )


def rate_limiter(
    config: GatewayConfig,
    models: ModelTable,
    storage: Storage,
    state: LimitsState,
    instruments: Instruments,
) -> Callable[[ASGIApp], RateLimiter]:
    """The layer that keeps all limits."""
    settings = config.limits
    return partial(
        RateLimiter,
        limits=limit_book(config, models),
        storage=storage,
        storage_timeout_s=settings.storage_timeout_s,
        on_storage_failure=settings.on_storage_failure,
        on_storage_change=state.changed,
        on_lost=instruments.limit_settlements_lost.inc,
        replicas=settings.replicas,
        lease_s=settings.lease_s,
        max_body_bytes=config.server.max_body_bytes,
        body_timeout_s=config.server.body_timeout_s,
    )


_LIMITS_WITHOUT_STORE = {"open": "unchecked", "closed": "refused", "local": "local"}
"""The state of `degraded.MODES` that each policy for a lost store leads to."""


class LimitsState:
    """Whether the limits' storage answers: one log line a change, a gauge, a word for readiness."""

    def __init__(self, policy: str, instruments: Instruments) -> None:
        self.word = "ok"
        self._policy = policy
        self._gauge = instruments.limits_storage_available

    def changed(self, available: bool, reason: str) -> None:
        """Take note of the storage's going or coming back."""
        self.word = "ok" if available else _LIMITS_WITHOUT_STORE[self._policy]
        self._gauge.set(1 if available else 0)
        if available:
            _log.warning("radgateway.rate_limit.storage_recovered")
        else:
            _log.warning(
                "radgateway.rate_limit.storage_lost",
                extra={"reason": reason, "policy": self._policy},
            )


class CollectorState:
    """Whether the trace collector took the last batch of spans. Told from another thread."""

    def __init__(self, *, enabled: bool) -> None:
        self._state = "ok" if enabled else "off"

    def exported(self, taken: bool) -> None:
        """Take note of one batch."""
        self._state = "ok" if taken else "unavailable"

    def __call__(self) -> str:
        """`off`, `ok` or `unavailable`."""
        return self._state


def ledger(config: GatewayConfig) -> Ledger:
    """Where usage rows go."""
    usage = config.storage.usage
    return MemoryLedger() if usage.scheme == "memory" else SQLiteLedger(usage.path)


def trusting(ca_file: str | None) -> ssl.SSLContext | None:
    """TLS settings that trust the authorities of one file; None for the system's."""
    return ssl.create_default_context(cafile=ca_file) if ca_file is not None else None


def load_shed(config: GatewayConfig) -> LoadShed | None:
    """What turns work away while the event loop is late; it says so once a change."""
    if config.admission is None or config.admission.max_lag_s is None:
        return None

    def changed(level: int) -> None:
        _log.warning("radgateway.admission.shedding", extra={"level": level})

    return LoadShed(config.admission.max_lag_s, on_change=changed)


def upstream_client(config: GatewayConfig, ca_file: str | None) -> Upstream:
    """A client for providers that trust the system's authorities, or those of one file."""
    settings = config.upstream
    return connect(
        settings.client,
        max_connections=settings.max_connections,
        keepalive_expiry_s=settings.keepalive_expiry_s,
        ssl_context=trusting(ca_file),
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


def faults_may_be_armed(config: GatewayConfig) -> bool:
    """Whether there is somebody who may, and nothing against it."""
    return bool(config.admin_keys) and (config.environment != "production" or config.chaos.allow)


def fault_switch(
    config: GatewayConfig, made: Mapping[str, Provider], instruments: Instruments
) -> FaultSwitch | None:
    """What arms faults at run time; None where nobody may."""
    if not faults_may_be_armed(config):
        return None

    def healthy(name: str) -> bool:
        breaker = _layer(CircuitBreaker, made[name].app)
        return breaker is None or breaker.available()

    def armed(name: str, on: bool) -> None:
        instruments.faults_armed(name).set(int(on))

    injectors = {name: _layer(FaultInjector, each.app) for name, each in made.items()}
    return FaultSwitch(
        {name: injector for name, injector in injectors.items() if injector is not None},
        healthy=healthy,
        on_armed=armed,
    )


def _layer(kind: type[L], app: Any) -> L | None:
    """The layer of a kind in a composed app, or None."""
    while app is not None and not isinstance(app, kind):
        app = getattr(app, "app", None)
    return app


def provider(
    name: str,
    config: ProviderConfig,
    client: Upstream | None,
    instruments: Instruments,
    injector: Layer | None = None,
) -> Provider:
    """A provider behind what protects it from us and us from it.

    `injector` stands right before it, where faults are configured or may be armed.
    """
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
            on_unreachable=UnreachableNotice(partial(_say_unreachable, name)).failed,
        )
    layers: list[Layer] = []
    if config.breaker is not None:

        def changed(old: str, new: str) -> None:
            _log.warning("radgateway.breaker.%s", new, extra={"provider": name, "was": old})
            instruments.breaker_changed(name, new)

        policy = BreakerPolicy(config.breaker, on_change=changed, name=name)
        layers.append(partial(CircuitBreaker, policy=policy))
    if config.max_concurrency is not None:
        layers.append(partial(Bulkhead, max_concurrency=_places(name, config, instruments)))
    layers.append(partial(Deadline, timeouts=timeouts))
    if injector is not None:
        layers.append(injector)
    return Provider(compose(app, *layers), SPOKEN_BY[config.kind], config.include_usage)


def _say_unreachable(name: str, reason: str, unsaid: int) -> None:
    _log.warning(
        "radgateway.provider.unreachable",
        extra={"provider": name, "reason": reason, "unsaid_before": unsaid},
    )


def _places(name: str, config: ProviderConfig, instruments: Instruments) -> Slots | AdaptiveLimit:
    """The places at a provider: so many, or as many as it turns out to take."""
    assert config.max_concurrency is not None
    slots = Slots(config.max_concurrency)
    gauge = instruments.concurrency_limit(name)
    gauge.set(slots.limit)
    if config.adaptive is None:
        return slots

    def moved(limit: int) -> None:
        gauge.set(limit)
        _log.info("radgateway.bulkhead.limit", extra={"provider": name, "limit": limit})

    return AdaptiveLimit(slots, config.adaptive, on_change=moved)


def providers(
    config: GatewayConfig, instruments: Instruments
) -> tuple[dict[str, Provider], list[Upstream]]:
    """All providers, and the clients they share: one for each set of trusted authorities."""
    clients: dict[str | None, Upstream] = {}
    made: dict[str, Provider] = {}
    armable = faults_may_be_armed(config)
    for name, settings in config.providers.items():
        client: Upstream | None = None
        if settings.kind != "mock":
            if settings.ca_file not in clients:
                clients[settings.ca_file] = upstream_client(config, settings.ca_file)
            client = clients[settings.ca_file]
        injector: Layer | None = None
        if settings.faults is not None or armable:
            injector = partial(
                FaultInjector,
                faults=settings.faults,
                on_fault=partial(instruments.fault_injected, name),
            )
        made[name] = provider(name, settings, client, instruments, injector)
    return made, list(clients.values())


def health_book(config: GatewayConfig) -> HealthBook:
    """How each provider has been doing; nothing yet."""
    return HealthBook({name: ProviderHealth() for name in config.providers})


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
                model.hedge,
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


def drain(config: GatewayConfig) -> Drain:
    """The policy of the end, with a log line for each of its phases."""
    server = config.server

    def told(phase: str, in_flight: int) -> None:
        _log.warning("radgateway.drain.%s", phase, extra={"in_flight": in_flight})

    limits = DrainLimits(
        timeout_s=server.drain_timeout_s,
        stream_timeout_s=server.stream_drain_timeout_s,
        delay_s=server.drain_delay_s,
    )
    return Drain(limits, told)


def probes(config: GatewayConfig, made: Mapping[str, Provider]) -> Probes:
    """The probes of those providers that are to be asked."""
    asks: dict[str, tuple[ProbeConfig, Ask]] = {}
    for name, settings in config.providers.items():
        if settings.probe is None or settings.kind == "mock" or settings.base_url is None:
            continue
        path = settings.probe.path
        app = made[name].app
        while not isinstance(app, HTTPProvider):
            app = app.app  # type: ignore[attr-defined]  # the layers `provider` has put there
        if path is None:
            ask = by_request(app, MODELS[settings.kind])
        elif path:
            ask = by_request(app.at_origin(), path)
        else:
            ask = by_connection(settings.base_url, trusting(settings.ca_file))
        asks[name] = (settings.probe, ask)
    return Probes(asks)


def provider_statuses(
    config: GatewayConfig, made: Mapping[str, Provider], book: HealthBook, results: Probes
) -> list[ProviderStatus]:
    """What is known of each provider."""
    return [
        ProviderStatus(
            name,
            made[name].app,
            book.providers[name],
            results.results,
            kind=settings.kind,
            base_url=settings.base_url,
        )
        for name, settings in config.providers.items()
    ]


def checks(
    limits: LimitsState,
    usage: UsageWriter,
    collector: CollectorState,
    providers: Sequence[ProviderStatus],
    tokens: TokenAuth | None,
) -> dict[str, Check]:
    """Everything the gateway depends on, and who knows how it is."""
    known: dict[str, Check] = {
        "limits": lambda: limits.word,
        "usage": lambda: "ok" if usage.available else "unavailable",
        # They were read at the start, or there would have been none.
        "secrets": lambda: "ok",
        "traces": collector,
    }
    if tokens is not None:
        known["tokens"] = tokens.state
    for provider in providers:
        known[f"provider:{provider.name}"] = partial(getattr, provider, "state")
    return known


def modes_shown(instruments: Instruments) -> Callable[[str, Mode | None, Mode], None]:
    """Keeps the gauges of the modes in force."""

    def changed(dependency: str, before: Mode | None, mode: Mode) -> None:
        available = 1 if mode.available else 0
        instruments.dependency_available(dependency).set(available)
        if before is not None and before.behaviour:
            instruments.degraded_mode(dependency, before.state).set(0)
        if mode.behaviour:
            instruments.degraded_mode(dependency, mode.state).set(1)
        kind, _, name = dependency.partition(":")
        if kind == "provider":
            instruments.provider_healthy(name).set(available)

    return changed


def _state_of(name: str, config: ProviderConfig, app: Any) -> dict[str, Any]:
    state: dict[str, Any] = {
        "name": name,
        "kind": config.kind,
        "baseUrl": config.base_url,
        "circuitState": None,
        "retryAfterS": None,
        "inFlight": None,
        "maxConcurrency": config.max_concurrency,
        "concurrencyLimit": None,
    }
    while app is not None:
        if isinstance(app, CircuitBreaker):
            state["circuitState"] = app.state
            state["retryAfterS"] = round(app.retry_after_s(), 3)
        elif isinstance(app, Bulkhead):
            state["inFlight"] = app.slots.in_use
            state["concurrencyLimit"] = app.slots.limit
        app = getattr(app, "app", None)
    return state
