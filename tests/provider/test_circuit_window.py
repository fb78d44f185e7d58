from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.provider.circuit import window as module
from radgateway.provider.circuit.window import CountWindow, TimeWindow


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.floats(0, 4), st.booleans(), st.booleans()), max_size=60),
)
def test_the_windows_sums_are_those_of_its_calls(
    length_s: int, calls: list[tuple[float, bool, bool]]
) -> None:
    """The running sums equal a count over all calls of the last seconds."""
    window = TimeWindow(length_s)
    now = 50.0
    seen: list[tuple[int, bool, bool]] = []
    for passed_s, failed, slow in calls:
        now += passed_s
        window.add(now, failed, slow)
        seen.append((int(now), failed, slow))
        alive = [entry for entry in seen if entry[0] > int(now) - length_s]
        assert window.calls == len(alive)
        assert window.failures == sum(entry[1] for entry in alive)
        assert window.slow == sum(entry[2] for entry in alive)


@given(st.integers(1, 6), st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_a_window_of_calls_holds_the_latest(length: int, calls: list[tuple[bool, bool]]) -> None:
    """The sums equal a count over the last calls, however long ago they were; also after it was
    cleared."""
    window = CountWindow(length)
    for _ in range(2):
        for number, (failed, slow) in enumerate(calls, 1):
            window.add(number * 1e6, failed, slow)
            alive = calls[:number][-length:]
            assert window.calls == len(alive)
            assert window.failures == sum(entry[0] for entry in alive)
            assert window.slow == sum(entry[1] for entry in alive)
        window.clear()
        assert (window.calls, window.failures, window.slow) == (0, 0, 0)


def lines_run(window: CountWindow | TimeWindow, calls: int) -> int:
    """Lines of the module that so many calls run, ten a second, once the window is full."""
    for second in range(4_000):
        window.add(second, True, False)
    counted = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal counted
        if frame.f_code.co_filename != module.__file__:
            return None
        counted += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for number in range(calls):
            window.add(4_000 + number / 10, number % 3 == 0, number % 7 == 0)
    finally:
        sys.settrace(before)
    return counted


@pytest.mark.parametrize(
    "window",
    [CountWindow(10), CountWindow(3_000), TimeWindow(2), TimeWindow(3_600)],
    ids=["10 calls", "3000 calls", "2 seconds", "3600 seconds"],
)
def test_a_call_costs_the_same_whatever_the_length(window: CountWindow | TimeWindow) -> None:
    """Nothing is done per call or second looked back on.

    Counted in lines that are run, not in seconds, so that a busy machine can't fail it.
    """
    assert 500 < lines_run(window, 500) < 15 * 500
