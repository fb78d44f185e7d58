"""The metrics of one app, made from their declarations (`declared.py`).

Label values come from configured sets only, and anything else is counted as `other`, so no caller
and no provider can make series grow. A registry belongs to one app; nothing is registered globally.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from radgateway.exchange import Outcome
from radgateway.provider.circuit.standing import MODES, REASONS, STATES
from radgateway.provider.faults import FAULT_KINDS
from radgateway.surface import ROUTES
from radgateway.telemetry.declared import (
    AUTH_FAILURES,
    BUCKETS,
    CONNECTION_STATES,
    HEDGE_OUTCOMES,
    LIMITED,
    METRICS,
    RELOAD_OUTCOMES,
    SECRETS_OUTCOMES,
    SHED_REASONS,
    TOKEN_TYPES,
)
from radgateway.telemetry.memory_limit import memory_limit_bytes
from radgateway.telemetry.multiprocess import shared_directory

OTHER: Final = "other"
SERIES_LIMIT: Final = 2_000
"""Label combinations one metric holds at most; what comes after is counted as `other`."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_STATUSES = frozenset(
    {*(str(int(s)) for s in HTTPStatus), "499", "520", "521", "522", "523", "524", "529"}
)
_EXPECTED_STATUSES = ("200", "400", "401", "404", "429", "499", "500", "502", "503", "504")
_EXPECTED_OF_PROVIDERS = ("200", "429", "500", "502", "503", "504")
_PREPARED_LIMIT: Final = SERIES_LIMIT // 4
"""Combinations of one metric that are there from the start: room is left for those that come."""
OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSets:
    """The values labels may take; configuration's names."""

    routes: frozenset[str] = frozenset(ROUTES)
    """Path templates; the data plane's by default."""
    providers: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    """The candidates' own names for their models."""
    candidates: frozenset[tuple[str, str]] = frozenset()
    """Pairs of provider and model that requests will go to; their series begin at 0."""
    api_key_names: frozenset[str] | None = None
    """Names of keys that may show in metrics; None shows none (the strategy: "if privacy
    allows")."""

    def __or__(self, other: LabelSets) -> LabelSets:
        """What either has; whether keys show is as in the other."""
        names = other.api_key_names
        return LabelSets(
            routes=self.routes | other.routes,
            providers=self.providers | other.providers,
            models=self.models | other.models,
            candidates=self.candidates | other.candidates,
            api_key_names=None if names is None else names | (self.api_key_names or frozenset()),
        )


Guards = Mapping[str, frozenset[str]]
"""The values each label may take."""


class Family:
    """A labelled metric: resolves a combination of values once, and bounds how many there are."""

    __slots__ = ("_children", "_guards", "_metric", "_names")

    def __init__(self, metric: Any, names: tuple[str, ...], guards: Guards) -> None:
        self._metric = metric
        self._names = names
        self._children: dict[tuple[str, ...], Any] = {}
        self.guard(guards)

    def guard(self, guards: Guards) -> None:
        """Let these values in from now on. What was counted under others stays."""
        # Status and reason have none: `status_label` bounds the one, our code the other.
        self._guards = tuple(guards.get(name) for name in self._names)

    def forget(self, gone: Callable[[str, str], bool]) -> None:
        """Take away the series of which `gone(label, value)` is true for a value."""
        for values in list(self._children):
            if any(map(gone, self._names, values)):
                del self._children[values]
                self._metric.remove(*values)

    def __call__(self, *values: str) -> Any:
        """The child for some label values, each replaced by `other` where it is not known."""
        # A cached child costs 0.5 microseconds, `labels()` 2.4.
        child = self._children.get(values)
        return child if child is not None else self._resolve(values)

    def _resolve(self, values: tuple[str, ...]) -> Any:
        known = tuple(
            value if guard is None or value in guard else OTHER
            for value, guard in zip(values, self._guards, strict=True)
        )
        child = self._children.get(known)
        if child is None:
            if len(self._children) >= SERIES_LIMIT:
                known = (OTHER,) * len(known)
            # Kept under the guarded values alone: the others are without number.
            child = self._children[known] = self._metric.labels(*known)
        return child


@dataclass(slots=True)
class _Made:
    families: dict[str, Family] = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)


class Instruments:
    """The metrics of one app, in a registry of its own unless one is given.

    Where several worker processes share PROMETHEUS_MULTIPROC_DIR, make one of these per process.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        labels: LabelSets | None = None,
        version: str = "",
        environment: str = "",
    ) -> None:
        self.registry = registry = registry or _own_registry()
        self.labels = labels or LabelSets()
        made = _declare(registry, self.labels)
        family, plain = made.families, made.plain
        self._made = made
        self.requests = family["requests_total"]
        self.request_duration = family["request_duration_seconds"]
        self.provider_requests = family["provider_requests_total"]
        self.provider_latency = family["provider_latency_seconds"]
        self.failovers = family["failover_attempts_total"]
        self.retry_budget_exhausted: Counter = plain["retry_budget_exhausted_total"]
        self.retries = family["retries_total"]
        self.hedges = family["hedges_total"]
        self.retry_budget_balance: Gauge = plain["retry_budget_balance"]
        self.tokens = family["tokens_consumed_total"]
        self.active_connections: Gauge = plain["active_connections"]
        self.queue_depth: Gauge = plain["queue_depth"]
        self.time_to_first_token = family["time_to_first_token_seconds"]
        self.overhead = family["overhead_seconds"]
        self.breaker_open = family["circuit_breaker_open"]
        self.breaker_state = family["circuit_breaker_state"]
        self.breaker_mode = family["circuit_breaker_mode"]
        self.breaker_held = family["circuit_breaker_held"]
        self.breaker_refused = family["circuit_breaker_refused_total"]
        self.breaker_would_refuse = family["circuit_breaker_would_refuse_total"]
        self.provider_healthy = family["provider_healthy"]
        self.dependency_available = family["dependency_available"]
        self.degraded_mode = family["degraded_mode"]
        self.faults_injected = family["faults_injected_total"]
        self.faults_armed = family["faults_armed"]
        self.rate_limited = family["rate_limited_total"]
        self.load_shed = family["load_shed_total"]
        self.concurrency_limit = family["concurrency_limit"]
        self.limits_storage_available: Gauge = plain["limits_storage_available"]
        self.limit_settlements_lost: Counter = plain["limit_settlements_lost_total"]
        self.auth_failures = family["auth_failures_total"]
        self.cost_usd = family["cost_usd_total"]
        self.responses_interrupted = family["responses_interrupted_total"]
        self.key_requests = family["key_requests_total"]
        self.provider_tokens = family["provider_tokens_total"]
        self.memory_limit: Gauge = plain["memory_limit_bytes"]
        self.event_loop_lag: Gauge = plain["event_loop_lag_seconds"]
        self.asyncio_tasks: Gauge = plain["asyncio_tasks"]
        self.usage_records_lost: Counter = plain["usage_records_lost_total"]
        self.db_connections = family["db_connections"]
        self.db_connections_max: Gauge = plain["db_connections_max"]
        self.secrets_age, self.secrets_refreshes = (
            plain["secrets_age_seconds"],
            family["secrets_refreshes_total"],
        )
        self.log_lines_dropped: Counter = plain["log_lines_dropped_total"]
        self._start_at_zero()
        family["build_info"](version, environment).set(1)

    def reloaded(self, outcome: str, at: float | None = None) -> None:
        """Count a reload; `at` (Unix seconds) is when what was read was or came in force."""
        self._made.families["config_reloads_total"](outcome).inc()
        if at is not None:
            self.config_in_force(at)
        else:
            self._made.plain["config_last_reload_successful"].set(0)

    def config_in_force(self, at: float) -> None:
        """Show that what was read is in force since `at`, in Unix seconds."""
        self._made.plain["config_last_reload_successful"].set(1)
        self._made.plain["config_last_reload_success_timestamp_seconds"].set(at)

    def widen(self, labels: LabelSets) -> None:
        """Let in what `labels` has besides, its series beginning at 0."""
        before, self.labels = self.labels, self.labels | labels
        self._guard()
        self._start_providers_at_zero(
            labels.providers - before.providers, labels.candidates - before.candidates
        )
        self._start_keys_at_zero((labels.api_key_names or frozenset()) - _names(before))

    def narrow(self, labels: LabelSets) -> None:
        """Let in what `labels` has and no more, and take away the series of what is gone.

        Where worker processes share files the client library can't remove a series. There the
        gauges of providers that are gone are set to what nobody is alarmed by.
        """
        before, self.labels = self.labels, labels
        self._guard()
        providers = before.providers - labels.providers
        gone = {
            "provider": providers,
            "source_provider": providers,
            "target_provider": providers,
            "dependency": frozenset(f"provider:{name}" for name in providers),
            "model": before.models - labels.models,
            "api_key_name": _names(before) - _names(labels),
        }
        if shared_directory() is not None:
            self._calm(providers)
            return
        for family in self._made.families.values():
            family.forget(lambda label, value: value in gone.get(label, ()))

    def _guard(self) -> None:
        guards = _guards(self.labels)
        for family in self._made.families.values():
            family.guard(guards)

    def _calm(self, providers: Iterable[str]) -> None:
        for provider in providers:
            self.breaker_changed(provider, "closed")
            self.provider_healthy(provider).set(1)
            self.faults_armed(provider).set(0)

    def breaker_changed(
        self, provider: str, state: str, *, mode: str = "auto", held: bool = False
    ) -> None:
        """Show a breaker's state: closed, open or half_open (a dash will do for the underscore).

        One that keeps nobody away for its `mode` is not shown as open, whatever its state.
        """
        state = state.replace("-", "_")
        for each in STATES:
            self.breaker_state(provider, each).set(1 if each == state else 0)
        for other in MODES:
            self.breaker_mode(provider, other).set(1 if other == mode else 0)
        keeps_away = state == "open" and mode in ("auto", "isolated")
        self.breaker_open(provider).set(1 if keeps_away else 0)
        self.breaker_held(provider).set(1 if held else 0)

    def fault_injected(self, provider: str, fault: str) -> None:
        """Count a request that was spoiled on purpose."""
        self.faults_injected(provider, fault).inc()

    def read_memory_limit(self) -> None:
        """Show the limit as it is now: a container's may change while it runs."""
        self.memory_limit.set(memory_limit_bytes())

    def _start_at_zero(self) -> None:
        # `increase()` does not see the first event of a series that begins with it.
        for route in self.labels.routes:
            method = "GET" if route in _READ_ROUTES or "/v0/" in route else "POST"
            for status in _EXPECTED_STATUSES:
                self.requests(route, method, status)
            self.responses_interrupted(route)
        self._start_providers_at_zero(self.labels.providers, self.labels.candidates)
        self._start_keys_at_zero(_names(self.labels))
        for reason in SHED_REASONS:
            self.load_shed(reason)
        for reason in AUTH_FAILURES:
            self.auth_failures(reason)
        for outcome in HEDGE_OUTCOMES:
            self.hedges(outcome)
        for outcome in SECRETS_OUTCOMES:
            self.secrets_refreshes(outcome)
        for kind in LIMITED:
            self.rate_limited(kind)
        for state in CONNECTION_STATES:
            self.db_connections(state)
        for outcome in RELOAD_OUTCOMES:
            self._made.families["config_reloads_total"](outcome)
        self.limits_storage_available.set(1)
        self.read_memory_limit()

    def _start_keys_at_zero(self, names: Iterable[str]) -> None:
        for name in sorted(names)[: _PREPARED_LIMIT // len(OUTCOMES)]:
            for outcome in OUTCOMES:
                self.key_requests(name, outcome)

    def _start_providers_at_zero(
        self, providers: Iterable[str], candidates: Iterable[tuple[str, str]]
    ) -> None:
        for provider in providers:
            self.provider_latency(provider)
            self.breaker_changed(provider, "closed")
            self.provider_healthy(provider).set(1)
            self.faults_armed(provider)
            self.breaker_would_refuse(provider)
            for refusal in REASONS:
                self.breaker_refused(provider, refusal)
        most = _PREPARED_LIMIT // len(_EXPECTED_OF_PROVIDERS)
        for provider, model in sorted(candidates)[:most]:
            for status in _EXPECTED_OF_PROVIDERS:
                self.provider_requests(provider, model, status)
            for kind in TOKEN_TYPES:
                self.provider_tokens(provider, model, kind)
            self.cost_usd(provider, model)


def _own_registry() -> CollectorRegistry:
    """One with the process's own metrics."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


_READ_ROUTES = frozenset({"/v1/models", "/health", "/health/ready", "/metrics"})


def status_label(status: int) -> str:
    """A status as a label; an unheard-of one as its class, `5xx`, which matches `5..` too."""
    label = str(status)
    return label if label in _STATUSES else f"{label[:1]}xx"


def _names(labels: LabelSets) -> frozenset[str]:
    return labels.api_key_names or frozenset()


def _guards(labels: LabelSets) -> Guards:
    return {
        "route": labels.routes,
        "method": _METHODS,
        "provider": labels.providers,
        "source_provider": labels.providers,
        "target_provider": labels.providers,
        "model": labels.models,
        "api_key_name": (labels.api_key_names or frozenset()) | {""},
        "fault": frozenset({"latency", *FAULT_KINDS}),
        "outcome": frozenset((*HEDGE_OUTCOMES, *OUTCOMES, *RELOAD_OUTCOMES, *SECRETS_OUTCOMES)),
        "type": frozenset(TOKEN_TYPES),
        "state": frozenset({*STATES, *CONNECTION_STATES}),
    }


def _declare(registry: CollectorRegistry, labels: LabelSets) -> _Made:
    guards = _guards(labels)
    made = _Made()
    for key, (name, kind, names, text, across) in METRICS.items():
        metric: Counter | Gauge | Histogram
        if kind == "counter":
            metric = Counter(name, text, names, registry=registry)
        elif kind == "gauge":
            metric = Gauge(name, text, names, registry=registry, multiprocess_mode=across)
        else:
            metric = Histogram(name, text, names, registry=registry, buckets=BUCKETS)
        if names:
            made.families[key] = Family(metric, names, guards)
        else:
            made.plain[key] = metric
    return made
