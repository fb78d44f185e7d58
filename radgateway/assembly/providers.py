"""Providers behind what protects them and us, and the models they serve, from a configuration."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

from radgateway.asgi import ASGIApp, Layer
from radgateway.assembly.prices import CONFIGURED, price_of
from radgateway.composition import compose
from radgateway.config.providers import ProviderConfig
from radgateway.config.schema import GatewayConfig
from radgateway.operations.fault_switch import FaultSwitch
from radgateway.provider.adaptive_limit import AdaptiveLimit
from radgateway.provider.breaker import CircuitBreaker
from radgateway.provider.bulkhead import Bulkhead
from radgateway.provider.circuit.ejection import EjectionGroup
from radgateway.provider.circuit.hints import BreakerHints, hints_client
from radgateway.provider.circuit.policy import BreakerPolicy
from radgateway.provider.deadline import Deadline
from radgateway.provider.faults import FaultInjector
from radgateway.provider.http import HTTPProvider
from radgateway.provider.mock import MockConfig, MockProvider
from radgateway.provider.slots import Slots
from radgateway.provider.unreachable import UnreachableNotice
from radgateway.routing.models import Candidate, ModelTable, Provider, Route
from radgateway.surface import SPOKEN_BY
from radgateway.telemetry.breaker_report import BreakerReport
from radgateway.telemetry.instruments import Instruments
from radgateway.upstream import Upstream
from radgateway.upstream.connect import connect, trusting
from radgateway.upstream.interface import Timeouts
from radgateway.usage.price_book import PriceBook

L = TypeVar("L")

_log = logging.getLogger("radgateway.app")


def model_table(config: GatewayConfig, book: PriceBook | None = None) -> ModelTable:
    """What callers may ask for; without a `book`, at the prices of the configuration alone."""
    return ModelTable(
        {
            name: Route(
                tuple(
                    Candidate(
                        c.provider,
                        c.model,
                        c.weight,
                        c.price.price(CONFIGURED) if c.price is not None else None,
                    )
                    for c in model.candidates
                ),
                model.strategy,
                model.aliases,
                model.hedge,
            )
            for name, model in config.models.items()
        },
        price_of(config, book) if book is not None else None,
    )


def providers(
    config: GatewayConfig, instruments: Instruments, hints: BreakerHints | None = None
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
        made[name] = provider(name, settings, client, instruments, injector=injector, hints=hints)
    join_ejection_groups(config, breakers(made))
    return made, list(clients.values())


def provider(
    name: str,
    config: ProviderConfig,
    client: Upstream | None,
    instruments: Instruments,
    *,
    injector: Layer | None = None,
    hints: BreakerHints | None = None,
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
        on_trip = hints.publish if hints is not None else None
        policy = BreakerReport(name, config.breaker, instruments, on_trip).policy
        if hints is not None:
            hints.watch(name, policy)
        layers.append(partial(CircuitBreaker, policy=policy))
    if config.max_concurrency is not None:
        layers.append(partial(Bulkhead, max_concurrency=_places(name, config, instruments)))
    layers.append(partial(Deadline, timeouts=timeouts))
    if injector is not None:
        layers.append(injector)
    return Provider(compose(app, *layers), SPOKEN_BY[config.kind], config.include_usage)


def upstream_client(config: GatewayConfig, ca_file: str | None) -> Upstream:
    """A client for providers that trust the system's authorities, or those of one file."""
    settings = config.upstream
    return connect(
        settings.client,
        max_connections=settings.max_connections,
        keepalive_expiry_s=settings.keepalive_expiry_s,
        ssl_context=trusting(ca_file),
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


def _say_unreachable(name: str, reason: str, unsaid: int) -> None:
    _log.warning(
        "radgateway.provider.unreachable",
        extra={"provider": name, "reason": reason, "unsaid_before": unsaid},
    )


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
