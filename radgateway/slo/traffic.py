"""Series that the cases measure: requests at a rate, some of which go wrong or are slow."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from radgateway.slo.cases import Series
from radgateway.slo.objectives import edge_after
from radgateway.slo.promql import edge, number
from radgateway.slo.settings import Settings

MANY: Final = Decimal(100_000)
"""Requests a minute in most cases: one more or less is a thousandth of a percent."""
HALF: Final = Decimal("0.5")
"""Of a bad request: so near to the floor are those that are just enough, and just too few."""
_ROUTE: Final = 'route="/v1/chat/completions"'


def requests(settings: Settings, bad: Decimal, of: Decimal, minutes: int) -> tuple[Series, ...]:
    """Requests at an even rate, some of which go wrong."""
    return staged_requests(settings, ((bad, of, minutes),))


def staged_requests(
    settings: Settings, stages: tuple[tuple[Decimal, Decimal, int], ...]
) -> tuple[Series, ...]:
    """Requests whose rates change: bad, of, and for how many minutes.

    Half of the bad ones are errors. The other half broke off, having gone out under their 200.
    """
    labels = f'job="{settings.job}",instance="a",{_ROUTE}'
    metric = f'rad_gateway_requests_total{{{labels},method="POST",status='
    halves = [(bad / 2, minutes) for bad, _, minutes in stages]
    rest = [(of - bad / 2, minutes) for bad, of, minutes in stages]
    return (
        Series(f'{metric}"200"}}', _counter(rest)),
        Series(f'{metric}"503"}}', _counter(halves)),
        Series(f"rad_gateway_responses_interrupted_total{{{labels}}}", _counter(halves)),
    )


def _counter(stages: list[tuple[Decimal, int]]) -> str:
    """A counter from 0 on that grows by so much a minute, for so many minutes, stage by stage."""
    total = Decimal()
    parts: list[str] = []
    for step, minutes in stages:
        start = total + step if parts else total
        steps = minutes - 1 if parts else minutes
        parts.append(f"{number(start)}+{number(step)}x{steps}")
        total = start + step * steps
    return " ".join(parts)


def latencies(
    settings: Settings,
    metric: str,
    slow: Decimal,
    of: Decimal,
    minutes: int,
    *,
    than: Decimal,
) -> tuple[Series, ...]:
    """A histogram at an even rate: some are slower than an edge, and none than the next."""
    labels = f'job="{settings.job}",instance="a",{_ROUTE}'
    fast, every = f"0+{number(of - slow)}x{minutes}", f"0+{number(of)}x{minutes}"
    return (
        Series(f'{metric}_bucket{{{labels},le="{edge(than)}"}}', fast),
        Series(f'{metric}_bucket{{{labels},le="{edge(edge_after(than))}"}}', every),
        Series(f'{metric}_bucket{{{labels},le="+Inf"}}', every),
        Series(f"{metric}_count{{{labels}}}", every),
    )
