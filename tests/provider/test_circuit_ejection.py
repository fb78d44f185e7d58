from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from circuits import CONFIG, Clock, call, state_of

from radgateway.provider.circuit.config import BreakerConfig
from radgateway.provider.circuit.ejection import EjectionGroup
from radgateway.provider.circuit.policy import BreakerPolicy


@dataclass(eq=False)
class Provider:
    ejected: bool = False


@pytest.mark.parametrize(
    ("size", "ratio", "most"),
    [
        (1, None, 1),  # who is alone may open, as a breaker without a group
        (1, 0.5, 1),
        (2, None, 1),
        (5, None, 4),
        (5, 1.0, 5),  # when asked
        (5, 0.5, 2),
        (5, 0.01, 1),  # one may always open
        (5, 0.99, 4),  # and less than all never means all
        (5, 0.9999999999999999, 4),  # which times five is 5.0
    ],
)
def test_so_many_may_keep_callers_away_at_once(size: int, ratio: float | None, most: int) -> None:
    """The share of the group, rounded down, but always one, and all only where it says all."""
    members = [Provider() for _ in range(size)]
    group = EjectionGroup(members, max_open_ratio=ratio)
    opened = 0
    for member in members:
        if group.may_open(member):
            member.ejected = True
            opened += 1
    assert opened == most


def test_a_provider_without_a_breaker_is_always_there() -> None:
    """It counts in the group, and whoever is held back has it to go to."""
    member = Provider()
    group = EjectionGroup([member], unguarded=1)
    assert group.may_open(member)
    assert group.has_spare(member)
    assert not EjectionGroup([member]).has_spare(member)


def test_a_ratio_out_of_range_is_refused() -> None:
    """A group that nobody may leave is a breaker turned off, and says so otherwise."""
    with pytest.raises(ValueError, match="max_open_ratio"):
        EjectionGroup([Provider()], max_open_ratio=0)


def pair(
    clock: Clock, config: BreakerConfig = CONFIG, notes: list[str] | None = None
) -> tuple[BreakerPolicy, BreakerPolicy]:
    """Two breakers of one group; the second one's notes are collected."""
    on_note = notes.append if notes is not None else None
    made = (
        BreakerPolicy(config, clock=clock),
        BreakerPolicy(config, clock=clock, on_note=on_note),
    )
    group = EjectionGroup(made)
    for policy in made:
        policy.join(group)
    return made


def fail(policy: BreakerPolicy, times: int = 4) -> None:
    for _ in range(times):
        call(policy, "fail")


def test_the_last_of_a_group_stays_in_use_and_says_so() -> None:
    """It would be open and is not, which is told once; when the other is back it opens."""
    clock = Clock()
    notes: list[str] = []
    first, last = pair(clock, replace(CONFIG, window_s=60), notes)
    fail(first)
    fail(last, 20)
    assert (state_of(first), state_of(last)) == ("open", "closed")
    assert last.held
    assert last.available()
    assert last.snapshot().held
    assert notes == ["held"]
    clock.now += 30
    call(first, "ok")
    call(last, "fail")
    assert state_of(last) == "closed"  # the other is only being probed
    call(first, "ok")
    call(last, "fail")
    assert (state_of(first), state_of(last)) == ("closed", "open")
    assert notes == ["held", "let_go"]


def test_the_last_of_a_group_that_recovers_is_let_go() -> None:
    """Once its ratios are good again nothing speaks for its opening."""
    clock = Clock()
    first, last = pair(clock)
    fail(first)
    fail(last)
    assert last.snapshot().held
    for _ in range(5):
        call(last, "ok")
    assert not last.snapshot().held
    fail(last, 10)
    assert last.snapshot().held
    clock.now += 100
    call(last, "ok")
    assert not last.snapshot().held


@pytest.mark.parametrize("away", ["isolated", "resting"])
def test_whoever_keeps_callers_away_counts(away: str) -> None:
    """Isolated by hand or resting for its quota: the other one is the last in either case."""
    first, last = pair(Clock())
    if away == "isolated":
        first.set_mode("isolated")
    else:
        call(first, "limited", retry_after_s=60.0)
    fail(last)
    assert (state_of(last), last.held) == ("closed", True)


@pytest.mark.parametrize("mode", ["metrics_only", "disabled"])
def test_whoever_only_watches_is_there(mode: str) -> None:
    """A circuit that would be open and admits all is one to go to."""
    first, last = pair(Clock())
    first.set_mode(mode)  # type: ignore[arg-type]
    fail(first)
    fail(last)
    assert state_of(last) == "open"


def test_by_hand_all_may_be_opened() -> None:
    """The group is asked by those that open by themselves; an operator knows why."""
    first, last = pair(Clock())
    first.breaker.open()
    last.breaker.open()
    assert (first.state, last.state) == ("open", "open")


def test_a_probe_that_fails_opens_the_circuit_again_in_any_case() -> None:
    """Who was away already takes nobody from the group."""
    clock = Clock()
    first, last = pair(clock)
    fail(first)
    fail(last)
    clock.now += 30
    call(first, "fail")
    assert state_of(first) == "open"


def test_a_provider_of_two_models_asks_both_groups() -> None:
    """Alone for one model it could open; for the other it is the last."""
    clock = Clock()
    shared, other = pair(clock)
    shared.join(EjectionGroup([shared]))
    fail(other)
    fail(shared)
    assert (state_of(shared), shared.held) == ("closed", True)


def test_nobody_is_held_back_who_has_nowhere_to_go() -> None:
    """Neither a hint nor a ramp turns calls away while no other provider takes them."""
    clock = Clock()
    config = BreakerConfig(min_calls=4, half_open_calls=1, ramp_s=100)
    first, last = pair(clock, config)
    last.set_mode("isolated")
    assert not first.hint()
    first.breaker.open()
    clock.now += 30
    call(first, "ok")
    for _ in range(1000):
        clock.now += 0.01
        assert first.available()
    last.set_mode("disabled")
    assert first.hint()
