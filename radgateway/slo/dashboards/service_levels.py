"""The SLO dashboard, the strategy's executive view: is the promise kept, and for how long yet."""

from __future__ import annotations

from collections.abc import Iterator
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
from radgateway.slo.objectives import (
    BUDGET_DAYS,
    BURN_PAIRS,
    CRITICAL_SHARE,
    DAY_S,
    WARNING_SHARE,
    BurnPair,
    Objective,
)
from radgateway.slo.promql import days, number, percent
from radgateway.slo.settings import Settings

_PERCENTILES = (0.5, 0.95, 0.99)
_LATE = (FAIR, BAD)
"""The colours beyond an objective of the 95th percentile and of the 99th."""


def service_levels(settings: Settings) -> Board:
    """The dashboard for the objectives."""
    return Board(
        uid="radgateway-slo",
        title="RAD Gateway / SLO",
        reader="For those who answer for the service: is the promise kept, and for how long yet?",
        since="now-7d",
        refresh="5m",
        rows=(
            Row("Availability and its error budget", _availability(settings)),
            Row("Errors", _errors(settings)),
            Row("Latency", _latency(settings)),
        ),
    )


def _availability(settings: Settings) -> tuple[Panel, ...]:
    objective = settings.objectives.availability
    target, budget, period = objective.target, objective.budget, objective.window_days
    bad = recorded(f"error_ratio:rate{period}d", settings)
    week = recorded(f"error_ratio:rate{BUDGET_DAYS}d", settings)
    left = f"1 - {bad} / {number(budget)}"
    page, second, day, three_days = (number(_burn(objective, pair)) for pair in BURN_PAIRS)
    seconds_left = f"clamp_min({number(budget)} - {bad}, 0) * {period * DAY_S}"
    return (
        Panel(
            title="Availability",
            answers=(
                f"Share of valid requests of the last {period} days that were answered well; the "
                f"target is {percent(target)}. Bad is a 5xx and an answer broken "
                "off; a 4xx and a client that left are not."
            ),
            guide="runbooks/availability-degradation",
            unit="percentunit",
            queries=(Query(expr=f"1 - {bad}", legend="{{job}}"),),
            kind="stat",
            width=6,
            decimals=3,
            steps=(
                (None, BAD),
                (float(1 - 2 * budget), FAIR),
                (float(target), GOOD),
            ),
        ),
        Panel(
            title="Error budget remaining",
            answers=(
                f"How much of the {percent(budget)} that may fail in {period} days is left. Below "
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
                f"the {period} days."
            ),
            unit="s",
            queries=(Query(expr=seconds_left, legend="{{job}}"),),
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
                    expr=f"{seconds_left} / ({recorded('error_ratio:rate6h', settings)} > 0)",
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
                f"{period} days. Alerts page at {page} (over an hour) and {second} (over six "
                f"hours), and write a ticket at {day} (a day) and {three_days} (three days), if a "
                "short window agrees."
            ),
            unit="short",
            queries=tuple(
                Query(
                    expr=f"{recorded(f'error_ratio:rate{window}', settings)} / {number(budget)}",
                    legend=f"{{{{job}}}} over {window}",
                )
                for window in ("5m", *(pair.long for pair in BURN_PAIRS))
            ),
            width=12,
            height=9,
            steps=((None, NEUTRAL), (1.0, FAIR), (float(second), FAIR), (float(page), BAD)),
        ),
        Panel(
            title="Error budget over time",
            answers=(
                "When the budget was spent: a cliff is an incident, a slope is a leak. It rises "
                f"where bad days are more than {period} days ago."
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
                f"Share of the {period} days' budget that the last seven days have spent. The "
                f"alert ErrorBudgetBurn fires at {percent(WARNING_SHARE)}, ErrorBudgetCritical at "
                f"{percent(CRITICAL_SHARE)}."
            ),
            unit="percentunit",
            queries=(
                Query(
                    expr=f"{week} / {number(budget)} * {BUDGET_DAYS} / {period}",
                    legend="{{job}}",
                ),
            ),
            width=6,
            height=9,
            steps=((None, NEUTRAL), (float(WARNING_SHARE), FAIR), (float(CRITICAL_SHARE), BAD)),
        ),
    )


def _errors(settings: Settings) -> tuple[Panel, ...]:
    objective = settings.objectives.error_rate
    limit, period = objective.budget, objective.window_days
    return (
        Panel(
            title="Error rate",
            answers=(
                f"Share of requests that went bad, at once and as a trend; over {period} days it "
                f"has to stay below {percent(limit)}."
            ),
            guide="runbooks/error-rate-spike",
            unit="percentunit",
            queries=tuple(
                Query(
                    expr=recorded(f"error_ratio:rate{window}", settings),
                    legend=f"{{{{job}}}} over {window}",
                )
                for window in ("5m", "1h", f"{period}d")
            ),
            width=12,
            steps=((None, NEUTRAL), (float(limit), BAD)),
        ),
        Panel(
            title="Requests, and those that went bad",
            answers=(
                "Whether an error rate means anything: one failure among three requests is no "
                "outage."
            ),
            unit="reqps",
            queries=(
                Query(expr=recorded("requests:rate5m", settings), legend="{{job}} all"),
                Query(expr=recorded("requests_bad:rate5m", settings), legend="{{job}} bad"),
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
            steps=((None, NEUTRAL), (float(limit), BAD)),
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


def _latency(settings: Settings) -> tuple[Panel, ...]:
    promised = settings.objectives
    overhead = (promised.overhead_p95, promised.overhead_p99)
    first_byte = (promised.first_token_p95, promised.first_token_p99)
    return (
        _percentiles(
            "Overhead of the gateway",
            "Time spent in the gateway itself, without any waiting for providers. "
            f"{_promised(overhead)}",
            "overhead_seconds",
            overhead,
        ),
        _percentiles(
            "Time to first byte of streams",
            f"How long somebody who asked for a stream looks at nothing. {_promised(first_byte)}",
            "time_to_first_token_seconds",
            first_byte,
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
        *(_within("Overhead", "overhead_seconds", each) for each in overhead),
        *(_within("First byte", "time_to_first_token_seconds", each) for each in first_byte),
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


def _limits(objectives: tuple[Objective, ...]) -> Iterator[tuple[float | None, str]]:
    if objectives:
        yield None, NEUTRAL
        for each, color in zip(objectives, _LATE, strict=True):
            yield float(each.limit_s), color


def _promised(objectives: tuple[Objective, ...]) -> str:
    parts = (f"{percent(each.target)} within {number(each.limit_s)} s" for each in objectives)
    return f"The objective: {', '.join(parts)}."


def _percentiles(
    title: str,
    answers: str,
    key: str,
    objectives: tuple[Objective, ...],
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
        steps=tuple(_limits(objectives)),
        nothing="no requests",
    )


def _within(name: str, key: str, objective: Objective) -> Panel:
    limit_s, target = number(objective.limit_s), percent(objective.target)
    return Panel(
        title=f"{name} within {limit_s} s",
        answers=(
            f"Share of the time shown that was within {limit_s} s; {target} has to be. "
            "Counted, not interpolated from a percentile."
        ),
        unit="percentunit",
        queries=(Query(expr=share_within(objective.limit_s, key), legend="{{job}}"),),
        kind="stat",
        width=5,
        height=5,
        decimals=2,
        steps=((None, BAD), (float(objective.target), GOOD)),
        nothing="no requests",
    )


def _burn(objective: Objective, pair: BurnPair) -> Decimal:
    return objective.burn_rate(pair.share, days(pair.long))
