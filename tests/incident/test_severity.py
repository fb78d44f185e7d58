"""How bad: the strategy's table, and the way from priorities to severities."""

from __future__ import annotations

import pytest
from incident.stories import alert

from radgateway.incident.record import Alert, Severity
from radgateway.incident.severity import MATRIX, SEVERITIES, priority_of, triage, worse
from radgateway.slo.alerts import alerts
from radgateway.slo.settings import Settings


def test_the_matrix_is_the_strategys() -> None:
    """Response times and communication of its 7.1, written out by hand."""
    assert {
        name: (duty.response_s, duty.audiences, duty.status_page) for name, duty in MATRIX.items()
    } == {
        "SEV-1": (300, ("war_room", "executives"), True),
        "SEV-2": (900, ("war_room",), True),
        "SEV-3": (3_600, ("tickets",), False),
        "SEV-4": (86_400, ("backlog",), False),
    }


CASES: list[tuple[Alert, Severity]] = [
    (alert(priority="P1"), "SEV-2"),
    (alert(priority="P1", ratio=0.26), "SEV-2"),
    (alert(priority="P1", ratio=0.98), "SEV-2"),
    (alert(priority="P1", ratio=0.99), "SEV-1"),
    (alert(priority="P1", ratio=1.0), "SEV-1"),
    (alert("RadGatewayAbsent"), "SEV-1"),
    (alert(priority="P2"), "SEV-3"),
    (alert(priority="P2", ratio=0.25), "SEV-3"),
    (alert(priority="P2", ratio=0.2501), "SEV-2"),
    (alert(priority="P3", ratio=1.0), "SEV-4"),
]


@pytest.mark.parametrize(("one", "severity"), CASES)
def test_an_alert_is_as_bad_as_its_priority_and_ratio(one: Alert, severity: Severity) -> None:
    """P1 is SEV-1 or 2 by how many are served, P2 is SEV-3 unless over a quarter fail, P3 SEV-4."""
    assert triage([one]) == severity


def test_the_worst_counts() -> None:
    """A group is as bad as its worst alert, and nothing is as little as can be."""
    assert triage([alert(priority="P3"), alert(priority="P1"), alert(priority="P2")]) == "SEV-2"
    assert triage([]) == "SEV-4"


def test_severities_are_ordered() -> None:
    """Each is worse than all that follow it, and than no other."""
    for index, severity in enumerate(SEVERITIES):
        found = [other for other in SEVERITIES if worse(severity, other)]
        assert found == list(SEVERITIES[index + 1 :])


@pytest.mark.parametrize(
    ("labels", "priority"),
    [
        ({"priority": "P2", "severity": "critical"}, "P2"),
        ({"priority": "none"}, None),
        ({"severity": "critical"}, "P1"),
        ({"severity": "warning"}, "P2"),
        ({"severity": "page"}, "P3"),
        ({}, "P3"),
    ],
)
def test_alerts_of_others_have_a_priority_too(labels: dict[str, str], priority: str | None) -> None:
    """The usual label counts where ours is missing; proof that alerting works is no alert."""
    assert priority_of(labels) == priority


def test_every_generated_alert_of_requests_says_how_many_fail() -> None:
    """Those whose value is a share of requests have the annotation that triage reads."""
    measured = {each.name: each.measures for each in alerts(Settings()) if each.measures}
    burns = {f"BurnRate{window}": "failing_ratio" for window in ("1h", "6h", "1d", "3d")}
    expected = {"HighErrorRate": "failing_ratio", "AvailabilityDrop": "served_ratio", **burns}
    assert measured == expected
