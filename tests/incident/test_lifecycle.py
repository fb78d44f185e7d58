"""What may follow what. Properties: the timeline is ordered, and no transition is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from incident.stories import BEGAN, alert, incident

from radgateway.incident import lifecycle
from radgateway.incident.lifecycle import NotAllowed
from radgateway.incident.record import ALERTS_MAX, ENTRIES_MAX, OPEN, Alert, Incident

Step = Callable[[Incident, float], Incident]
NAMES = ("one", "two", "three")


def said(record: Incident, now: float, *alerts: Alert) -> Incident:
    """What Alertmanager says of some alerts of a group whose others are as they were."""
    new = {each.fingerprint: each for each in (*record.alerts, *alerts)}
    fires = any(each.firing for each in new.values())
    return lifecycle.alerted(record, alerts, now, group_fires=fires)


STEPS: dict[str, Step] = {
    "acknowledge": lambda i, t: lifecycle.acknowledged(i, t, "alice"),
    "severity": lambda i, t: lifecycle.graded(i, "SEV-1", t, "alice", ""),
    "respond": lambda i, t: lifecycle.responding(i, t, "alice"),
    "resolve": lambda i, t: lifecycle.resolved(i, t, "alice"),
    "useful": lambda i, t: lifecycle.judged(i, "useful", t, "alice"),
    "close": lambda i, t: lifecycle.closed(i, "https://pm.example.invalid/7", t, "alice"),
    "note": lambda i, t: lifecycle.noted(i, t, "alice", "note", "seen"),
    **{
        f"{name} {'fires' if firing else 'ends'}": (
            lambda i, t, name=name, firing=firing: said(  # type: ignore[misc]
                i, t, alert(firing=firing, fingerprint=name)
            )
        )
        for name in NAMES
        for firing in (True, False)
    },
}
FORWARD = {
    "detected": {"detected", "triaged", "responding", "resolved"},
    "triaged": {"triaged", "responding", "resolved"},
    "responding": {"responding", "resolved"},
    "resolved": {"resolved", "closed"},
    "closed": {"closed"},
}


@given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.floats(-100, 1_000)), max_size=40))
def test_nothing_is_lost_and_all_is_in_order(steps: list[tuple[str, float]]) -> None:
    """Whatever happens, whatever the clock does: ordered lines, and one for each transition."""
    now, record = BEGAN + 60, incident()
    for name, later in steps:
        before, now = record, now + later
        try:
            record = STEPS[name](before, now)
        except NotAllowed:
            continue
        assert record.timeline[: len(before.timeline)] == before.timeline
        times = [entry.at for entry in record.timeline]
        assert times == sorted(times)
        new = [entry.what for entry in record.timeline[len(before.timeline) :]]
        if record.state != before.state:
            assert new
            refired = "reopened" in new
            assert refired or record.state in FORWARD[before.state]
            assert not refired or (name.endswith("fires") and record.state == "detected")
        assert (record.resolved_at is not None) == (record.state in ("resolved", "closed"))
        assert (record.closed_at is not None) == (record.state == "closed")
        assert record.open == (record.state in OPEN)
        if before.acknowledged_at is not None:
            assert record.acknowledged_at == before.acknowledged_at


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), min_size=1, max_size=30))
def test_told_twice_is_told_once(told: list[tuple[str, bool]]) -> None:
    """Alertmanager repeats itself: the second time changes nothing."""
    record = incident()
    for step, (name, firing) in enumerate(told):
        record = STEPS[f"{name} {'fires' if firing else 'ends'}"](record, BEGAN + 100 + step)
        again = STEPS[f"{name} {'fires' if firing else 'ends'}"](record, BEGAN + 100 + step)
        assert again == record


def test_it_is_over_when_the_last_alert_has_ended() -> None:
    """One of two is not enough."""
    record = incident(alert(fingerprint="one"), alert(fingerprint="two"))
    record = STEPS["one ends"](record, BEGAN + 100)
    assert record.open
    record = STEPS["two ends"](record, BEGAN + 200)
    assert (record.state, record.resolved_at) == ("resolved", BEGAN + 200)


def test_the_word_on_the_group_counts_for_alerts_that_are_not_shown() -> None:
    """Of a large group some alerts are sent: what is not shown is not over, or is with the rest."""
    record = incident(alert(fingerprint="one"), alert(fingerprint="two"))
    ended = [alert(fingerprint="one", firing=False), alert(fingerprint="two", firing=False)]
    others_fire = lifecycle.alerted(record, ended, BEGAN + 100, group_fires=True)
    assert others_fire.open
    all_over = lifecycle.alerted(record, ended[:1], BEGAN + 100, group_fires=False)
    assert all_over.state == "resolved"
    assert [each.firing for each in all_over.alerts] == [False, False]


def test_an_alert_that_fires_again_opens_it_again() -> None:
    """And it has to be acknowledged anew, though the first time stands."""
    record = STEPS["acknowledge"](incident(alert(fingerprint="one")), BEGAN + 90)
    record = STEPS["one ends"](record, BEGAN + 100)
    record = STEPS["one fires"](record, BEGAN + 200)
    assert (record.state, record.resolved_at) == ("detected", None)
    assert record.acknowledged_at == BEGAN + 90
    assert STEPS["acknowledge"](record, BEGAN + 210).state == "triaged"


def test_what_a_person_has_called_over_stays_so_while_it_is_only_repeated() -> None:
    """Alertmanager repeats a firing alert every hour; that is no news to whoever resolved it."""
    record = STEPS["resolve"](incident(alert(fingerprint="one")), BEGAN + 100)
    assert STEPS["one fires"](record, BEGAN + 200) == record
    assert STEPS["two fires"](record, BEGAN + 200).open


def test_it_becomes_worse_by_itself_and_never_better() -> None:
    """Half mended is not over; and after a person's word, alerts have none."""
    record = incident(alert(ratio=0.1))
    assert record.severity == "SEV-2"
    record = said(record, BEGAN + 100, alert(ratio=1.0))
    assert record.severity == "SEV-1"
    record = said(record, BEGAN + 200, alert(ratio=0.1))
    assert record.severity == "SEV-1"
    record = lifecycle.graded(record, "SEV-3", BEGAN + 300, "alice", "a test")
    record = said(record, BEGAN + 400, alert(ratio=1.0))
    assert record.severity == "SEV-3"


def test_it_is_closed_reviewed_and_understood() -> None:
    """Not without a verdict; a SEV-1 or 2 not without a postmortem, unless there was nothing."""
    record = STEPS["resolve"](incident(), BEGAN + 100)
    with pytest.raises(NotAllowed, match="useful or a false positive"):
        lifecycle.closed(record, "https://pm.example.invalid", BEGAN + 200, "alice")
    useful = lifecycle.judged(record, "useful", BEGAN + 200, "alice")
    with pytest.raises(NotAllowed, match="A SEV-2 is closed with"):
        lifecycle.closed(useful, None, BEGAN + 300, "alice")
    assert STEPS["close"](useful, BEGAN + 300).postmortem == "https://pm.example.invalid/7"
    wrong = lifecycle.judged(record, "false_positive", BEGAN + 200, "alice")
    assert lifecycle.closed(wrong, None, BEGAN + 300, "alice").state == "closed"


@pytest.mark.parametrize("step", ["acknowledge", "respond", "resolve", "severity", "close"])
def test_what_is_closed_stays_so(step: str) -> None:
    """The message says where one can do what was asked."""
    record = incident()
    for each in ("resolve", "useful", "close"):
        record = STEPS[each](record, BEGAN + 100)
    with pytest.raises(NotAllowed, match=r"INC-7 is closed: one can only \w+"):
        STEPS[step](record, BEGAN + 200)


def test_all_is_bounded() -> None:
    """Lines that don't fit are counted, alerts beyond the bound are left out."""
    record = incident()
    for step in range(ENTRIES_MAX + 20):
        record = lifecycle.noted(record, BEGAN + 100 + step, "alice", "note", "x" * 10_000)
    assert len(record.timeline) == ENTRIES_MAX
    assert len(record.timeline[5].text) == 4_000
    assert record.timeline[-1].text == "23 lines left out"
    many = [alert(fingerprint=str(number)) for number in range(ALERTS_MAX + 50)]
    assert len(lifecycle.detected("g", many, BEGAN).alerts) == ALERTS_MAX
    assert len(said(incident(), BEGAN + 100, *many).alerts) == ALERTS_MAX


def test_a_person_may_report_what_no_alert_has_seen() -> None:
    """With a severity of their own, which no alert changes."""
    record = lifecycle.reported("A key has leaked", "SEV-1", "", BEGAN, "alice")
    assert (record.severity, record.state, record.by_hand) == ("SEV-1", "detected", True)
    assert record.timeline[0].by == "alice"
    assert record.priority is None
