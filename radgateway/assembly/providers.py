"""The models that providers serve, and what stands between the providers: from a configuration."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, TypeVar

from radgateway.assembly.prices import CONFIGURED, price_of
from radgateway.config.schema import GatewayConfig
from radgateway.operations.fault_switch import FaultSwitch
from radgateway.provider.breaker import CircuitBreaker
from radgateway.provider.circuit.ejection import EjectionGroup
from radgateway.provider.circuit.hints import BreakerHints, hints_client
from radgateway.provider.circuit.policy import BreakerPolicy
from radgateway.provider.faults import FaultInjector
from radgateway.routing.models import Candidate, ModelTable, Provider, Route
from radgateway.telemetry.instruments import Instruments
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


def join_ejection_groups(config: GatewayConfig, policies: Mapping[str, BreakerPolicy]) -> None:
    """Let the breakers of each model's providers ask each other before they open, and no others."""
    for policy in policies.values():
        policy.leave_groups()
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
