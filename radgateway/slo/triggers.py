"""What ends a release: the strategy's rollback triggers (its 9.5), and a canary against the rest.

One table for Argo's AnalysisTemplates and for `radgateway release`. Series of two versions are told
apart by a target label, `track`, which is `canary` or `stable`: Kubernetes attaches it from the
pod, a plain Prometheus from its scrape configuration. The version in `rad_gateway_build_info` says
what runs on a track.

No measure makes up a value. One without enough requests is empty, and 0 / 0 is NaN: both are
neither over nor under a limit, so nothing passes or fails by them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from radgateway.slo import requests
from radgateway.slo.alert import SERVICE
from radgateway.slo.objectives import INDICATORS
from radgateway.slo.promql import number, seconds

TRACK_LABEL: Final = "track"
LEAST_REQUESTS: Final = 30
"""Requests in a window below which a ratio of them is chance: one of 19 is over 5 % already."""


class Tracks(NamedTuple):
    """Whose series are measured, as label matchers without braces."""

    judged: str
    baseline: str


def canary_tracks(job: str) -> Tracks:
    """A canary, and the stable version that runs beside it."""
    canary, stable = (f'job="{job}",{TRACK_LABEL}="{track}"' for track in ("canary", "stable"))
    return Tracks(canary, stable)


Measure = Callable[[Tracks, str], str]
"""PromQL of one number, over a window such as `2m`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A limit that a release may not cross for longer than `hold`."""

    name: str
    measure: Measure
    worse: Literal["above", "below"]
    limit: Decimal
    window: str
    """Over which it is measured, each time."""
    hold: str = ""
    """How long the limit is crossed before the release ends; once is enough where empty."""
    interval: str = "30s"
    """Between two measurements."""
    words: str

    def expr(self, tracks: Tracks) -> str:
        """The query of one number; nothing or NaN where it can't be measured."""
        return self.measure(tracks, self.window)

    @property
    def failure_limit(self) -> int:
        """Measurements over the limit that are borne; the next one ends the release."""
        return seconds(self.hold) // seconds(self.interval) if self.hold else 0

    @property
    def failed(self) -> str:
        """The comparison with the limit that ends the release: `> 0.05`."""
        return f"{'>' if self.worse == 'above' else '<'} {number(self.limit)}"

    @property
    def passed(self) -> str:
        """The comparison that is well. NaN is neither this nor the other."""
        return f"{'<=' if self.worse == 'above' else '>='} {number(self.limit)}"


def _error_ratio(matchers: str, window: str) -> str:
    valid = f"sum(rate({requests.valid(window, matchers)}))"
    failed = f"sum(rate({requests.failed(window, matchers)}))"
    broken = f"sum(rate({requests.broken(window, matchers)}))"
    return (
        f"(({failed} or vector(0)) + ({broken} or vector(0)))\n"
        f"/ {valid}\n{_enough(matchers, window)}"
    )


def _availability(matchers: str, window: str) -> str:
    return f"1 - (\n{_error_ratio(matchers, window)}\n)"


def _enough(matchers: str, window: str) -> str:
    valid = f"sum(rate({requests.valid(window, matchers)}))"
    return f"and on ()\n{seconds(window)} * {valid} >= {LEAST_REQUESTS}"


def _overhead(matchers: str, window: str) -> str:
    return f"{_p95('overhead', matchers, window)}\n{_enough(matchers, window)}"


def _first_token(matchers: str, window: str) -> str:
    # Many requests and no stream among them: none was slow, which is known and not a gap.
    some = f"({_p95('first_token', matchers, window)} >= 0) or on () vector(0)"
    return f"({some})\n{_enough(matchers, window)}"


def _p95(kind: str, matchers: str, window: str) -> str:
    buckets = f"{INDICATORS[kind].metric}_bucket{{{matchers}}}[{window}]"
    return f"histogram_quantile(0.95, sum by (le) (rate({buckets})))"


def _of(measure: Callable[[str, str], str]) -> Measure:
    return lambda tracks, window: measure(tracks.judged, window)


def _added(measure: Callable[[str, str], str]) -> Measure:
    return lambda tracks, window: (
        f"(\n{measure(tracks.judged, window)}\n)\n- (\n{measure(tracks.baseline, window)}\n)"
    )


def _paging(_tracks: Tracks, _window: str) -> str:
    firing = f'ALERTS{{alertstate="firing",service="{SERVICE}"'
    # A budget spent within the week would keep its own repair from being released.
    paging = f'{firing},delivery="page",alertname!="ErrorBudgetCritical"}}'
    # That nothing fires is worth something only where rules are evaluated.
    watchdog = f'{firing},alertname="Watchdog"}}'
    return f"(count({paging}) or vector(0))\nand on ()\ncount({watchdog}) > 0"


TRIGGERS: Final = (
    Trigger(
        name="error-rate",
        measure=_of(_error_ratio),
        worse="above",
        limit=Decimal("0.05"),
        window="2m",
        hold="2m",
        words="Too many requests fail, for two minutes.",
    ),
    Trigger(
        name="overhead-p95",
        measure=_of(_overhead),
        worse="above",
        limit=Decimal(2),
        window="5m",
        hold="5m",
        words="One request in 20 spends too long in the gateway itself, for five minutes.",
    ),
    Trigger(
        name="first-token-p95",
        measure=_of(_first_token),
        worse="above",
        limit=Decimal(2),
        window="5m",
        hold="5m",
        words="One stream in 20 begins too late, for five minutes.",
    ),
    Trigger(
        name="availability",
        measure=_of(_availability),
        worse="below",
        limit=Decimal("0.95"),
        window="5m",
        words="Too few of the requests of five minutes are served.",
    ),
    Trigger(
        name="sev-1",
        measure=_paging,
        worse="above",
        limit=Decimal(0),
        window="1m",
        words="An alert that pages is firing: an incident during the release.",
    ),
)
"""The strategy's. Its P95 is of what the gateway owns, as the objectives' is."""

COMPARISONS: Final = (
    Trigger(
        name="error-rate-added",
        measure=_added(_error_ratio),
        worse="above",
        limit=Decimal("0.02"),
        window="5m",
        hold="2m",
        words="The canary fails 2 percent points more of its requests than the stable version.",
    ),
    Trigger(
        name="overhead-added",
        measure=_added(_overhead),
        worse="above",
        limit=Decimal("0.1"),
        window="5m",
        hold="5m",
        words="The canary's 95th percentile of the gateway's own time is 100 ms more.",
    ),
    Trigger(
        name="first-token-added",
        measure=_added(_first_token),
        worse="above",
        limit=Decimal("0.5"),
        window="5m",
        hold="5m",
        words="The canary's streams begin 500 ms later, by the 95th percentile.",
    ),
)
"""Ours: what is bad with all versions at once is no canary's fault, and what is worse is."""
