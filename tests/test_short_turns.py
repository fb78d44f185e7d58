"""Work in a thread leaves the interpreter to the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Iterable

import pytest
from loop_stall import shortest_stall_s

from radgateway.short_turns import in_short_turns, paced


def test_the_switch_interval_is_put_back() -> None:
    """It is the whole process's: short while anybody works, the host's own afterwards."""
    usual_s = sys.getswitchinterval()
    seen: list[float] = []
    two = threading.Barrier(2, timeout=10)

    def work(error: Exception | None) -> None:
        two.wait()
        seen.append(sys.getswitchinterval())
        two.wait()
        if error is not None:
            raise error

    def run(error: Exception | None) -> None:
        with contextlib.suppress(RuntimeError):
            in_short_turns(work, error)

    threads = [threading.Thread(target=run, args=[e]) for e in (None, RuntimeError("a bug"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(seen) == 2
    assert max(seen) < 0.001
    assert sys.getswitchinterval() == usual_s


def test_a_host_with_a_shorter_interval_keeps_it() -> None:
    """Turns are made shorter, never longer."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    try:
        assert in_short_turns(sys.getswitchinterval) < 0.0002
    finally:
        sys.setswitchinterval(usual_s)


def test_what_the_work_gives_and_raises_comes_through() -> None:
    """With its arguments."""
    assert in_short_turns(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        in_short_turns(divmod, 7, 0)


def test_paced_items_are_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, in their order, with a pause after each hundred."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    assert list(paced(range(350))) == list(range(350))
    assert len(slept) == 3
    assert max(slept) < 0.001


def long_work(numbers: Iterable[int]) -> int:
    """Tenths of a second of plain Python."""
    return sum(len(str(number)) for number in numbers)


def test_a_loop_beside_work_in_short_turns_is_not_kept_waiting() -> None:
    """Though it makes no pause: no turn of the loop is late by the usual five milliseconds."""

    async def done() -> None:
        assert await asyncio.to_thread(in_short_turns, long_work, range(1_000_000)) == 5_888_890

    stall_s, stalls = shortest_stall_s(done, good_s=0.004, tries=20)
    assert stall_s < 0.004, stalls


def test_a_loop_beside_paced_work_is_not_kept_waiting() -> None:
    """Though its turns are long: it gives the interpreter up with each pause."""

    async def done() -> None:
        assert await asyncio.to_thread(lambda: long_work(paced(range(100_000)))) == 488_890

    stall_s, stalls = shortest_stall_s(done, good_s=0.004, tries=20)
    assert stall_s < 0.004, stalls
