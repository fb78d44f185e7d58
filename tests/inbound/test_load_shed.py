from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.exchange import Priority
from radgateway.inbound.load_shed import LoadShed

ALL: list[Priority] = ["high", "normal", "low"]


def shed_by(shed: LoadShed) -> list[Priority]:
    return [priority for priority in ALL if shed.sheds(priority)]


def test_low_priority_is_turned_away_first() -> None:
    """While the lag stands, one more priority each half second; high last."""
    levels: list[int] = []
    shed = LoadShed(0.2, on_change=levels.append)
    seen = [shed_by(shed)]
    for _ in range(8):
        shed.observe(0.3)
        if shed_by(shed) != seen[-1]:
            seen.append(shed_by(shed))
    assert seen == [[], ["low"], ["normal", "low"], ["high", "normal", "low"]]
    assert levels == [1, 2, 3]


def test_a_lag_that_comes_and_goes_turns_nobody_away() -> None:
    """One long callback, such as a large body parsed, is no overload."""
    shed = LoadShed(0.2)
    for _ in range(50):
        shed.observe(5.0)
        shed.observe(0.0)
    assert shed.level == 0


def test_they_are_let_in_again_one_by_one() -> None:
    """Two seconds well in time for each; just below the threshold is not well."""
    shed = LoadShed(0.2)
    for _ in range(6):
        shed.observe(1.0)
    for _ in range(100):
        shed.observe(0.15)
    assert shed.level == 3
    falls = []
    for number in range(1, 25):
        before = shed.level
        shed.observe(0.01)
        if shed.level != before:
            falls.append(number)
    assert (falls, shed.level) == ([8, 16, 24], 0)


@given(st.lists(st.floats(0, 1)))
def test_the_level_is_the_one_of_the_rule(lags: list[float]) -> None:
    """It moves by one at a time, within its bounds, and tells each change."""
    told = [0]
    shed = LoadShed(0.2, on_change=told.append)
    for lag_s in lags:
        shed.observe(lag_s)
        assert shed.level == told[-1]
        assert shed_by(shed) == ALL[len(ALL) - shed.level :]
    assert all(abs(b - a) == 1 for a, b in itertools.pairwise(told))
    assert set(told) <= {0, 1, 2, 3}


def test_a_threshold_of_no_time_is_a_mistake() -> None:
    """Every loop is a little late."""
    with pytest.raises(ValueError, match="max_lag_s"):
        LoadShed(0)
