"""What the live tests lean on is worth something: the hurry, and the check of PagerDuty events."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from slo.alertmanager_server import listening
from slo.asked_series import asked
from slo.hurried import FACTOR, hurried
from slo.pagerduty_events import complaints

from radgateway.slo.pack import artefacts
from radgateway.slo.promql import seconds

WAITS = ("for", "keep_firing_for", "interval", "group_wait", "group_interval", "repeat_interval")
HURRIED = (
    "prometheus/rules/radgateway.rules.yml",
    "prometheus/rules/radgateway.alerts.yml",
    "alertmanager/alertmanager.yml",
)
EVENT = {
    "routing_key": "key",
    "event_action": "trigger",
    "dedup_key": "alert",
    "payload": {"summary": "It fails.", "source": "here", "severity": "critical"},
    "links": [{"href": "https://docs.example.invalid/", "text": "Runbook"}],
}


def pairs(before: Any, after: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each value of two documents of one shape, with the key it is under."""
    if isinstance(before, dict):
        assert before.keys() == after.keys()
        for name in before:
            yield from pairs(before[name], after[name], name)
    elif isinstance(before, list):
        for one, other in zip(before, after, strict=True):
            yield from pairs(one, other, key)
    else:
        yield key, before, after


@pytest.mark.parametrize("name", HURRIED)
def test_all_is_hurried_alike(name: str) -> None:
    """Every wait and every window is a sixtieth, and nothing else is another."""
    found = 0
    text = artefacts()[name]
    made = hurried({name: text})[name]
    for key, before, after in pairs(yaml.safe_load(text), yaml.safe_load(made)):
        if key in WAITS:
            found += 1
            assert int(after.removesuffix("ms")) == seconds(before) * 1_000 // FACTOR
        elif key == "expr":
            for slow, fast in zip(asked(before), asked(after), strict=True):
                assert (slow.name, slow.matchers) == (fast.name, fast.matchers)
                if slow.window:
                    found += 1
                    assert float(fast.window) * FACTOR == pytest.approx(float(slow.window))
        else:
            assert before == after
    assert found > 10


@pytest.mark.parametrize(
    ("wrong", "about"),
    [
        ({"routing_key": ""}, "routing_key"),
        ({"event_action": "fire"}, "event_action"),
        ({"dedup_key": None}, "dedup_key"),
        ({"payload": {"source": "here", "severity": "critical"}}, "payload.summary"),
        ({"payload": {"summary": "It fails.", "severity": "critical"}}, "payload.source"),
        ({"payload": {"summary": "x", "source": "y", "severity": "P1"}}, "payload.severity"),
        ({"links": [{"text": "Runbook"}]}, "links"),
    ],
)
def test_an_event_that_pagerduty_would_refuse_is_noticed(wrong: Any, about: str) -> None:
    """And one that it takes is not."""
    assert complaints(EVENT) == []
    (complaint,) = complaints({**EVENT, **wrong})
    assert about in complaint


def test_a_letter_that_breaks_off_holds_up_nobody() -> None:
    """An Alertmanager that is ended while it writes one: the mailbox ends, with nothing in it."""
    with listening() as people:
        host, _, port = people.mail.partition(":")
        with socket.create_connection((host, int(port))) as sender:
            sender.sendall(b"DATA\r\nSubject: it fai")
            with sender.makefile() as said:
                assert [said.readline()[:3] for _ in range(2)] == ["220", "354"]
    assert people.got.empty()
