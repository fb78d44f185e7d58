"""The alerts: the strategy's nine (its 6.2), burn rates, and what watches the watchers.

Names, conditions and priorities are the strategy's. How a person is told is a label of its own
(`delivery`), since the strategy has a P1 that only notifies. Every ratio has a floor of bad
requests, so that nobody is woken by one of three.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from radgateway.slo.alert import Alert, Delivery, Priority
from radgateway.slo.objectives import (
    BUDGET_DAYS,
    BURN_PAIRS,
    CRITICAL_SHARE,
    WARNING_SHARE,
    Indicator,
    Objective,
)
from radgateway.slo.promql import days, edge, number, percent, seconds
from radgateway.slo.rules import BUDGET_SHORT
from radgateway.slo.settings import Settings
from radgateway.slo.yaml_text import Value

ALERTS_GROUP: Final = "radgateway-alerts"


def alerts(settings: Settings) -> tuple[Alert, ...]:
    """All alerts, the strategy's first and in its order."""
    return (
        *_errors(settings),
        *_latency(settings),
        *_budget(settings),
        *_providers(settings),
        *_capacity(),
        *_burn_rates(settings),
        *_watching(settings),
    )


def alerting_group(settings: Settings) -> Value:
    """All alerts as a group of a rule file."""
    rules = [alert.as_yaml(settings) for alert in alerts(settings)]
    return {"name": ALERTS_GROUP, "interval": "30s", "rules": rules}


def burn_name(long: str) -> str:
    """The name of a burn pair's alert."""
    return f"BurnRate{long}"


def _errors(settings: Settings) -> Iterator[Alert]:
    yield Alert(
        name="HighErrorRate",
        expr=f"rad_gateway:error_ratio:rate5m > 0.02\n{_enough(settings, '5m')}",
        hold="5m",
        priority="P1",
        category="error_rate",
        delivery="low_urgency",
        runbook="error-rate-spike",
        summary="More than 2 % of requests fail.",
        description="{{ $value | humanizePercentage }} of the requests of the last five minutes "
        "ended in a 5xx or broke off.",
        action="Find which errors, since when, and of whom: a release, a provider, or all of it.",
        measures="failing_ratio",
    )
    low = f"1 - rad_gateway:error_ratio:rate2m < 0.99\n{_enough(settings, '2m')}"
    yield Alert(
        name="AvailabilityDrop",
        expr=f'({_indented(low)})\nor on (job)\navg by (job) (up{{job="{settings.job}"}}) < 0.5',
        hold="2m",
        priority="P1",
        category="availability",
        delivery="page",
        runbook="availability-degradation",
        summary="The gateway is less than 99 % available.",
        description="{{ $value | humanizePercentage }} of the requests are served, or of the "
        "instances can be reached.",
        action="See whether instances answer, then take the failing ones out or roll back.",
        measures="served_ratio",
    )


def _latency(settings: Settings) -> Iterator[Alert]:
    for name, objective, indicator in settings.objectives.latencies():
        if name.endswith("_p95"):
            yield _high_latency(settings, name, objective, indicator)


def _high_latency(
    settings: Settings, name: str, objective: Objective, indicator: Indicator
) -> Alert:
    limit, floor = objective.alert_above_s, settings.least_bad
    count = f"sum by (job) (rate({indicator.metric}_count[5m]))"
    fast = f'sum by (job) (rate({indicator.metric}_bucket{{le="{edge(limit)}"}}[5m]))'
    return Alert(
        name="HighLatency",
        expr=f"rad_gateway:{indicator.label}_seconds:p95_rate5m > {number(limit)}\n"
        f"and on (job)\n300 * ({count} - {fast}) >= {floor}",
        hold="10m",
        priority="P2",
        category="latency",
        delivery="chat",
        runbook="latency-investigation",
        summary=f"The 95th percentile of the {indicator.words} is over {number(limit)} s.",
        description='One request in 20 takes {{ $value | printf "%.2f" }} s or more.',
        action="Tell apart who is slow: the gateway's event loop, a queue, or a provider.",
        more_labels={"sli": indicator.label, "slo": name},
    )


def _budget(settings: Settings) -> Iterator[Alert]:
    objective = settings.objectives.availability
    long = f"{BUDGET_DAYS}d"
    spent = f"/ {number(objective.budget)} * {BUDGET_DAYS} / {objective.window_days}"
    ways: tuple[tuple[str, Decimal, Priority, Delivery, str], ...] = (
        (
            "ErrorBudgetBurn",
            WARNING_SHARE,
            "P2",
            "email",
            "Find what has been failing all week and give it precedence over new things.",
        ),
        (
            "ErrorBudgetCritical",
            CRITICAL_SHARE,
            "P1",
            "page",
            "Stop releasing anything but repairs, and mend what spends the budget.",
        ),
    )
    for name, share, priority, delivery, action in ways:
        over = f"{spent} > {number(share)}"
        yield Alert(
            name=name,
            expr=f"rad_gateway:error_ratio:rate{long} {over}\n"
            f"and on (job)\nrad_gateway:error_ratio:rate{BUDGET_SHORT} {over}\n"
            f"{_enough(settings, long)}",
            priority=priority,
            category="availability",
            delivery=delivery,
            runbook="error-budget",
            summary=f"{percent(share)} of the error budget of {objective.window_days} days is "
            f"spent within {BUDGET_DAYS}.",
            description="{{ $value | humanizePercentage }} of the error budget went in seven days.",
            action=action,
            more_labels={"slo": "availability"},
        )


def _providers(settings: Settings) -> Iterator[Alert]:
    bad = f"300 * rad_gateway:provider_requests_bad:rate5m >= {settings.least_bad}"
    yield Alert(
        name="ProviderDegraded",
        expr=f"rad_gateway:provider_error_ratio:rate5m > 0.1\nand on (job, provider)\n{bad}",
        hold="5m",
        priority="P3",
        category="error_rate",
        delivery="chat",
        runbook="provider-failure",
        summary="More than 10 % of the attempts at {{ $labels.provider }} fail.",
        description="{{ $value | humanizePercentage }} of the attempts at {{ $labels.provider }} "
        "failed or were refused in the last five minutes.",
        action="The gateway has gone over to others already. See that they carry the load.",
    )
    yield Alert(
        name="CircuitBreakerOpen",
        # Each replica judges by itself, so one of them is enough to be told.
        expr="max by (job, provider) (rad_gateway_circuit_breaker_open) == 1",
        # It half-opens every half minute: one alert for one outage, not one a minute.
        keep="5m",
        priority="P2",
        category="error_rate",
        delivery="chat",
        runbook="circuit-breaker",
        summary="The circuit breaker of {{ $labels.provider }} is open: its requests go elsewhere.",
        description="At least one replica keeps callers away from {{ $labels.provider }}, or did "
        "within the last five minutes.",
        action="Nothing has to be done to let it recover. Isolate it by hand if it comes and goes.",
    )


def _capacity() -> Iterator[Alert]:
    yield Alert(
        name="HighMemoryUsage",
        # A limit of nothing is one that is not known.
        expr="process_resident_memory_bytes\n"
        "/ on (job, instance) (rad_gateway_memory_limit_bytes > 0) > 0.8",
        hold="5m",
        priority="P3",
        category="infrastructure",
        delivery="chat",
        runbook="capacity",
        summary="{{ $labels.instance }} uses more than 80 % of its memory.",
        description="{{ $labels.instance }} uses {{ $value | humanizePercentage }} of the memory "
        "it may use: the container's limit, else the machine's.",
        action="Add a replica or raise the limit before the kernel ends the process.",
    )
    yield Alert(
        name="DBConnectionExhausted",
        # A pool of none is a ledger that has no pool.
        expr='sum by (job, instance) (rad_gateway_db_connections{state="in_use"})\n'
        ">= on (job, instance) (rad_gateway_db_connections_max > 0)",
        hold="1m",
        priority="P1",
        category="database",
        delivery="page",
        runbook="database",
        summary="{{ $labels.instance }} has no connection to the usage database left.",
        description="All {{ $value }} connections of {{ $labels.instance }} are in use. Requests "
        "are served; usage rows wait in the journal.",
        action="Find what holds the connections: locks, slow statements, or a server that hangs.",
    )
    yield Alert(
        name="SecretsStale",
        # Several refreshes at the default interval; a day remains until the last known expire.
        expr="max by (job, instance) (rad_gateway_secrets_age_seconds) > 600",
        hold="5m",
        priority="P2",
        category="infrastructure",
        delivery="chat",
        runbook="secrets",
        summary="{{ $labels.instance }} can't read the secrets store.",
        description="{{ $labels.instance }} serves with secrets that are {{ $value }} s old. "
        "Once they are older than max_stale_s it refuses all requests.",
        action="Bring the store back, or the way to it. Until then no rotation comes into force.",
    )


def _burn_rates(settings: Settings) -> Iterator[Alert]:
    objective = settings.objectives.availability
    ways: tuple[tuple[Priority, Delivery], ...] = (
        ("P1", "page"),
        ("P1", "page"),
        ("P2", "chat"),
        ("P3", "email"),
    )
    for pair, (priority, delivery) in zip(BURN_PAIRS, ways, strict=True):
        rate = number(objective.burn_rate(pair.share, days(pair.long)))
        limit = f"{rate} * {number(objective.budget)}"
        yield Alert(
            name=burn_name(pair.long),
            expr=f"rad_gateway:error_ratio:rate{pair.long} > {limit}\n"
            f"and on (job)\nrad_gateway:error_ratio:rate{pair.short} > {limit}\n"
            f"{_enough(settings, pair.long)}",
            hold=pair.hold,
            priority=priority,
            category="availability",
            delivery=delivery,
            runbook="error-budget",
            summary=f"The error budget burns {rate} times as fast as it may: "
            f"{percent(pair.share)} of it in {pair.long}.",
            description="{{ $value | humanizePercentage }} of the requests of the last "
            f"{pair.long} failed, and it goes on.",
            action="Treat it as what is failing now: start with the error rate's runbook."
            if delivery == "page"
            else "Find what fails a little all the time, and mend it in working hours.",
            more_labels={"slo": "availability", "burn": f"{rate}x"},
            measures="failing_ratio",
        )


def _watching(settings: Settings) -> Iterator[Alert]:
    yield Alert(
        name="RadGatewayAbsent",
        expr=f'absent(up{{job="{settings.job}"}})\n'
        f'or absent(rad_gateway_requests_total{{job="{settings.job}"}})',
        hold="5m",
        priority="P1",
        category="availability",
        delivery="page",
        runbook="monitoring",
        summary="Nothing is known of the gateway.",
        description=f"Prometheus has no target or no requests of the job {settings.job}. "
        "No other alert can fire meanwhile.",
        action="Ask the gateway itself whether it serves, then find why it is not scraped.",
    )
    failures, missed = (
        f'sum by (job, rule_group) (increase({metric}{{rule_group=~".*;radgateway-.*"}}[10m])) > 0'
        for metric in (
            "prometheus_rule_evaluation_failures_total",
            "prometheus_rule_group_iterations_missed_total",
        )
    )
    yield Alert(
        name="RuleEvaluationFailures",
        expr=f"{failures}\nor\n{missed}",
        priority="P2",
        category="infrastructure",
        delivery="chat",
        runbook="monitoring",
        summary="Prometheus fails to evaluate rules of the gateway.",
        description="{{ $labels.rule_group }} failed or was left out. Alerts of it may be missing.",
        action="Read the error at /rules of Prometheus; give it more memory if it is late.",
    )
    yield Alert(
        name="Watchdog",
        expr="vector(1)",
        priority="none",
        category="infrastructure",
        delivery="watchdog",
        runbook="monitoring",
        summary="Alerting works.",
        description="This alert always fires. Whoever receives it raises the alarm when it stops.",
        action="None while it fires.",
    )


def _enough(settings: Settings, window: str) -> str:
    """The floor: at least some bad requests within the window."""
    bad = f"{seconds(window)} * rad_gateway:requests_bad:rate{window}"
    return f"and on (job)\n{bad} >= {settings.least_bad}"


def _indented(expr: str) -> str:
    return "\n" + "".join(f"  {line}\n" for line in expr.splitlines())
