"""Recording rules: rates and ratios that alerts, dashboards and people read.

A ratio is always one of sums, so a quiet night weighs what it is worth. Windows of two hours and
more are means of the rates of five minutes, which are cheap; both sides of a ratio are recorded
at the same instants, so the quotient of their means is the quotient of their sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from radgateway.slo import requests
from radgateway.slo.objectives import BUDGET_DAYS, BURN_PAIRS
from radgateway.slo.promql import edge, number, seconds
from radgateway.slo.settings import Settings
from radgateway.slo.yaml_text import Value

SHORT_WINDOWS: Final = ("2m", "5m", "30m", "1h")
"""Windows whose rates are those of the counters themselves."""
BUDGET_SHORT: Final = "14h"
"""A twelfth of the budget alerts' seven days: it says that the burning goes on."""
_REPORTED_DAYS: Final = 30
"""Of reports, whatever the objectives' windows are."""
_LONG: Final = {
    *(window for pair in BURN_PAIRS for window in (pair.long, pair.short)),
    f"{BUDGET_DAYS}d",
    BUDGET_SHORT,
    f"{_REPORTED_DAYS}d",
}
PROVIDER_BAD: Final = "5..|401|403|408|429"
"""Statuses of an attempt that send a request elsewhere, as the router sees them."""
_QUANTILES: Final = ("0.5", "0.95", "0.99")
_TIMED: Final = ("overhead", "time_to_first_token", "request_duration")


class Record(NamedTuple):
    """One recording rule."""

    name: str
    expr: str
    labels: Mapping[str, str] = MappingProxyType({})


class Group(NamedTuple):
    """Rules that are evaluated one after another, at an interval."""

    name: str
    interval: str
    records: tuple[Record, ...]

    def as_yaml(self) -> Value:
        """As a group of a rule file."""
        rules: list[Value] = []
        for record in self.records:
            rule: dict[str, Value] = {"record": record.name, "expr": record.expr}
            if record.labels:
                rule["labels"] = dict(record.labels)
            rules.append(rule)
        return {"name": self.name, "interval": self.interval, "rules": rules}


def groups(settings: Settings) -> tuple[Group, ...]:
    """All recording rules, in the order in which they need each other."""
    return (
        Group("radgateway-requests", "30s", tuple(_requests())),
        Group("radgateway-latency", "30s", tuple(_latency(settings))),
        Group("radgateway-providers", "30s", tuple(_providers())),
        # An instant query finds samples of five minutes back: none of these may be older.
        Group("radgateway-requests-long", "2m", tuple(_requests_long(settings))),
        Group("radgateway-objectives", "2m", tuple(_objectives(settings))),
    )


def long_windows(settings: Settings) -> list[str]:
    """The windows made of rates of five minutes, shortest first."""
    asked = (settings.objectives.availability, settings.objectives.error_rate)
    windows = {*_LONG, *(f"{objective.window_days}d" for objective in asked)}
    return sorted(windows.difference(SHORT_WINDOWS), key=seconds)


def longest_days(settings: Settings) -> int:
    """How many days back the rules look; Prometheus has to keep more."""
    return max(_REPORTED_DAYS, *(objective.window_days for _, objective in settings.objectives))


def _requests() -> Iterator[Record]:
    for window in SHORT_WINDOWS:
        valid = f"rad_gateway:requests:rate{window}"
        # Without the zeros a service that never failed would have no ratio at all.
        yield Record(valid, f"sum by (job) (rate({requests.valid(window)}))")
        yield Record(
            f"rad_gateway:requests_bad:rate{window}",
            f"(sum by (job) (rate({requests.failed(window)})) or 0 * {valid})\n"
            f"+ (sum by (job) (rate({requests.broken(window)})) or 0 * {valid})",
        )
        yield _ratio("requests_bad", "requests", "error_ratio", window)


def _requests_long(settings: Settings) -> Iterator[Record]:
    for window in long_windows(settings):
        for name in ("requests", "requests_bad"):
            mean = f"avg_over_time(rad_gateway:{name}:rate5m[{window}])"
            yield Record(f"rad_gateway:{name}:rate{window}", mean)
        yield _ratio("requests_bad", "requests", "error_ratio", window)
    seen = f'avg by (job) (avg_over_time(up{{job="{settings.job}"}}[{_REPORTED_DAYS}d]))'
    yield Record(f"rad_gateway:up:avg{_REPORTED_DAYS}d", seen)


def _ratio(part: str, whole: str, name: str, window: str) -> Record:
    quotient = f"rad_gateway:{part}:rate{window} / rad_gateway:{whole}:rate{window}"
    return Record(f"rad_gateway:{name}:rate{window}", quotient)


def _latency(settings: Settings) -> Iterator[Record]:
    for timed in _TIMED:
        rate = f"sum by (job, le) (rate(rad_gateway_{timed}_seconds_bucket[5m]))"
        for quantile in _QUANTILES:
            name = f"rad_gateway:{timed}_seconds:p{quantile[2:].ljust(2, '0')}_rate5m"
            yield Record(name, f"histogram_quantile({quantile}, {rate})")
    for name, objective, indicator in settings.objectives.latencies():
        slo = {"slo": name}
        bucket = f'{indicator.metric}_bucket{{le="{edge(objective.limit_s)}"}}[5m]'
        valid = "rad_gateway:objective_valid:rate5m"
        yield Record(valid, f"sum by (job) (rate({indicator.metric}_count[5m]))", slo)
        yield Record(
            "rad_gateway:objective_bad:rate5m",
            f'clamp_min({valid}{{slo="{name}"}} - on (job) sum by (job) (rate({bucket})), 0)',
            slo,
        )


def _providers() -> Iterator[Record]:
    attempts = "rad_gateway_provider_requests_total"
    valid = "rad_gateway:provider_requests:rate5m"
    failed = f'{attempts}{{status=~"{PROVIDER_BAD}"}}[5m]'
    by = "sum by (job, provider)"
    yield Record(valid, f"{by} (rate({attempts}[5m]))")
    yield Record(
        "rad_gateway:provider_requests_bad:rate5m", f"{by} (rate({failed})) or 0 * {valid}"
    )
    yield _ratio("provider_requests_bad", "provider_requests", "provider_error_ratio", "5m")


def _objectives(settings: Settings) -> Iterator[Record]:
    for name, objective in settings.objectives:
        window = f"{objective.window_days}d"
        if objective.below_s is None:
            ratio = f"rad_gateway:error_ratio:rate{window}"
        else:
            bad, valid = (
                f'avg_over_time(rad_gateway:objective_{kind}:rate5m{{slo="{name}"}}[{window}])'
                for kind in ("bad", "valid")
            )
            ratio = f"{bad}\n/ {valid}"
        spent = f'rad_gateway:objective_bad:ratio{{slo="{name}"}} / {number(objective.budget)}'
        yield Record("rad_gateway:objective_bad:ratio", ratio, {"slo": name})
        yield Record("rad_gateway:objective_budget_left:ratio", f"1 - {spent}", {"slo": name})
