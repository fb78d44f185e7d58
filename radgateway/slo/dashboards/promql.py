"""The expressions of the panels, made from the metrics' declarations so that no name can be wrong.

Every selector has the matchers of the dashboard's job and instance variables, every rate takes
`$__rate_interval` (four scrapes at least, whatever the zoom), and totals of the time shown take
`$__range`. What the recording rules made has no instance, so it is matched by its job alone.
An unknown metric or label raises `ValueError` while the dashboard is being built.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Final

from radgateway.slo.promql import edge
from radgateway.slo.rules import groups
from radgateway.slo.settings import Settings
from radgateway.telemetry.declared import BUCKETS, METRICS, Declared

RATE: Final = "$__rate_interval"
SHOWN: Final = "$__range"
"""The whole time that is shown."""
JOB: Final = 'job=~"$job"'
OF: Final = f'{JOB},instance=~"$instance"'
TARGET_LABELS: Final = frozenset({"job", "instance"})
"""What Prometheus puts on every series that it scrapes."""

FOREIGN: Final = {
    "up": TARGET_LABELS,
    "ALERTS": frozenset({"job", "alertname", "alertstate", "severity", "priority"}),
    "process_resident_memory_bytes": TARGET_LABELS,
    "process_cpu_seconds_total": TARGET_LABELS,
    "process_open_fds": TARGET_LABELS,
    "process_max_fds": TARGET_LABELS,
    "process_start_time_seconds": TARGET_LABELS,
}
"""Series of Prometheus and of its client library, with the labels that panels may ask for."""


def recorded(name: str, settings: Settings) -> str:
    """A series of the recording rules, such as `error_ratio:rate5m`."""
    full = f"rad_gateway:{name}"
    if not any(record.name == full for group in groups(settings) for record in group.records):
        raise ValueError(f"no recording rule makes {full}")
    return f"{full}{{{JOB}}}"


def foreign(name: str, where: str = "") -> str:
    """A series that is not the gateway's own."""
    if name not in FOREIGN:
        raise ValueError(f"{name} is not among the series of others that are known")
    scope = JOB if name == "ALERTS" else OF
    return f"{name}{{{_and(scope, where)}}}"


def gauge(key: str, by: str = "", where: str = "", how: str = "sum") -> str:
    """A gauge of all instances as one, or one for each value of the labels in `by`."""
    metric = _declared(key, "gauge", by)
    return f"{how}{_by(by)} ({metric.name}{{{_and(OF, where)}}})"


def rate(key: str, by: str = "", where: str = "") -> str:
    """A counter's growth per second."""
    metric = _declared(key, "counter", by)
    return f"sum{_by(by)} (rate({metric.name}{{{_and(OF, where)}}}[{RATE}]))"


def ratio(key: str, by: str, part: str, whole: str = "") -> str:
    """Share of a counter's growth that `part` selects, where there is any growth at all."""
    return f"{rate(key, by, part)} / ({rate(key, by, whole)} > 0)"


def ratio_shown(key: str, by: str, part: str, whole: str = "") -> str:
    """The same over the whole time that is shown."""
    return f"{grown(key, by, part)} / ({grown(key, by, whole)} > 0)"


def grown(key: str, by: str = "", where: str = "") -> str:
    """What a counter has grown by in the time that is shown."""
    metric = _declared(key, "counter", by)
    return f"sum{_by(by)} (increase({metric.name}{{{_and(OF, where)}}}[{SHOWN}]))"


def quantile(share: float, key: str, by: str = "", where: str = "") -> str:
    """Seconds that a share of a histogram's observations stayed below."""
    metric = _declared(key, "histogram", by)
    labels = f"le, {by}" if by else "le"
    series = f"{metric.name}_bucket{{{_and(OF, where)}}}"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({series}[{RATE}])))"


def mean(key: str, by: str = "", where: str = "") -> str:
    """The average of a histogram's observations."""
    metric = _declared(key, "histogram", by)
    scope = _and(OF, where)
    total = f"sum{_by(by)} (rate({metric.name}_sum{{{scope}}}[{RATE}]))"
    count = f"sum{_by(by)} (rate({metric.name}_count{{{scope}}}[{RATE}]))"
    return f"{total} / {count}"


def share_within(limit_s: Decimal, key: str) -> str:
    """Share of a histogram's observations in the time shown that were within a limit.

    Exact, not interpolated, so the limit must be an edge of the buckets.
    """
    metric = _declared(key, "histogram", "")
    if float(limit_s) not in BUCKETS:
        raise ValueError(f"{limit_s} s is no edge of the histograms' buckets")
    le = f'le="{edge(limit_s)}"'
    within = f"sum by (job) (increase({metric.name}_bucket{{{_and(OF, le)}}}[{SHOWN}]))"
    return f"{within} / sum by (job) (increase({metric.name}_count{{{OF}}}[{SHOWN}]))"


def top(number: int, expression: str) -> str:
    """The largest of several series."""
    return f"topk({number}, {expression})"


def _declared(key: str, kind: str, by: str) -> Declared:
    metric = METRICS.get(key)
    if metric is None:
        raise ValueError(f"no metric rad_gateway_{key} is declared")
    if metric.kind != kind:
        raise ValueError(f"{metric.name} is a {metric.kind}, not a {kind}")
    known: Collection[str] = {*metric.labels, *TARGET_LABELS}
    for label in by.replace(" ", "").split(",") if by else ():
        if label not in known:
            raise ValueError(f"{metric.name} has no label {label}")
    return metric


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def _and(scope: str, where: str) -> str:
    return f"{scope},{where}" if where else scope
