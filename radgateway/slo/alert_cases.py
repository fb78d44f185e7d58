"""Cases for the alerts: each fires, waits, stays silent, and does so at its boundary.

"Over" and "under" are one bad request in a hundred thousand beside the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

from radgateway.slo.cases import Case, Check, Fired, Series, Suite, without_data
from radgateway.slo.objectives import Indicator, Objective, edge_after
from radgateway.slo.promql import minutes, number
from radgateway.slo.settings import Settings
from radgateway.slo.traffic import MANY, latencies, requests

Build = Callable[[Decimal, Decimal, int], tuple[Series, ...]]
"""Series of so many bad requests a minute, of so many, for some minutes."""


def suite(settings: Settings) -> Suite:
    """The file of these cases."""
    cases = (
        *_errors(settings),
        *_latency(settings),
        *_providers(settings),
        *_capacity(settings),
        *_watching(settings),
    )
    return Suite("alerts", "1m", cases)


def _ratio_cases(
    name: str,
    build: Build,
    *,
    limit: Decimal,
    window: str,
    hold: str,
    fired: Callable[[Decimal], Fired],
    least_bad: int,
    words: str,
) -> Iterator[Case]:
    """What every alert on a ratio has to do. Its condition holds from the first minute on."""
    held = minutes(hold)
    long = held + minutes(window)
    over = limit * MANY + 1
    yield Case(
        name=f"{name}: {words} over its threshold fires, but not before {hold}",
        series=build(over, MANY, long),
        alert=name,
        checks=(Check(f"{held}m"), Check(f"{held + 1}m", (fired(over / MANY),))),
    )
    enough = Decimal(least_bad + 1) / minutes(window)
    yield Case(
        name=f"{name}: {words} of a quiet service that fails altogether fires",
        series=build(enough, enough, long),
        alert=name,
        checks=(Check(f"{long}m", (fired(Decimal(1)),)),),
    )
    few = Decimal(least_bad - 1) / minutes(window)
    for part, of, what in (
        (limit * MANY - 1, MANY, f"{words} under its threshold are silent"),
        (few, few * 2, f"a handful of {words} is silent, whatever their share"),
        (Decimal(), Decimal(), f"without traffic it is silent ({words})"),
    ):
        yield Case(
            name=f"{name}: {what}",
            series=build(part, of, long),
            alert=name,
            checks=(Check(f"{long}m"),),
        )


def _errors(settings: Settings) -> Iterator[Case]:
    job = {"job": settings.job}

    def build(bad: Decimal, of: Decimal, lasting: int) -> tuple[Series, ...]:
        return requests(settings, bad, of, lasting)

    yield from _ratio_cases(
        "HighErrorRate",
        build,
        limit=Decimal("0.02"),
        window="5m",
        hold="5m",
        fired=lambda bad: Fired(job, bad),
        least_bad=settings.least_bad,
        words="bad requests",
    )
    yield from _ratio_cases(
        "AvailabilityDrop",
        build,
        limit=Decimal("0.01"),
        window="2m",
        hold="2m",
        fired=lambda bad: Fired(job, 1 - bad),
        least_bad=settings.least_bad,
        words="bad requests",
    )
    yield from without_data("HighErrorRate", "AvailabilityDrop")
    up = [Series(f'up{{job="{settings.job}",instance="{each}"}}', "") for each in "abc"]
    yield Case(
        name="AvailabilityDrop: one instance of three left fires, but not before 2m",
        series=tuple(Series(s.series, v) for s, v in zip(up, ("1x9", "0x9", "0x9"), strict=True)),
        alert="AvailabilityDrop",
        checks=(Check("1m"), Check("2m", (Fired(job, Decimal(1) / 3),))),
    )
    yield Case(
        name="AvailabilityDrop: one instance of two left is silent",
        series=tuple(Series(s.series, v) for s, v in zip(up, ("1x9", "0x9"), strict=False)),
        alert="AvailabilityDrop",
        checks=(Check("9m"),),
    )


def _latency(settings: Settings) -> Iterator[Case]:
    for name, objective, indicator in settings.objectives.latencies():
        if not name.endswith("_p95"):
            continue

        def build(
            slow: Decimal,
            of: Decimal,
            lasting: int,
            objective: Objective = objective,
            indicator: Indicator = indicator,
        ) -> tuple[Series, ...]:
            than = objective.alert_above_s
            return latencies(settings, indicator.metric, slow, of, lasting, than=than)

        def fired(
            slow: Decimal, objective: Objective = objective, indicator: Indicator = indicator
        ) -> Fired:
            # The quantile's place within the bucket above the threshold.
            low, high = objective.alert_above_s, edge_after(objective.alert_above_s)
            value = low + (high - low) * (slow - Decimal("0.05")) / slow
            return Fired({"job": settings.job}, value, {"sli": indicator.label})

        yield from _ratio_cases(
            "HighLatency",
            build,
            limit=Decimal("0.05"),
            window="5m",
            hold="10m",
            fired=fired,
            least_bad=settings.least_bad,
            words=f"requests slow by their {indicator.label}",
        )
    yield from without_data("HighLatency")


def _providers(settings: Settings) -> Iterator[Case]:
    labels = f'job="{settings.job}",instance="a",provider="openai",model="m"'
    where = {"job": settings.job, "provider": "openai"}

    def build(bad: Decimal, of: Decimal, lasting: int) -> tuple[Series, ...]:
        metric = f"rad_gateway_provider_requests_total{{{labels},status="
        return (
            Series(f'{metric}"200"}}', f"0+{number(of - bad)}x{lasting}"),
            Series(f'{metric}"503"}}', f"0+{number(bad / 2)}x{lasting}"),
            Series(f'{metric}"429"}}', f"0+{number(bad / 2)}x{lasting}"),
        )

    yield from _ratio_cases(
        "ProviderDegraded",
        build,
        limit=Decimal("0.1"),
        window="5m",
        hold="5m",
        fired=lambda bad: Fired(where, bad),
        least_bad=settings.least_bad,
        words="attempts that fail or are refused",
    )
    gauge = f'rad_gateway_circuit_breaker_open{{job="{settings.job}",provider="openai",instance='
    yield Case(
        name="CircuitBreakerOpen: one replica's fires at once, and for 5m after it has closed",
        series=(Series(f'{gauge}"a"}}', "0x5 1x4 0x20"), Series(f'{gauge}"b"}}', "0x30")),
        alert="CircuitBreakerOpen",
        checks=(
            Check("5m"),
            Check("6m", (Fired(where),)),
            Check("15m", (Fired(where),)),
            Check("17m"),
        ),
    )
    yield from without_data("ProviderDegraded", "CircuitBreakerOpen")


def _capacity(settings: Settings) -> Iterator[Case]:
    labels = f'job="{settings.job}",instance="a"'
    where = {"job": settings.job, "instance": "a"}

    def memory(used: int, most: int = 1000) -> tuple[Series, ...]:
        return (
            Series(f"process_resident_memory_bytes{{{labels}}}", f"{used}x20"),
            Series(f"rad_gateway_memory_limit_bytes{{{labels}}}", f"{most}x20"),
        )

    yield Case(
        name="HighMemoryUsage: over its threshold fires, but not before 5m",
        series=memory(801),
        alert="HighMemoryUsage",
        checks=(Check("4m"), Check("5m", (Fired(where, Decimal("0.801")),))),
    )
    for series, what in (
        (memory(800), "at its threshold"),
        (memory(801)[:1], "without a limit"),
        (memory(801, 0), "with a limit that is not known"),
    ):
        yield Case(
            name=f"HighMemoryUsage: {what} it is silent",
            series=series,
            alert="HighMemoryUsage",
            checks=(Check("20m"),),
        )

    def pool(used: int, most: int) -> tuple[Series, ...]:
        return (
            Series(f'rad_gateway_db_connections{{{labels},state="in_use"}}', f"{used}x20"),
            Series(f'rad_gateway_db_connections{{{labels},state="idle"}}', f"{most - used}x20"),
            Series(f"rad_gateway_db_connections_max{{{labels}}}", f"{most}x20"),
        )

    yield Case(
        name="DBConnectionExhausted: the last connection in use fires, but not before 1m",
        series=pool(10, 10),
        alert="DBConnectionExhausted",
        checks=(Check("0m"), Check("1m", (Fired(where, Decimal(10)),))),
    )
    for used, most, what in (
        (9, 10, "one connection left is silent"),
        (0, 0, "a ledger without a pool is silent"),
    ):
        yield Case(
            name=f"DBConnectionExhausted: {what}",
            series=pool(used, most),
            alert="DBConnectionExhausted",
            checks=(Check("20m"),),
        )
    age = f"rad_gateway_secrets_age_seconds{{{labels}}}"
    yield Case(
        name="SecretsStale: a store that was read too long ago fires, but not before 5m",
        series=(Series(age, "601x20"),),
        alert="SecretsStale",
        checks=(Check("4m"), Check("5m", (Fired(where, Decimal(601)),))),
    )
    for values, what in (("600x20", "at its threshold"), ("0x20", "without a store")):
        yield Case(
            name=f"SecretsStale: {what} it is silent",
            series=(Series(age, values),),
            alert="SecretsStale",
            checks=(Check("20m"),),
        )
    yield from without_data(
        "HighMemoryUsage", "DBConnectionExhausted", "SecretsStale", "RuleEvaluationFailures"
    )


def _watching(settings: Settings) -> Iterator[Case]:
    up = Series(f'up{{job="{settings.job}",instance="a"}}', "1x20")
    others = Series('up{job="another",instance="a"}', "1x20")
    seen = (up, *requests(settings, Decimal(), Decimal(1), 20))
    gone = Fired({"job": settings.job})
    for series, what in (
        ((), "no data at all"),
        ((others,), "another job's data alone"),
        ((up,), "a target without requests"),
        (seen[1:], "requests without a target"),
    ):
        yield Case(
            name=f"RadGatewayAbsent: {what} fires, but not before 5m",
            series=series,
            alert="RadGatewayAbsent",
            checks=(Check("4m"), Check("5m", (gone,))),
        )
    yield Case(
        name="RadGatewayAbsent: a gateway that is seen is silent",
        series=seen,
        alert="RadGatewayAbsent",
        checks=(Check("20m"),),
    )
    group = "rules/radgateway.rules.yml;radgateway-requests"
    for metric in (
        "prometheus_rule_evaluation_failures_total",
        "prometheus_rule_group_iterations_missed_total",
    ):
        for named, fires in ((group, True), ("rules/other.yml;other", False)):
            where = {"job": "prometheus", "rule_group": named}
            labels = ",".join(f'{key}="{value}"' for key, value in where.items())
            yield Case(
                name=f"RuleEvaluationFailures: one more {metric} of {named} "
                + ("fires, for 10m" if fires else "is silent"),
                series=(Series(f"{metric}{{{labels}}}", "0x5 1x25"),),
                alert="RuleEvaluationFailures",
                checks=(
                    Check("5m"),
                    Check("6m", (Fired(where),) if fires else ()),
                    Check("20m"),
                ),
            )
    yield Case(
        name="Watchdog: it fires, whatever is known",
        alert="Watchdog",
        checks=(Check("0m", (Fired({}),)), Check("20m", (Fired({}),))),
    )
