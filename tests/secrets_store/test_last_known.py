"""How long the last known secrets may serve, on a clock of the test's own."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.secrets.last_known import LastKnown


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def known(clock: Clock, **more: object) -> LastKnown:
    settings: dict[str, object] = {"refresh_s": 60.0, "max_stale_s": 600.0} | more
    return LastKnown(**settings, clock=clock, rng=random.Random(1))  # type: ignore[arg-type]


def test_it_is_ok_stale_and_expired_in_this_order() -> None:
    """A failure makes it stale, age makes it expired, and a success makes all well."""
    clock = Clock()
    last = known(clock)
    assert (last.state, last.age_s) == ("ok", 0.0)
    clock.now += 61
    last.failed()
    assert (last.state, last.age_s) == ("stale", 61.0)
    clock.now += 539
    assert last.state == "stale"
    clock.now += 1
    assert last.state == "expired"
    last.succeeded()
    assert (last.state, last.age_s) == ("ok", 0.0)


def test_without_a_limit_it_never_expires() -> None:
    """`max_stale_s: null` is what somebody chose."""
    clock = Clock()
    last = known(clock, max_stale_s=None)
    last.failed()
    clock.now += 1e9
    assert last.state == "stale"


def test_what_came_from_disk_is_stale_and_as_old_as_it_is() -> None:
    """Its age goes on from when the store was read, and the store is asked at once."""
    clock = Clock()
    last = known(clock, age_s=500.0, stale=True)
    assert (last.state, last.age_s, last.wait_s) == ("stale", 500.0, 0.0)
    clock.now += 101
    assert last.state == "expired"


def test_a_clock_that_was_wrong_makes_nothing_younger_than_new() -> None:
    """A file from the future is as old as one of now."""
    assert known(Clock(), age_s=-500.0, stale=True).age_s == 0.0


def test_after_a_failure_it_is_asked_soon_and_then_ever_later() -> None:
    """1, 2, 4 … s, spread by a tenth, and never less often than usual."""
    clock = Clock()
    last = known(clock)
    waits = []
    for _ in range(9):
        last.failed()
        waits.append(last.wait_s)
        clock.now += last.wait_s
    for wait_s, expected_s in zip(waits, (1, 2, 4, 8, 16, 32, 60, 60, 60), strict=True):
        assert 0.9 * expected_s <= wait_s <= 1.1 * expected_s


@pytest.mark.parametrize(("asked_s", "waits_s"), [(30.0, 30.0), (86_400.0, 600.0)])
def test_a_store_is_left_alone_as_long_as_it_asks(asked_s: float, waits_s: float) -> None:
    """Up to ten minutes."""
    last = known(Clock())
    last.failed(asked_s)
    assert last.wait_s == pytest.approx(waits_s)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.floats(0, 400)),
        st.tuples(st.just("failed"), st.one_of(st.none(), st.floats(0, 1e6))),
        st.tuples(st.just("succeeded"), st.floats(0, 300)),
    ),
    max_size=40,
)


@given(STEPS)
def test_its_state_is_what_its_age_and_the_last_outcome_say(
    steps: list[tuple[str, float | None]],
) -> None:
    """Whatever happens: expired exactly over the limit, never younger by failing, asked in time."""
    clock = Clock()
    last = known(clock)
    good_at, failing = clock.now, False
    for step, value in steps:
        if step == "pass":
            clock.now += value or 0.0
        elif step == "failed":
            last.failed(value)
            failing = True
        else:
            last.succeeded(value or 0.0)
            good_at, failing = max(good_at, clock.now - (value or 0.0)), False
        assert last.age_s == pytest.approx(clock.now - good_at)
        expired = clock.now - good_at > 600.0
        assert last.state == ("expired" if expired else "stale" if failing else "ok")
        assert 0 <= last.wait_s <= 600.0 + 1e-6
