"""Reading Alertmanager's webhook: what is taken, and what is bounded."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from incident.stories import BEGAN, notification

from radgateway.incident.group import Webhook, alerts_of
from radgateway.incident.record import Alert


def read(body: Any) -> list[Alert]:
    return alerts_of(msgspec.json.decode(json.dumps(body), type=Webhook))


def test_an_alert_is_read() -> None:
    """Times, labels, words and the share that fails."""
    (one,) = read(notification(annotations={"failing_ratio": "0.0512", "runbook_url": "https://x"}))
    assert (one.name, one.priority, one.firing) == ("HighErrorRate", "P1", True)
    assert (one.started_at, one.ended_at, one.runbook) == (BEGAN, None, "https://x")
    assert one.bad_ratio == 0.0512


def test_an_end_is_read() -> None:
    """The year 1 of a firing alert is no end, and a resolved one has its own."""
    (one,) = read(notification(status="resolved"))
    assert (one.firing, one.ended_at) == (False, BEGAN + 600)


@pytest.mark.parametrize(
    ("said", "ratio"),
    [
        ({"served_ratio": "0.25"}, 0.75),
        ({"failing_ratio": "0.4", "served_ratio": "0.9"}, 0.4),
        ({"failing_ratio": "7"}, 1.0),
        ({"failing_ratio": "NaN"}, None),
        ({"failing_ratio": "{{ $value }}"}, None),
        ({}, None),
    ],
)
def test_a_ratio_is_read_or_not_known(said: dict[str, str], ratio: float | None) -> None:
    """What is no number says nothing, and makes nothing worse."""
    (one,) = read(notification(annotations=said))
    assert one.bad_ratio == ratio


def test_the_watchdog_is_no_incident() -> None:
    """Of a group that only says that alerting works nothing is left."""
    assert read(notification("Watchdog", priority="none")) == []


def test_somebody_elses_text_is_bounded() -> None:
    """Labels by number and length, words by length."""
    body = notification(annotations={"description": "x" * 50_000})
    body["alerts"][0]["labels"] |= {f"label{number}": "y" * 5_000 for number in range(500)}
    (one,) = read(body)
    assert len(one.labels) == 64
    assert max(map(len, one.labels.values())) == 200
    assert len(one.description) == 1_000


@pytest.mark.parametrize(
    "change",
    [
        {"version": "3"},
        {"groupKey": ""},
        {"status": "pending"},
        {"alerts": None},
        {"alerts": [{"status": "firing"}]},
    ],
)
def test_another_form_is_refused(change: dict[str, Any]) -> None:
    """A version that is not known may mean something else by the same words."""
    with pytest.raises(msgspec.ValidationError):
        read(notification() | change)
