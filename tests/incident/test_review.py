"""The weekly review: what is not marked is not measured, and what is not measured is no pass."""

from __future__ import annotations

import pytest
from incident.stories import BEGAN, alert, incident
from msgspec.structs import replace

from radgateway.incident import lifecycle
from radgateway.incident.record import Incident, Verdict
from radgateway.incident.review import review


def marked(count: int, verdict: Verdict | None, priority: str = "P1") -> list[Incident]:
    one = replace(incident(alert(priority=priority)), verdict=verdict)  # type: ignore[arg-type]
    return [one] * count


@pytest.mark.parametrize(
    ("useful", "wrong", "unmarked", "verdict"),
    [
        (20, 0, 0, "met"),
        (96, 4, 0, "met"),
        (95, 5, 0, "missed"),
        (20, 0, 1, "unmeasurable"),
        (0, 0, 3, "unmeasurable"),
        (10, 5, 20, "missed"),
        (0, 0, 0, "met"),
    ],
)
def test_the_share_of_false_positives(useful: int, wrong: int, unmarked: int, verdict: str) -> None:
    """Under 5 %, of all; missed also where the unmarked could not save it."""
    incidents = [
        *marked(useful, "useful"),
        *marked(wrong, "false_positive"),
        *marked(unmarked, None),
    ]
    assert review(incidents).verdict == verdict


def test_only_a_p1_counts_for_the_target() -> None:
    """The others are shown, with the alerts that make the most noise first."""
    incidents = [
        *marked(1, "useful"),
        *marked(3, "false_positive", "P3"),
        replace(incident(alert("HighLatency", "P2")), verdict="useful"),
        lifecycle.reported("A leak", "SEV-1", "", BEGAN, "alice"),
    ]
    found = review(incidents)
    assert (found.verdict, found.incidents) == ("met", 6)
    assert [tally.false_positives for tally in found.by_priority] == [0, 0, 3]
    assert [tally.name for tally in found.by_alert] == ["HighErrorRate", "HighLatency"]
    assert found.by_alert[0].ratio == 0.75


def test_late_answers_are_counted() -> None:
    """By the limit of the severity; what ended in time by itself is not late."""
    record = incident()  # SEV-2: 15 minutes, detected a minute after its beginning
    in_time = lifecycle.acknowledged(record, BEGAN + 60 + 900, "alice")
    late = lifecycle.acknowledged(record, BEGAN + 60 + 901, "alice")
    nobody = lifecycle.resolved(record, BEGAN + 3_000, "alice")
    by_itself = lifecycle.resolved(record, BEGAN + 100, "alice")
    found = review([in_time, late, nobody, by_itself])
    assert found.answered_late == 2
    assert found.acknowledge_s == 900.5
    assert found.resolve_s == 1_550
