"""How everything is: what is shown of providers, dependencies and the configuration itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radgateway.assembly.parts import Parts

from radgateway.config.schema import GatewayConfig
from radgateway.operations.degraded import Check, Mode
from radgateway.operations.providers import ProviderStatus
from radgateway.provider.health import HealthBook
from radgateway.provider.http import HTTPProvider
from radgateway.provider.probe import (
    MODELS,
    Ask,
    ProbeConfig,
    Probes,
    by_connection,
    by_request,
)
from radgateway.reload.reloader import Loaded
from radgateway.routing.models import Provider
from radgateway.telemetry.genai_names import GenAIProvider, provider_of
from radgateway.telemetry.instruments import Instruments
from radgateway.upstream.connect import trusting
from radgateway.usage.price_book import PriceBook


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


def config_view(config: GatewayConfig, prices: PriceBook, loaded: Loaded) -> dict[str, Any]:
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
        "prices": {"source": prices.source, "version": prices.version or None},
        "usageStorage": str(config.storage.usage),
        "limitsStorage": str(config.storage.limits),
        "generation": loaded.generation,
        "loadedAt": datetime.fromtimestamp(loaded.at, UTC).isoformat().replace("+00:00", "Z"),
        "loadedBy": loaded.by,
    }


def genai_providers(config: GatewayConfig) -> dict[str, GenAIProvider]:
    """What the conventions for traces of generative AI call the providers."""
    return {
        name: provider_of(settings.kind, settings.base_url)
        for name, settings in config.providers.items()
    }


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


def checks(parts: Parts) -> dict[str, Check]:
    """Everything the gateway depends on, and who knows how it is."""
    lasting = parts.foundation
    usage, limits, hints = lasting.usage, lasting.limits_state, lasting.hints
    known: dict[str, Check] = {
        "limits": lambda: limits.word,
        "usage": lambda: "ok" if usage.available else "unavailable",
        "secrets": lambda: lasting.secrets.state,
        "traces": lasting.collector,
    }
    if usage.journal is not None:
        journal = usage.journal
        known["journal"] = lambda: "ok" if journal.available else "unavailable"
    if parts.tokens is not None:
        known["tokens"] = parts.tokens.state
    if hints is not None:
        known["breaker_hints"] = lambda: "ok" if hints.available else "unavailable"
    for provider in parts.statuses:
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
