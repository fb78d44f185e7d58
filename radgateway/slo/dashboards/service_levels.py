"""The SLO dashboard, the strategy's executive view: is the promise kept, and for how long yet."""

from __future__ import annotations

from decimal import Decimal

from radgateway.slo.dashboards.board import Board, Row
from radgateway.slo.dashboards.panel import BAD, FAIR, GOOD, NEUTRAL, Panel, Query
from radgateway.slo.dashboards.promql import (
    foreign,
    grown,
    quantile,
    rate,
    ratio,
    recorded,
    share_within,
)
from radgateway.slo.targets import Targets

_PERCENTILES = (0.5, 0.95, 0.99)


def service_levels(targets: Targets) -> Board:
    """The dashboard for some objectives."""
    return Board(
        uid="radgateway-slo",
        title="RAD Gateway / SLO",
        reader="For those who answer for the service: is the promise kept, and for how long yet?",
        since="now-7d",
        refresh="5m",
        rows=(
            Row("Availability and its error budget", _availability(targets)),
            Row("Errors", _errors(targets)),
            Row("Latency", _latency(targets)),
        ),
    )


def _availability(targets: Targets) -> tuple[Panel, ...]:
    budget, days = targets.budget, targets.availability_days
    month = recorded(f"error_ratio:rate{days}d")
    left = f"1 - {month} / {budget:f}"
    return (
        Panel(
            title="Availability",
            answers=(
                f"Share of valid requests of the last {days} days that were answered well; the "
                f"target is {_percent(targets.availability)}. Bad is a 5xx and an answer broken "
                "off; a 4xx and a client that left are not."
            ),
            guide="runbooks/availability-degradation",
            unit="percentunit",
            queries=(Query(expr=f"1 - {month}", legend="{{job}}"),),
            kind="stat",
            width=6,
            decimals=3,
            steps=(
                (None, BAD),
                (float(1 - 2 * budget), FAIR),
                (float(targets.availability), GOOD),
            ),
        ),
        Panel(
            title="Error budget remaining",
            answers=(
                f"How much of the {_percent(budget)} that may fail in {days} days is left. Below "
                "zero the promise is broken; below 40 % only repairs should be deployed."
            ),
            guide="runbooks/error-budget",
            unit="percentunit",
            queries=(Query(expr=left, legend="{{job}}"),),
            kind="stat",
            width=6,
            decimals=1,
            steps=((None, BAD), (0.0, FAIR), (0.4, GOOD)),
        ),
        Panel(
            title="Outage the budget still allows",
            answers=(
                "How long everything could fail before the budget is gone, were traffic even over "
                f"the {days} days."
            ),
            unit="s",
            queries=(
                Query(
                    expr=f"clamp_min({budget:f} - {month}, 0) * {targets.period_s}",
                    legend="{{job}}",
                ),
            ),
            kind="stat",
            width=6,
            decimals=1,
            steps=((None, BAD), (1800.0, FAIR), (3600.0, GOOD)),
        ),
        Panel(
            title="Budget lasts, at this pace",
            answers=(
                "When the budget is gone if errors go on as in the last six hours. No value means "
                "that there were none."
            ),
            unit="s",
            queries=(
                Query(
                    expr=(
                        f"clamp_min({budget:f} - {month}, 0) * {targets.period_s}"
                        f" / ({recorded('error_ratio:rate6h')} > 0)"
                    ),
                    legend="{{job}}",
                ),
            ),
            kind="stat",
            width=6,
            decimals=1,
            nothing="no errors",
            steps=((None, BAD), (3 * 86_400.0, FAIR), (7 * 86_400.0, GOOD)),
        ),
        Panel(
            title="Burn rate",
            answers=(
                "How many times faster than allowed the budget is spent; 1 spends it in exactly "
                f"{days} days. Alerts page at 14.4 (over an hour) and 6 (over six hours), and "
                "write a ticket at 3 (a day) and 1 (three days), if a short window agrees."
            ),
            unit="short",
            queries=tuple(
                Query(
                    expr=f"{recorded(f'error_ratio:rate{window}')} / {budget:f}",
                    legend=f"{{{{job}}}} over {window}",
                )
                for window in ("5m", "1h", "6h", "1d", "3d")
            ),
            width=12,
            height=9,
            steps=((None, NEUTRAL), (1.0, FAIR), (6.0, FAIR), (14.4, BAD)),
        ),
        Panel(
            title="Error budget over time",
            answers=(
                "When the budget was spent: a cliff is an incident, a slope is a leak. It rises "
                f"where bad days are more than {days} days ago."
            ),
            unit="percentunit",
            queries=(Query(expr=left, legend="{{job}}"),),
            width=6,
            height=9,
            least=None,
            most=1,
            steps=((None, BAD), (0.0, NEUTRAL)),
        ),
        Panel(
            title="Budget spent in seven days",
            answers=(
                f"Share of the {days} days' budget that the last seven days have spent. The alert "
                "ErrorBudgetBurn fires at 30 %, ErrorBudgetCritical at 60 %."
            ),
            unit="percentunit",
            queries=(
                Query(
                    expr=f"{recorded('error_ratio:rate7d')} / {budget:f} * 7 / {days}",
                    legend="{{job}}",
                ),
            ),
            width=6,
            height=9,
            steps=((None, NEUTRAL), (0.3, FAIR), (0.6, BAD)),
        ),
    )


def _errors(targets: Targets) -> tuple[Panel, ...]:
    return (
        Panel(
            title="Error rate",
            answers=(
                "Share of requests that went bad, at once and as a trend; over seven days it has "
                f"to stay below {_percent(targets.error_ratio)}."
            ),
            guide="runbooks/error-rate-spike",
            unit="percentunit",
            queries=tuple(
                Query(
                    expr=recorded(f"error_ratio:rate{window}"), legend=f"{{{{job}}}} over {window}"
                )
                for window in ("5m", "1h", "7d")
            ),
            width=12,
            steps=((None, NEUTRAL), (float(targets.error_ratio), BAD)),
        ),
        Panel(
            title="Requests, and those that went bad",
            answers=(
                "Whether an error rate means anything: one failure among three requests is no "
                "outage."
            ),
            unit="reqps",
            queries=(
                Query(expr=recorded("requests:rate5m"), legend="{{job}} all"),
                Query(expr=recorded("requests_bad:rate5m"), legend="{{job}} bad"),
            ),
            width=12,
        ),
        Panel(
            title="Error rate by route",
            answers="Which part of the API fails its callers, by its share of 5xx.",
            unit="percentunit",
            queries=(
                Query(
                    expr=ratio("requests_total", "route", 'status=~"5.."'),
                    legend="{{route}}",
                ),
            ),
            width=12,
            steps=((None, NEUTRAL), (float(targets.error_ratio), BAD)),
            nothing="no 5xx",
        ),
        Panel(
            title="Answers broken off",
            answers=(
                "Responses that had begun and were cut. Their status was a 200, so no other panel "
                "of statuses shows them; they count as bad."
            ),
            unit="reqps",
            queries=(Query(expr=rate("responses_interrupted_total", "route"), legend="{{route}}"),),
            width=6,
            nothing="none",
        ),
        Panel(
            title="Scrapes that worked",
            answers=(
                "Share of instances that answer their scrape. Shown beside the objective, not as "
                "it: an instance that restarts is no outage, and one that fails all requests "
                "answers its scrapes."
            ),
            guide="runbooks/monitoring",
            unit="percentunit",
            queries=(Query(expr=f"avg by (job) ({foreign('up')})", legend="{{job}}"),),
            width=6,
            most=1,
            steps=((None, BAD), (1.0, NEUTRAL)),
        ),
    )


def _latency(targets: Targets) -> tuple[Panel, ...]:
    limits = (
        (None, NEUTRAL),
        (float(targets.p95_s), FAIR),
        (float(targets.p99_s), BAD),
    )
    held = f"The objective: p95 below {targets.p95_s:f} s, p99 below {targets.p99_s:f} s."
    return (
        _percentiles(
            "Overhead of the gateway",
            f"Time spent in the gateway itself, without any waiting for providers. {held}",
            "overhead_seconds",
            limits,
        ),
        _percentiles(
            "Time to first byte of streams",
            f"How long somebody who asked for a stream looks at nothing. {held}",
            "time_to_first_token_seconds",
            limits,
            exemplar=True,
        ),
        _percentiles(
            "Total duration",
            "From arrival to the last byte. Reported, not promised: a long generation takes as "
            "long as it takes. Points are traces.",
            "request_duration_seconds",
            (),
            exemplar=True,
        ),
        *(
            _within(name, key, share, limit)
            for name, key in (
                ("Overhead", "overhead_seconds"),
                ("First byte", "time_to_first_token_seconds"),
            )
            for share, limit in ((Decimal("0.95"), targets.p95_s), (Decimal("0.99"), targets.p99_s))
        ),
        Panel(
            title="Requests in the time shown",
            answers="How many requests the shares beside it are of.",
            unit="short",
            queries=(Query(expr=grown("requests_total", "job"), legend="{{job}}"),),
            kind="stat",
            width=4,
            height=5,
        ),
    )


def _percentiles(
    title: str,
    answers: str,
    key: str,
    steps: tuple[tuple[float | None, str], ...],
    exemplar: bool = False,
) -> Panel:
    return Panel(
        title=title,
        answers=answers,
        unit="s",
        queries=tuple(
            Query(
                expr=quantile(share, key, "job"),
                legend=f"{{{{job}}}} p{100 * share:g}",
                exemplar=exemplar,
            )
            for share in _PERCENTILES
        ),
        steps=steps,
        nothing="no requests",
    )


def _within(name: str, key: str, share: Decimal, limit_s: Decimal) -> Panel:
    return Panel(
        title=f"{name} within {limit_s:f} s",
        answers=(
            f"Share of the time shown that was within {limit_s:f} s; {_percent(share)} has to be. "
            "Counted, not interpolated from a percentile."
        ),
        unit="percentunit",
        queries=(Query(expr=share_within(limit_s, key), legend="{{job}}"),),
        kind="stat",
        width=5,
        height=5,
        decimals=2,
        steps=((None, BAD), (float(share), GOOD)),
        nothing="no requests",
    )


def _percent(share: Decimal) -> str:
    return f"{(share * 100).normalize():f} %"
