"""Cases for the recording rules: what counts as bad, and that a ratio is one of sums."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from radgateway.slo.cases import Case, Sample, Series, Suite
from radgateway.slo.promql import percent
from radgateway.slo.rules import SHORT_WINDOWS, long_windows
from radgateway.slo.settings import Settings
from radgateway.slo.traffic import MANY, latencies, requests


def suite(settings: Settings) -> Suite:
    """The file of these cases."""
    cases = (*_requests(settings), *_sums(settings), *_latency(settings), *_objectives(settings))
    return Suite("records", "1m", cases)


def _per_million(settings: Settings, at: str, expr: str, value: int | None) -> Sample:
    """A ratio in whole millionths, since promtool compares floats digit by digit."""
    return Sample(at, f"round(1e6 * {expr})", f'{{job="{settings.job}"}}', value)


def _requests(settings: Settings) -> Iterator[Case]:
    metric = f'rad_gateway_requests_total{{job="{settings.job}",instance="a",'
    broken = Series(
        f'rad_gateway_responses_interrupted_total{{job="{settings.job}",instance="a"}}', "0+10x20"
    )
    served = Series(f'{metric}status="200"}}', "0+960x20")

    def error_ratio(value: int | None) -> tuple[Sample, ...]:
        return tuple(
            _per_million(settings, "20m", f"rad_gateway:error_ratio:rate{window}", value)
            for window in (*SHORT_WINDOWS, *long_windows(settings))
        )

    yield Case(
        name="a 5xx and a broken response are bad; 4xx and 499 are valid and not bad",
        series=(
            served,
            Series(f'{metric}status="503"}}', "0+20x20"),
            Series(f'{metric}status="404"}}', "0+15x20"),
            Series(f'{metric}status="499"}}', "0+5x20"),
            broken,
        ),
        samples=error_ratio(30_000),
    )
    yield Case(
        name="where nothing has ever failed the ratio is 0, not unknown",
        series=(served,),
        samples=error_ratio(0),
    )
    yield Case(name="without data there is no ratio", samples=error_ratio(None))
    yield Case(
        name="replicas are added up",
        series=(
            *requests(settings, Decimal(300), Decimal(9_000), 20),
            *(
                Series(each.series.replace('instance="a"', 'instance="b"'), each.values)
                for each in requests(settings, Decimal(), Decimal(1_000), 20)
            ),
        ),
        samples=error_ratio(30_000),
    )


def _sums(settings: Settings) -> Iterator[Case]:
    metric = f'rad_gateway_requests_total{{job="{settings.job}",instance="a",status='
    yield Case(
        name="an hour of a quiet service weighs what it is worth: half of its few requests failing "
        "makes 0.1 % of both hours, not the 25 % that a mean of ratios would say",
        series=(
            Series(f'{metric}"200"}}', "0+1000x59 59001+1x60"),
            Series(f'{metric}"503"}}', "0x59 1+1x60"),
        ),
        samples=(
            Sample(
                "2h",
                "rad_gateway:error_ratio:rate2h > bool 0.0009 and rad_gateway:error_ratio:rate2h "
                "< 0.0011",
                f'{{job="{settings.job}"}}',
                1,
            ),
            Sample(
                "2h",
                "avg_over_time(rad_gateway:error_ratio:rate5m[2h]) > bool 0.23",
                f'{{job="{settings.job}"}}',
                1,
            ),
        ),
    )


def _latency(settings: Settings) -> Iterator[Case]:
    for name, objective, indicator in settings.objectives.latencies():
        slow = objective.budget / 4
        yield Case(
            name=f"{name}: a quarter of its budget is spent, three quarters are left",
            series=latencies(
                settings, indicator.metric, slow * MANY, MANY, 20, than=objective.limit_s
            ),
            samples=_objective(settings, name, slow, Decimal("0.75")),
        )


def _objectives(settings: Settings) -> Iterator[Case]:
    for name, objective in settings.objectives:
        if objective.below_s is None:
            bad = objective.budget * 3 / 2
            yield Case(
                name=f"{name}: with {percent(bad)} bad its budget is overdrawn by half",
                series=requests(settings, bad * MANY, MANY, 20),
                samples=_objective(settings, name, bad, Decimal("-0.5")),
            )


def _objective(settings: Settings, name: str, bad: Decimal, left: Decimal) -> tuple[Sample, ...]:
    labels = f'{{job="{settings.job}", slo="{name}"}}'
    return tuple(
        Sample(
            "20m",
            f'round(1e6 * rad_gateway:objective_{what}:ratio{{slo="{name}"}})',
            labels,
            round(value * 1_000_000),
        )
        for what, value in (("bad", bad), ("budget_left", left))
    )
