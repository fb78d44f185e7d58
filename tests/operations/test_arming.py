"""Arming as a policy: time, health and outcomes are told to it, and nothing waits."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from radgateway.operations.arming import (
    CHECK_S,
    LONGEST_S,
    AbortCondition,
    Armed,
    Arming,
    ArmingOrder,
    ArmingRefused,
    Ended,
    Outcomes,
)
from radgateway.provider.faults import Faults

ERRORS = Faults(error_ratio=1)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Rig:
    """Three providers, what was told of them, and whose breaker is open."""

    def __init__(self, *names: str) -> None:
        self.clock = Clock()
        self.open: set[str] = set()
        self.on: list[Armed] = []
        self.off: list[Ended] = []
        self.arming = Arming(
            names or ("a", "b", "c"),
            healthy=lambda name: name not in self.open,
            on_armed=self.on.append,
            on_ended=self.off.append,
            clock=self.clock,
        )

    def arm(self, name: str = "a", for_s: float = 60.0, **abort: float | None) -> Armed:
        condition = AbortCondition(**abort)  # type: ignore[arg-type]
        order = ArmingOrder(provider=name, faults=ERRORS, for_s=for_s, abort=condition)
        return self.arming.arm(order, "ops")

    def pass_s(self, seconds: float) -> list[str]:
        """Let time pass; why armings ended meanwhile."""
        before = len(self.off)
        self.clock.now += seconds
        self.arming.check()
        return [ended.reason for ended in self.off[before:]]


def test_it_ends_by_itself_when_its_time_is_over() -> None:
    """To the moment, and whoever is told of the start is told of the end."""
    rig = Rig()
    armed = rig.arm(for_s=60)
    assert (rig.on, armed.by) == ([armed], "ops")
    assert rig.pass_s(59.99) == []
    assert rig.pass_s(0.01) == ["expired"]
    assert (rig.arming.armed, rig.arming.due_s()) == ({}, None)
    assert rig.off[0].by == ""


def test_what_is_over_stands_in_nobodys_way() -> None:
    """An order looks at the moment, not at the last check."""
    rig = Rig("a", "b")
    rig.arm("a", for_s=1)
    with pytest.raises(ArmingRefused, match="unharmed"):
        rig.arm("b")
    rig.clock.now += 1
    rig.arm("b")
    assert [ended.reason for ended in rig.off] == ["expired"]


@pytest.mark.parametrize("for_s", [0, -1, LONGEST_S + 1, float("inf"), float("nan")])
def test_there_is_no_arming_without_an_end(for_s: float) -> None:
    """Half an hour at most."""
    with pytest.raises(ValueError, match="for_s"):
        ArmingOrder(provider="a", faults=ERRORS, for_s=for_s)


def test_it_ends_when_too_many_callers_get_errors() -> None:
    """The share counts once there are enough requests, in the window only."""
    rig = Rig()
    rig.arm(error_ratio=0.5, min_requests=10, window_s=10)
    for _ in range(9):
        rig.arming.observe(failed=True)
    assert rig.pass_s(0) == []
    rig.clock.now += 11
    for number in range(10):
        rig.arming.observe(failed=number < 4)
    assert rig.pass_s(0) == []
    rig.arming.observe(failed=True)
    rig.arming.observe(failed=True)
    assert rig.pass_s(0) == ["error_ratio"]
    assert rig.off[0].detail == "6 of 12 requests failed"


def test_a_share_that_is_off_never_ends_it() -> None:
    """None is for experiments that are about errors."""
    rig = Rig()
    rig.arm(error_ratio=None, min_requests=1)
    for _ in range(100):
        rig.arming.observe(failed=True)
    assert rig.pass_s(1) == []


def test_it_ends_when_every_provider_is_affected() -> None:
    """The strategy's abort: one armed, and the breakers of all others open."""
    rig = Rig()
    rig.arm("a")
    rig.open = {"b"}
    assert rig.pass_s(1) == []
    rig.open = {"b", "c"}
    assert rig.pass_s(1) == ["all_affected"]
    lenient = Rig()
    lenient.arm("a", all_affected=False)
    lenient.open = {"b", "c"}
    assert lenient.pass_s(1) == []


def test_the_last_provider_is_not_armed_unless_that_is_meant() -> None:
    """Neither the only one, nor the last of several."""
    with pytest.raises(ArmingRefused, match="all_affected"):
        Rig("only").arm("only")
    rig = Rig()
    rig.arm("a")
    rig.arm("b")
    with pytest.raises(ArmingRefused, match="unharmed"):
        rig.arm("c")
    with pytest.raises(ArmingRefused, match="no provider 'd'"):
        rig.arm("d")
    assert set(rig.arming.armed) == {"a", "b"}
    rig.arm("c", all_affected=False)
    # Those armed before wanted somebody left.
    assert sorted(rig.pass_s(0)) == ["all_affected"]


def test_a_second_order_replaces_the_first() -> None:
    """With a time and a count of its own, and no end told in between."""
    rig = Rig()
    rig.arm(for_s=10)
    rig.clock.now += 9
    rig.arm(for_s=10)
    assert rig.pass_s(9) == []
    assert rig.pass_s(1) == ["expired"]


def test_disarming_says_who() -> None:
    """One, or all; what is not armed is none."""
    rig = Rig()
    rig.arm("a")
    rig.arm("b")
    assert rig.arming.disarm("c", "ann") == 0
    with pytest.raises(ArmingRefused, match="no provider 'd'; there are: a, b, c"):
        rig.arming.disarm("d", "ann")
    assert rig.arming.disarm("a", "ann") == 1
    assert rig.arming.disarm(None, "bob") == 1
    assert [(ended.provider, ended.by, ended.reason) for ended in rig.off] == [
        ("a", "ann", "disarmed"),
        ("b", "bob", "disarmed"),
    ]


def test_the_window_forgets() -> None:
    """Ten slots; what is older than the window is gone, after a long rest too."""
    clock = Clock()
    outcomes = Outcomes(10, clock)
    outcomes.add(failed=True)
    clock.now += 5
    outcomes.add(failed=False)
    assert outcomes.totals() == (2, 1)
    clock.now += 5
    assert outcomes.totals() == (1, 0)
    clock.now += 1e6
    assert outcomes.totals() == (0, 0)


class AnyOrder(RuleBasedStateMachine):
    """After any interleaving of orders, traffic, failing providers and time."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig()

    @rule(name=st.sampled_from("abc"), for_s=st.floats(0.1, 100), all_affected=st.booleans())
    def arm(self, name: str, for_s: float, all_affected: bool) -> None:
        """Somebody arms."""
        try:
            self.rig.arm(name, for_s, all_affected=all_affected, min_requests=5)
        except ArmingRefused:
            assert all_affected

    @rule(failed=st.booleans(), times=st.integers(1, 10))
    def traffic(self, failed: bool, times: int) -> None:
        """Requests end."""
        for _ in range(times):
            self.rig.arming.observe(failed=failed)

    @rule(names=st.sets(st.sampled_from("abc")))
    def breakers(self, names: set[str]) -> None:
        """Breakers open and close."""
        self.rig.open = names

    @precondition(lambda self: self.rig.arming.armed)
    @rule(share=st.floats(0.1, 1))
    def time_passes(self, share: float) -> None:
        """As far as the timer is set, or less."""
        due_s = self.rig.arming.due_s()
        assert due_s is not None
        assert due_s <= CHECK_S
        self.rig.pass_s(due_s * share)

    @rule(name=st.sampled_from(["a", "b", "c", None]))
    def disarm(self, name: str | None) -> None:
        """Somebody disarms."""
        self.rig.arming.disarm(name, "ops")

    @invariant()
    def every_start_has_its_end(self) -> None:
        """What is on is what was told on and not yet off, and none of it is over for long."""
        on = {armed.order.provider for armed in self.rig.on}
        assert set(self.rig.arming.armed) <= on
        for name, armed in self.rig.arming.armed.items():
            assert self.rig.on[-1] is armed or name in on
            assert armed.until > self.rig.clock.now - CHECK_S
        for ended in self.rig.off:
            assert ended.provider in on
        assert len(self.rig.arming.ended) <= 20

    @invariant()
    def a_check_leaves_nothing_that_has_to_end(self) -> None:
        """After a look, no arming is beyond its time or its condition."""
        self.rig.arming.check()
        rig = self.rig
        affected = rig.open | set(rig.arming.armed)
        for armed in rig.arming.armed.values():
            requests, failures = armed.outcomes.totals()
            assert armed.until > rig.clock.now
            assert requests < 5 or failures < 0.5 * requests
            assert not (armed.order.abort.all_affected and affected >= {"a", "b", "c"})


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30)
