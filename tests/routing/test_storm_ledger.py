from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.routing.storm_ledger import StormLedger


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ledger(refill_per_s: float = 0.0) -> tuple[StormLedger, Clock]:
    clock = Clock()
    return StormLedger(10, 0.2, refill_per_s, clock=clock), clock


def test_failures_in_a_row_stop_further_attempts_at_half() -> None:
    """As gRPC A6 has it: only above half; and one provider's failures are not another's."""
    storms, _ = ledger()
    for _ in range(4):
        storms.failed("a")
        assert storms.allows("a")
    storms.failed("a")
    assert not storms.allows("a")
    assert storms.allows("b")


def test_successes_give_back_a_fraction() -> None:
    """It takes five of them to make up for a failure."""
    storms, _ = ledger()
    for _ in range(5):
        storms.failed("a")
    for _ in range(4):
        storms.succeeded("a")
    assert storms.tokens("a") == pytest.approx(5.8)
    assert storms.allows("a")
    for _ in range(40):
        storms.succeeded("a")
    assert storms.tokens("a") == 10


@pytest.mark.parametrize(("failing", "allowed"), [(0.1, True), (0.3, False)])
def test_what_decides_in_the_long_run_is_the_share_of_failures(
    failing: float, allowed: bool
) -> None:
    """Above ratio / (1 + ratio), a sixth at the default, trying again stops; below it goes on."""
    storms, _ = ledger()
    for number in range(1000):
        if (number * failing) % 1 < failing:
            storms.failed("a")
        else:
            storms.succeeded("a")
    assert storms.allows("a") is allowed


def test_a_provider_that_gets_no_calls_is_forgiven() -> None:
    """One that is only ever failed over to has no other way back; and it is told when."""
    storms, clock = ledger()
    for _ in range(50):
        storms.failed("a")
    assert storms.tokens("a") == 0
    assert storms.recovers_in_s("a") == pytest.approx(60)
    clock.now += 59
    assert not storms.allows("a")
    assert storms.recovers_in_s("a") == pytest.approx(1)
    clock.now += 2
    assert storms.allows("a")
    assert storms.recovers_in_s("a") == 0


def test_the_floor_of_the_budget_holds_here_too() -> None:
    """A quiet gateway whose provider fails less often than `min_per_s` is never stopped."""
    storms, clock = ledger(refill_per_s=1.0)
    for _ in range(100):
        storms.failed("a")
        assert storms.allows("a")
        clock.now += 1.0


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 20)), max_size=60))
def test_it_forgets_what_is_made_up_for(events: list[tuple[bool, float]]) -> None:
    """After any run of events, enough successes leave no entry behind, and tokens stay in range."""
    storms, clock = ledger()
    for failed, passed_s in events:
        clock.now += passed_s
        (storms.failed if failed else storms.succeeded)("a")
        assert 0 <= storms.tokens("a") <= 10
    for _ in range(51):
        storms.succeeded("a")
    assert not storms._missing
