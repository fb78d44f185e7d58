"""Everything one gateway is made of: built once from its configuration, closed in order."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from radgateway.asgi import ASGIApp
from radgateway.assembly import access, limits, prices, providers, standing, usage
from radgateway.config.schema import GatewayConfig
from radgateway.inbound.drain import Drain, DrainLimits
from radgateway.inbound.limit_ledger import Standing
from radgateway.inbound.limit_storage import close_storage
from radgateway.inbound.load_shed import LoadShed
from radgateway.inbound.rate_limit import RateLimiter
from radgateway.operations.degraded import DependencyWatch
from radgateway.provider.health import HealthBook, ProviderHealth
from radgateway.routing.retry_budget import TokenBudget
from radgateway.telemetry.genai_names import (
    OPT_IN,
    OPT_IN_VARIABLE,
    names_asked_for,
    near_misses,
)
from radgateway.telemetry.instruments import Instruments, LabelSets
from radgateway.telemetry.loop_lag import LoopLagMonitor
from radgateway.telemetry.trace_export import build_tracer_provider, close_tracer_provider

_log = logging.getLogger("radgateway.app")


class Parts:
    """The parts of one gateway. Nothing runs before `starters` are called."""

    def __init__(self, config: GatewayConfig, instruments: Instruments) -> None:
        self.config = config
        self.instruments = instruments
        self.drain = _drain(config)
        self.prices = prices.price_book(config)
        self.models = providers.model_table(config, self.prices)
        self.hints = providers.breaker_hints(config)
        self.providers, self.clients = providers.providers(config, instruments, self.hints)
        self.faults = providers.fault_switch(config, self.providers, instruments)
        self.usage = usage.usage_writer(config, instruments)
        self.health = HealthBook({name: ProviderHealth() for name in config.providers})
        self.tokens = access.token_auth(config)
        self.retry_budget = TokenBudget(config.retry_budget)
        self.shed = _load_shed(config)
        self.limits = limits.limits_storage(config)
        self.limits_state = limits.LimitsState(config.limits.on_storage_failure, instruments)
        self._limiter: RateLimiter | None = None
        self.budgets = limits.budget_seed(config, self.usage, lambda: self._limiter)
        self._trace()
        self._watch()

    def _trace(self) -> None:
        tracing = self.config.telemetry.tracing
        self.collector = standing.CollectorState(enabled=tracing.enabled)
        self.tracer_provider = None
        # OpenTelemetry's own variable, which its SDKs read too: it is no setting of ours.
        opt_in = os.environ.get(OPT_IN_VARIABLE, "")
        self.genai_names = names_asked_for(opt_in)
        if tracing.enabled:
            for word in near_misses(opt_in):
                _log.warning(
                    "radgateway.tracing.opt_in_unknown", extra={"word": word, "known": OPT_IN}
                )
            self.tracer_provider = build_tracer_provider(
                tracing.exporter,
                tracing.otlp_endpoint,
                version=standing.running_version(self.config),
                environment=self.config.environment,
                on_export=self.collector.exported,
            )

    def _watch(self) -> None:
        config, instruments, budget = self.config, self.instruments, self.retry_budget
        self.probes = standing.probes(config, self.providers)
        self.statuses = standing.provider_statuses(config, self.providers, self.health, self.probes)
        checks = standing.checks(self)
        self.dependencies = DependencyWatch(checks, standing.modes_shown(instruments))
        sampled: list[Callable[[float], object]] = [
            lambda lag_s: instruments.retry_budget_balance.set(budget.balance),
            usage.connections_shown(self.usage, instruments),
        ]
        if self.shed is not None:
            sampled.append(self.shed.observe)
        self.lag = LoopLagMonitor(instruments, on_sample=sampled)

    def rate_limiter(self, app: ASGIApp) -> RateLimiter:
        """The layer that keeps all limits."""
        made = limits.rate_limiter(
            self.config, self.models, self.limits, self.limits_state, self.instruments
        )
        self._limiter = made(app)
        return self._limiter

    async def standings(self, name: str) -> Sequence[Standing] | None:
        """Where a caller stands against its limits; None where that can't be known now."""
        return await self._limiter.standings(name) if self._limiter is not None else None

    @property
    def starters(self) -> list[Callable[[], object]]:
        """What has to be started, in the event loop that serves."""
        runs = (
            self.lag,
            self.dependencies,
            self.probes,
            self.hints,
            self.usage,
            self.budgets,
            self.tokens,
        )
        return [each.start for each in runs if each is not None]

    @property
    def closers(self) -> list[Callable[[], Awaitable[object]]]:
        """What has to be closed, in this order: what reports before what it reports to."""
        runs = (
            self.lag,
            self.dependencies,
            self.probes,
            self.hints,
            self.budgets,
            self.usage,
            self._limiter,
            self.faults,
            self.tokens,
            *self.clients,
        )
        closers: list[Callable[[], Awaitable[object]]] = [
            each.aclose for each in runs if each is not None
        ]
        # The limiter settles what it holds before its storage goes.
        closers.append(partial(close_storage, self.limits))
        if self.tracer_provider is not None:
            closers.append(partial(close_tracer_provider, self.tracer_provider))
        return closers


def make_instruments(config: GatewayConfig) -> Instruments:
    """The metrics, with the configured names as the only values that labels may take."""
    models = {c.model for model in config.models.values() for c in model.candidates}
    names = {name for model in config.models for name in (model, *config.models[model].aliases)}
    known = frozenset(name for name in models | names if "*" not in name)
    labels = LabelSets(
        providers=frozenset(config.providers),
        models=known,
        candidates=_pairs(config),
        api_key_names=(
            frozenset(key.name for key in config.keys)
            if config.telemetry.key_names_in_metrics
            else None
        ),
    )
    version = standing.running_version(config)
    return Instruments(labels=labels, version=version, environment=config.environment)


def _pairs(config: GatewayConfig) -> frozenset[tuple[str, str]]:
    """The providers with their models, as far as the configuration names them."""
    pairs = {
        (candidate.provider, name if candidate.model == "*" else candidate.model)
        for name, model in config.models.items()
        for candidate in model.candidates
    }
    return frozenset(pair for pair in pairs if "*" not in pair[1])


def _load_shed(config: GatewayConfig) -> LoadShed | None:
    """What turns work away while the event loop is late; it says so once a change."""
    if config.admission is None or config.admission.max_lag_s is None:
        return None

    def changed(level: int) -> None:
        _log.warning("radgateway.admission.shedding", extra={"shed_level": level})

    return LoadShed(config.admission.max_lag_s, on_change=changed)


def _drain(config: GatewayConfig) -> Drain:
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
