"""The rules, held against the declared metrics and run by the real promtool."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from slo.promql_labels import known_to, labels_of, measured
from slo_tools import PACK, run, written

from radgateway.routing.trial import FAILOVER_STATUSES
from radgateway.slo.alert import RESPONSES, SEVERITIES, Alert
from radgateway.slo.alerts import alerts
from radgateway.slo.objectives import Objective, Objectives
from radgateway.slo.pack import artefacts
from radgateway.slo.promql import edge
from radgateway.slo.rules import PROVIDER_BAD, groups
from radgateway.slo.settings import Settings
from radgateway.telemetry.declared import BUCKETS

DEFAULT = Settings()
OTHERS = Settings(
    job="gateway-eu",
    least_bad=2,
    objectives=Objectives(
        availability=Objective(target=Decimal("0.999"), window_days=28),
        error_rate=Objective(target=Decimal("0.98"), window_days=14),
        first_token_p95=Objective(target=Decimal("0.9"), window_days=7, below_s=Decimal(5)),
        first_token_p99=Objective(target=Decimal("0.99"), window_days=7, below_s=Decimal(20)),
    ),
)
SUITES = sorted(name for name in artefacts() if name.startswith("prometheus/tests/"))
STRATEGY = {
    "HighErrorRate": ("P1", "critical", "5m", "error-rate-spike"),
    "AvailabilityDrop": ("P1", "critical", "2m", "availability-degradation"),
    "HighLatency": ("P2", "warning", "10m", "latency-investigation"),
    "ErrorBudgetBurn": ("P2", "warning", "", "error-budget"),
    "ErrorBudgetCritical": ("P1", "critical", "", "error-budget"),
    "ProviderDegraded": ("P3", "info", "5m", "provider-failure"),
    "CircuitBreakerOpen": ("P2", "warning", "", "circuit-breaker"),
    "HighMemoryUsage": ("P3", "info", "5m", "capacity"),
    "DBConnectionExhausted": ("P1", "critical", "1m", "database"),
}
"""The strategy's nine: priority, what it is called, how long, and the runbook (decision 12). How
long is ours where it does not say. Its actions are in `test_routing.py`."""


@pytest.mark.parametrize("settings", [DEFAULT, OTHERS], ids=["default", "others"])
def test_every_query_reads_what_is_declared_or_recorded_before(settings: Settings) -> None:
    """No metric, label or bucket that nothing makes; no record is read before it is written."""
    known = known_to(settings)
    edges = {edge(Decimal(repr(each))) for each in BUCKETS}
    for alert in alerts(settings):
        labels = labels_of(alert.expr, known)
        assert "job" in labels or alert.name == "Watchdog", alert.name
        words = " ".join(alert.annotations(settings).values())
        assert set(re.findall(r"\$labels\.(\w+)", words)) <= labels, alert.name
        assert set(re.findall(r'le="([^"]+)"', alert.expr)) <= edges
    for group in groups(settings):
        for record in group.records:
            assert record.name.startswith("rad_gateway:")
            assert "job" in known[record.name], record.name
            assert set(re.findall(r'le="([^"]+)"', record.expr)) <= edges


def test_the_walk_finds_what_is_wrong() -> None:
    """The check above is worth something: it misses no metric, label or grouping."""
    known = measured()
    for query, message in (
        ("rad_gateway_request_total", "nobody makes"),
        ('rad_gateway_requests_total{code="500"}', "has no label code"),
        ("sum by (provider) (rate(rad_gateway_requests_total[5m]))", r"\['provider'\]"),
        ("up / on (provider) up", r"\['provider'\] on the left"),
        ("up / rad_gateway_circuit_breaker_open", r"\['provider'\] in"),
        ("histogram_quantile(0.9, rate(rad_gateway_overhead_seconds_count[5m]))", "no buckets"),
    ):
        with pytest.raises(AssertionError, match=message):
            labels_of(query, known)


def test_buckets_are_named_as_the_client_library_names_them() -> None:
    """`le="1.0"`: a query for `le="1"` would find nothing."""
    registry = CollectorRegistry()
    Histogram("h", "h", registry=registry, buckets=BUCKETS).observe(1)
    shown = set(re.findall(rb'le="([^"]+)"', generate_latest(registry))) - {b"+Inf"}
    assert {edge(Decimal(repr(each))).encode() for each in BUCKETS} == shown


def test_the_strategys_nine_are_there_as_it_wants_them() -> None:
    """Names, priorities and runbooks are the strategy's, in its order, before all others."""
    found = {
        alert.name: (alert.priority, alert.labels["severity"], alert.hold, alert.runbook)
        for alert in alerts(DEFAULT)
    }
    assert list(found)[:9] == list(STRATEGY)
    assert {name: found[name] for name in STRATEGY} == STRATEGY


@pytest.mark.parametrize("alert", alerts(DEFAULT), ids=lambda alert: alert.name)
def test_an_alert_says_what_a_person_needs(alert: Alert) -> None:
    """How bad, whose, what, what to do, how soon, and where to read on."""
    assert alert.labels["severity"] == SEVERITIES[alert.priority]
    assert alert.labels["team"] in ("team_echo", "platform_team")
    words = alert.annotations(DEFAULT)
    assert words["respond"] == RESPONSES[alert.priority]
    assert words["runbook_url"].endswith(f"/{alert.runbook}/")
    for name in ("summary", "description", "action"):
        assert words[name].endswith("."), name


def test_what_makes_the_router_go_elsewhere_is_bad_of_a_provider() -> None:
    """A provider that refuses everybody is degraded, even where it answers 401 and not 500."""
    bad = re.compile(PROVIDER_BAD)
    assert all(bad.fullmatch(str(status)) for status in FAILOVER_STATUSES)
    assert not any(bad.fullmatch(status) for status in ("200", "400", "404", "422", "499"))


def test_the_rules_are_valid_and_lint_free() -> None:
    """As Prometheus reads them, duplicates included."""
    files = sorted((PACK / "prometheus" / "rules").glob("*.yml"))
    assert len(files) == 2
    checked = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *files)
    assert checked.returncode == 0, checked.stderr + checked.stdout


@pytest.mark.parametrize("name", SUITES)
def test_the_rules_pass_their_tests(name: str) -> None:
    """Every alert fires, waits, stays silent, and does so at its boundary."""
    tested = run("promtool", "test", "rules", PACK / name)
    assert tested.returncode == 0, tested.stderr + tested.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", SUITES)
def test_other_objectives_bring_rules_that_pass_their_tests_too(name: str, tmp_path: Path) -> None:
    """99.9 % over 28 days, a longer window of errors, slower streams, another job."""
    written(dict(artefacts(OTHERS)), tmp_path)
    tested = run("promtool", "test", "rules", tmp_path / name)
    assert tested.returncode == 0, tested.stderr + tested.stdout


def test_every_alert_has_cases_of_fire_and_of_silence() -> None:
    """An alert that is added without them fails here."""
    fires: set[str] = set()
    silent: set[str] = set()
    for name in SUITES:
        for test in yaml.safe_load((PACK / name).read_text())["tests"]:
            for check in test.get("alert_rule_test", ()):
                (fires if check["exp_alerts"] else silent).add(check["alertname"])
    names = {alert.name for alert in alerts(DEFAULT)}
    assert fires == names
    assert silent == names - {"Watchdog"}


SPOILED = [
    ("HighErrorRate", "rate5m > 0.02", "rate5m > 0.0201"),
    ("HighErrorRate", "300 * rad_gateway:requests_bad:rate5m >= 5", "vector(1) >= 0"),
    ("HighErrorRate", "requests_bad:rate5m >= 5", "requests_bad:rate5m >= 4"),
    ("AvailabilityDrop", "requests_bad:rate2m >= 5", "requests_bad:rate2m >= 6"),
    ("AvailabilityDrop", "rate2m < 0.99", "rate2m < 0.9901"),
    ("AvailabilityDrop", "< 0.5", "<= 0.5"),
    ("HighLatency", "overhead_seconds:p95_rate5m > 1.2", "overhead_seconds:p95_rate5m > 1"),
    ("HighLatency", "for: 10m", "for: 9m"),
    ("ProviderDegraded", "provider_error_ratio:rate5m > 0.1", "provider_error_ratio:rate5m > 0.11"),
    ("ProviderDegraded", "5..|401|403|408|429", "5.."),
    ("CircuitBreakerOpen", "keep_firing_for: 5m", "keep_firing_for: 1m"),
    ("HighMemoryUsage", "> 0.8", ">= 0.8"),
    ("HighMemoryUsage", "bytes > 0)", "bytes >= 0)"),
    (
        "DBConnectionExhausted",
        "(rad_gateway_db_connections_max > 0)",
        "rad_gateway_db_connections_max",
    ),
    ("SecretsStale", "> 600", ">= 600"),
    ("BurnRate1h", "rate1h > 14.4 * 0.005", "rate1h > 14.4 * 0.00501"),
    ("BurnRate1h", "rate5m > 14.4 * 0.005", "rate5m >= 0"),
    ("BurnRate1h", "requests_bad:rate1h >= 5", "requests_bad:rate1h >= 4"),
    ("BurnRate1d", "requests_bad:rate1d >= 5", "requests_bad:rate1d >= 6"),
    ("ErrorBudgetBurn", "requests_bad:rate7d >= 5", "requests_bad:rate7d >= 6"),
    ("BurnRate1d", "rate2h > 3 * 0.005", "rate2h >= 0"),
    ("BurnRate3d", "> 1 * 0.005", "> 0.99 * 0.005"),
    ("ErrorBudgetBurn", "* 7 / 30 > 0.3", "* 7 / 31 > 0.3"),
    ("ErrorBudgetCritical", "requests_bad:rate5m[7d]", "requests_bad:rate5m[6d]"),
    ("RadGatewayAbsent", "or absent(rad_gateway_requests_total", "and absent(up"),
    ("RuleEvaluationFailures", ".*;radgateway-.*", ".*"),
    ("RuleEvaluationFailures", "[10m]", "[5m]"),
    (None, "+ (sum by", "- (sum by"),
    (None, "or 0 * rad_gateway:requests:rate5m", ""),
    (None, "5..", "[45].."),
    (None, "[2h]", "[1h]"),
]
"""The alert whose cases have to notice (None: those of the records), and what is spoiled."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("alert", "right", "wrong"), SPOILED, ids=[f"{s[0]} {s[2]}" for s in SPOILED]
)
def test_the_cases_notice_a_rule_that_is_wrong(
    alert: str | None, right: str, wrong: str, tmp_path: Path
) -> None:
    """A threshold a hair off, a window, a floor or a wait that is missing: each fails a case."""
    pack = dict(artefacts())
    rules = [name for name in pack if "/rules/" in name]
    assert any(right in pack[name] for name in rules)
    for name in rules:
        pack[name] = pack[name].replace(right, wrong)
    documents: list[Any] = [yaml.safe_load(pack[name]) for name in SUITES]
    for document in documents:
        document["tests"] = [test for test in document["tests"] if _watched(test) == alert]
        if document["tests"]:
            pack["prometheus/tests/kept.test.yml"] = yaml.safe_dump(document)
    written(pack, tmp_path)
    tested = run("promtool", "test", "rules", tmp_path / "prometheus/tests/kept.test.yml")
    assert tested.returncode == 1
    assert "FAILED" in tested.stdout + tested.stderr


def _watched(test: Any) -> str | None:
    """The alert a case is about."""
    checks = test.get("alert_rule_test")
    return checks[0]["alertname"] if checks else None


def test_groups_are_evaluated_often_enough_to_be_read() -> None:
    """An instant query looks five minutes back, and some groups read what others recorded."""
    documents: list[Any] = [
        yaml.safe_load(text) for name, text in artefacts().items() if "/rules/" in name
    ]
    for document in documents:
        for group in document["groups"]:
            assert group["interval"] in ("30s", "2m")
