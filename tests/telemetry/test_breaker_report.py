from __future__ import annotations

import logging

import pytest
from circuits import CONFIG, call

from radgateway.provider.circuit.ejection import EjectionGroup
from radgateway.telemetry.breaker_report import BreakerReport
from radgateway.telemetry.instruments import Instruments, LabelSets


class Rig:
    """A report over one provider, and what it says."""

    def __init__(self) -> None:
        self.made = Instruments(labels=LabelSets(providers=frozenset({"a"})))
        self.trips: list[tuple[str, float]] = []
        report = BreakerReport(
            "a", CONFIG, self.made, lambda name, open_s: self.trips.append((name, open_s))
        )
        self.policy = report.policy

    def value(self, name: str, **labels: str) -> float | None:
        """One of its metrics."""
        full = f"rad_gateway_circuit_breaker_{name}"
        return self.made.registry.get_sample_value(full, {"provider": "a", **labels})

    def fail(self) -> None:
        """As many failures as open it."""
        for _ in range(CONFIG.min_calls):
            call(self.policy, "fail", reason="http_500")


def test_a_trip_is_a_line_and_a_gauge_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """Each says the same, with the last failure's reason; whoever shares trips hears how long."""
    rig = Rig()
    rig.fail()
    assert (rig.value("open"), rig.value("state", state="open")) == (1, 1)
    ((name, open_s),) = rig.trips
    assert name == "a"
    assert 29 < open_s <= 30
    (record,) = caplog.records
    assert record.getMessage() == "radgateway.breaker.open"
    assert (record.__dict__["provider"], record.__dict__["last_failure"]) == ("a", "http_500")
    rig.policy.reset()
    assert (rig.value("open"), rig.value("state", state="closed")) == (0, 1)


def test_who_is_turned_away_is_counted_by_reason() -> None:
    """Also from zero, so that the first is an increase."""
    rig = Rig()
    assert rig.value("refused_total", reason="open") == 0
    rig.fail()
    assert rig.policy.acquire() is None
    rig.policy.passed_over()
    assert rig.value("refused_total", reason="open") == 2
    assert rig.value("would_refuse_total") == 0


def test_a_breaker_that_only_watches_is_not_shown_as_open() -> None:
    """The alert is about callers kept away; what it would do is in the state and a counter."""
    rig = Rig()
    rig.policy.set_mode("metrics_only")
    rig.fail()
    call(rig.policy, "ok")
    assert (rig.value("open"), rig.value("state", state="open")) == (0, 1)
    assert (rig.value("would_refuse_total"), rig.value("refused_total", reason="open")) == (1, 0)
    assert rig.value("mode", mode="metrics_only") == 1
    assert rig.value("mode", mode="auto") == 0
    assert rig.trips == []


def test_an_isolated_provider_is_shown_as_open_and_is_no_news_to_others() -> None:
    """Nobody reaches it; but that an operator here took it out says nothing to other replicas."""
    rig = Rig()
    rig.policy.set_mode("isolated")
    assert (rig.value("open"), rig.value("mode", mode="isolated")) == (1, 1)
    assert rig.trips == []


def test_the_last_of_a_group_is_shown_as_held(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line for as long as it lasts, however often it fails meanwhile."""
    rig, away = Rig(), Rig()
    away.policy.set_mode("isolated")
    group = EjectionGroup([rig.policy, away.policy])
    rig.policy.join(group)
    caplog.clear()
    for _ in range(5):
        rig.fail()
    assert (rig.value("held"), rig.value("open")) == (1, 0)
    assert [record.getMessage() for record in caplog.records] == ["radgateway.breaker.held"]
    for _ in range(30):
        call(rig.policy, "ok")
    assert rig.value("held") == 0


def test_a_full_quota_is_a_quiet_line(caplog: pytest.LogCaptureFixture) -> None:
    """With how long it rests; below warning, since it may come back each second."""
    rig = Rig()
    with caplog.at_level(logging.INFO, "radgateway.breaker"):
        call(rig.policy, "limited", retry_after_s=20.0)
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("INFO", "radgateway.breaker.resting")
    assert record.__dict__["seconds"] == pytest.approx(20, abs=0.2)
