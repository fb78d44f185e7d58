"""What ends a release, evaluated by the real promtool on series of two tracks."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from slo.promql_labels import labels_of, measured
from slo_tools import run

from radgateway.slo.alerts import alerts
from radgateway.slo.settings import Settings
from radgateway.slo.triggers import COMPARISONS, TRIGGERS, Trigger, canary_tracks

ALL = {trigger.name: trigger for trigger in (*TRIGGERS, *COMPARISONS)}
TRACKS = canary_tracks("rad-gateway")
BY_TRACK = {
    name: labels | {"track"}
    for name, labels in {
        **measured(),
        "ALERTS": frozenset({"alertname", "alertstate", "service", "delivery"}),
    }.items()
}
EDGES = ("0.5", "1.0", "2.0", "5.0", "+Inf")
Series = dict[str, str]


def requests(track: str, *, good: int = 0, failed: int = 0, broken: int = 0) -> Series:
    """Counters that grow by so much a minute. A broken response has gone out under a 200."""
    of = f'job="rad-gateway",instance="{track}",track="{track}"'
    return {
        f'rad_gateway_requests_total{{{of},status="200"}}': f"0+{good + broken}x30",
        f'rad_gateway_requests_total{{{of},status="503"}}': f"0+{failed}x30",
        f"rad_gateway_responses_interrupted_total{{{of}}}": f"0+{broken}x30",
    }


def seconds(track: str, metric: str, within: str, a_minute: int = 1_000) -> Series:
    """A histogram all of whose samples lie below an edge, and above the one before."""
    of = f'job="rad-gateway",instance="{track}",track="{track}"'
    reached = EDGES.index(within)
    return {
        f'rad_gateway_{metric}_seconds_bucket{{{of},le="{edge}"}}': (
            f"0+{a_minute if place >= reached else 0}x30"
        )
        for place, edge in enumerate(EDGES)
    }


def alert(name: str, delivery: str) -> Series:
    """An alert that fires."""
    labels = f'alertname="{name}",alertstate="firing",service="rad-gateway",delivery="{delivery}"'
    return {f"ALERTS{{{labels}}}": "1x30"}


WATCHDOG = alert("Watchdog", "watchdog")
CLEAN = requests("canary", good=100) | requests("stable", good=900)
SLOW = seconds("canary", "overhead", "5.0")
LATE = seconds("canary", "time_to_first_token", "5.0")
CASES: list[tuple[str, Series, str]] = [
    ("error-rate", requests("canary", good=94, failed=3, broken=3), "failed"),
    ("error-rate", requests("canary", good=95, failed=5), "passed"),
    ("error-rate", requests("canary", good=100) | requests("stable", failed=900), "passed"),
    ("error-rate", requests("canary", good=1, failed=9), "unknown"),
    ("error-rate", requests("canary"), "unknown"),
    ("error-rate", requests("stable", good=900), "unknown"),
    ("availability", requests("canary", good=94, failed=3, broken=3), "failed"),
    ("availability", requests("canary", good=95, failed=5), "passed"),
    ("availability", {}, "unknown"),
    ("overhead-p95", CLEAN | SLOW, "failed"),
    ("overhead-p95", CLEAN | seconds("canary", "overhead", "2.0"), "passed"),
    ("overhead-p95", requests("canary", good=5) | SLOW, "unknown"),
    ("overhead-p95", CLEAN, "unknown"),
    ("overhead-p95", CLEAN | seconds("canary", "overhead", "2.0", 0), "unknown"),
    ("first-token-p95", CLEAN | LATE, "failed"),
    ("first-token-p95", CLEAN | seconds("canary", "time_to_first_token", "2.0"), "passed"),
    ("first-token-p95", CLEAN, "passed"),
    ("first-token-p95", CLEAN | seconds("canary", "time_to_first_token", "2.0", 0), "passed"),
    ("first-token-p95", requests("canary"), "unknown"),
    ("sev-1", WATCHDOG | alert("AvailabilityDrop", "page"), "failed"),
    ("sev-1", WATCHDOG | alert("ErrorBudgetCritical", "page"), "passed"),
    ("sev-1", WATCHDOG | alert("HighErrorRate", "low_urgency"), "passed"),
    ("sev-1", WATCHDOG, "passed"),
    ("sev-1", {}, "unknown"),
    (
        "error-rate-added",
        requests("canary", good=96, failed=4) | requests("stable", good=990, failed=10),
        "failed",
    ),
    (
        "error-rate-added",
        requests("canary", good=70, failed=30) | requests("stable", good=700, failed=300),
        "passed",
    ),
    ("error-rate-added", requests("canary", good=100), "unknown"),
    ("overhead-added", CLEAN | SLOW | seconds("stable", "overhead", "1.0"), "failed"),
    ("overhead-added", CLEAN | SLOW | seconds("stable", "overhead", "5.0"), "passed"),
    ("overhead-added", CLEAN | SLOW, "unknown"),
    ("first-token-added", CLEAN | LATE, "failed"),
    (
        "first-token-added",
        CLEAN | LATE | seconds("stable", "time_to_first_token", "5.0"),
        "passed",
    ),
]


def promtool(folder: Path, checks: list[tuple[Series, str, bool]]) -> Any:
    """Whether each expression has a sample after 20 minutes of its series."""
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": text} for name, text in series.items()],
            "promql_expr_test": [
                {
                    "expr": f"count({expr})",
                    "eval_time": "20m",
                    "exp_samples": [{"labels": "{}", "value": 1}] if there else [],
                }
            ],
        }
        for series, expr, there in checks
    ]
    file = folder / "triggers.test.yml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": tests}))
    return run("promtool", "test", "rules", file)


def test_each_trigger_fails_passes_and_knows_nothing_where_it_should(tmp_path: Path) -> None:
    """At 6 % and at 5 %, beyond and within an edge; too few requests are neither."""
    checks = []
    for name, series, verdict in CASES:
        expr, trigger = ALL[name].expr(TRACKS), ALL[name]
        checks.append((series, f"({expr}) {trigger.failed}", verdict == "failed"))
        checks.append((series, f"({expr}) {trigger.passed}", verdict == "passed"))
    assert {name for name, _, _ in CASES} == ALL.keys()
    tested = promtool(tmp_path, checks)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_promtool_would_find_a_wrong_expectation(tmp_path: Path) -> None:
    """The check above is worth something."""
    failing = requests("canary", good=50, failed=50)
    expr = f"({ALL['error-rate'].expr(TRACKS)}) {ALL['error-rate'].passed}"
    assert promtool(tmp_path, [(failing, expr, True)]).returncode == 1


@pytest.mark.parametrize("trigger", ALL.values(), ids=list(ALL))
def test_a_trigger_reads_what_is_declared(trigger: Trigger) -> None:
    """No metric or label that nothing makes; the result is one number without labels."""
    assert labels_of(trigger.expr(TRACKS), BY_TRACK) == frozenset()


def test_the_triggers_are_the_strategys() -> None:
    """Error rate over 5 % for 2 minutes, P95 over 2 s for 5, availability below 95 %, a SEV-1."""
    found = {trigger.name: (trigger.failed, trigger.hold) for trigger in TRIGGERS}
    assert found == {
        "error-rate": ("> 0.05", "2m"),
        "overhead-p95": ("> 2", "5m"),
        "first-token-p95": ("> 2", "5m"),
        "availability": ("< 0.95", ""),
        "sev-1": ("> 0", ""),
    }


def test_a_limit_crossed_for_so_long_ends_the_release() -> None:
    """The measurement at the end of `hold` is the first too many, at any pace."""
    assert ALL["error-rate"].failure_limit == 4
    assert ALL["availability"].failure_limit == 0
    hurried = replace(
        ALL["error-rate"], window="4s", hold="6s", interval="2s", limit=Decimal("0.1")
    )
    assert hurried.failure_limit == 3
    assert hurried.failed == "> 0.1"
    assert "[4s]" in hurried.expr(TRACKS)


def test_an_incident_is_an_alert_that_pages() -> None:
    """What the query asks of an alert's labels is what the alerts have."""
    labels = {alert.name: alert.labels for alert in alerts(Settings())}
    assert labels["Watchdog"]["service"] == labels["AvailabilityDrop"]["service"] == "rad-gateway"
    assert labels["ErrorBudgetCritical"]["delivery"] == "page"
