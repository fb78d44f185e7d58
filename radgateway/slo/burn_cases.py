"""Cases for the alerts on the error budget: burn rates, and parts of it spent in seven days.

Long windows are evaluated seldom: it is their sums that count.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from radgateway.slo.alerts import burn_name
from radgateway.slo.cases import Case, Check, Fired, Suite, without_data
from radgateway.slo.objectives import (
    BUDGET_DAYS,
    BURN_PAIRS,
    CRITICAL_SHARE,
    WARNING_SHARE,
    BurnPair,
)
from radgateway.slo.promql import days, minutes, number, percent
from radgateway.slo.settings import Settings
from radgateway.slo.traffic import HALF, MANY, requests, staged_requests


def suites(settings: Settings) -> tuple[Suite, ...]:
    """The files of these cases."""
    fast, slow = BURN_PAIRS[:2], BURN_PAIRS[2:]
    return (
        Suite(
            "burn-rates",
            "1m",
            (*_burn_rates(settings, fast, step=1), *_burn_windows(settings, BURN_PAIRS[:1])),
        ),
        Suite(
            "burn-rates-slow",
            "30m",
            (*_burn_rates(settings, slow, step=30), *_burn_windows(settings, BURN_PAIRS[1:])),
        ),
        Suite("error-budget", "2h", tuple(_budget(settings))),
    )


def _burn_rates(settings: Settings, pairs: tuple[BurnPair, ...], *, step: int) -> Iterator[Case]:
    """Boundaries, at an even rate: the condition holds from the first evaluation on."""
    objective = settings.objectives.availability
    job = {"job": settings.job}
    for pair in pairs:
        limit = objective.threshold(pair.share, days(pair.long))
        name, held = burn_name(pair.long), minutes(pair.hold)
        over, under = (_beside(limit, way) for way in (1, -1))
        end = held + step
        yield Case(
            name=f"{name}: {percent(over)} of the requests failing fires, but not before "
            f"{pair.hold}",
            series=requests(settings, over * MANY, MANY, end),
            alert=name,
            checks=(Check(f"{held}m"), Check(f"{end}m", (Fired(job, over),))),
        )
        yield Case(
            name=f"{name}: {percent(under)} of the requests failing is silent",
            series=requests(settings, under * MANY, MANY, end),
            alert=name,
            checks=(Check(f"{end}m"),),
        )
        yield from _floor(settings, name, minutes(pair.long), minutes(pair.long) + end, Decimal(1))
        yield from without_data(name)


def _burn_windows(settings: Settings, pairs: tuple[BurnPair, ...]) -> Iterator[Case]:
    """Both windows have to be over: the long one for its weight, the short one for the present."""
    objective = settings.objectives.availability
    for pair in pairs:
        limit = objective.threshold(pair.share, days(pair.long))
        long, short = minutes(pair.long), minutes(pair.short)
        name = burn_name(pair.long)
        clean = (Decimal(), MANY)
        bad = (min(2 * limit, Decimal(1)) * MANY, MANY)
        yield Case(
            name=f"{name}: what burned for {pair.long} and has ended is silent",
            series=staged_requests(settings, ((*bad, long), (*clean, 2 * short))),
            alert=name,
            checks=(Check(f"{long + 2 * short}m"),),
        )
        yield Case(
            name=f"{name}: what has burned for {pair.short} alone is silent",
            series=staged_requests(settings, ((*clean, long), (*bad, short))),
            alert=name,
            checks=(Check(f"{long + short}m"),),
        )


def _budget(settings: Settings) -> Iterator[Case]:
    objective = settings.objectives.availability
    week = int(BUDGET_DAYS) * 1_440
    job = {"job": settings.job}
    for name, share in (
        ("ErrorBudgetBurn", WARNING_SHARE),
        ("ErrorBudgetCritical", CRITICAL_SHARE),
    ):
        limit = objective.threshold(share, BUDGET_DAYS)
        over, under = (_beside(limit, way) for way in (1, -1))
        spent = objective.spent(over, BUDGET_DAYS)
        yield Case(
            name=f"{name}: {percent(over)} of the requests failing all the time fires",
            series=requests(settings, over * MANY, MANY, 240),
            alert=name,
            checks=(Check("4h", (Fired(job, spent),)),),
        )
        yield Case(
            name=f"{name}: {percent(under)} of the requests failing all the time is silent",
            series=requests(settings, under * MANY, MANY, 240),
            alert=name,
            checks=(Check("4h"),),
        )
        # The same budget spent in the last of seven days, three percent beside it.
        for way, fires in ((Decimal("0.97"), False), (Decimal("1.03"), True)):
            day = _rounded(limit * BUDGET_DAYS * way)
            spent = objective.spent(day, Decimal(1))
            yield Case(
                name=f"{name}: {number(way)} times its budget on the last of 7d "
                + ("fires" if fires else "is silent"),
                series=staged_requests(
                    settings, ((Decimal(), MANY, week - 1_440), (day * MANY, MANY, 1_440))
                ),
                alert=name,
                checks=(Check("7d", (Fired(job, spent),) if fires else ()),),
            )
        yield Case(
            name=f"{name}: what ended a day ago is silent",
            series=staged_requests(
                settings,
                ((2 * limit * MANY, MANY, week - 1_440), (Decimal(), MANY, 1_440)),
            ),
            alert=name,
            checks=(Check("7d"),),
        )
        yield from _floor(settings, name, week, 240, objective.spent(Decimal(1), BUDGET_DAYS))
        yield from without_data(name)


def _floor(
    settings: Settings, name: str, window: int, lasting: int, value: Decimal
) -> Iterator[Case]:
    """Where all requests fail, and there are few: minutes of the window, and of the requests."""
    few, enough = ((settings.least_bad + way * HALF) / window for way in (-1, 1))
    yield Case(
        name=f"{name}: a handful of errors is silent, whatever their share",
        series=requests(settings, few, few, lasting),
        alert=name,
        checks=(Check(f"{lasting}m"),),
    )
    yield Case(
        name=f"{name}: a quiet service that fails altogether fires",
        series=requests(settings, enough, enough, lasting),
        alert=name,
        checks=(Check(f"{lasting}m", (Fired({"job": settings.job}, value),)),),
    )


def _beside(limit: Decimal, way: int) -> Decimal:
    """A ratio just over or under a threshold, in whole requests of a hundred thousand."""
    return _rounded(limit) + Decimal(way) / MANY


def _rounded(ratio: Decimal) -> Decimal:
    return round(ratio * MANY) / MANY
