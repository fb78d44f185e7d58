"""An event loop whose clock jumps to the next timer, so that tests of waiting need not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Instead of waiting for the next timer, moves its clock there."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual_s = 0.0
        selector: Any = self._selector  # type: ignore[attr-defined]
        really_select = selector.select

        def select(timeout: float | None = None) -> Any:
            assert timeout is not None, "everything waits, and nothing will ever happen"
            self._virtual_s += timeout
            return really_select(0)

        selector.select = select

    def time(self) -> float:
        """Virtual seconds."""
        return self._virtual_s

    def pending_timers(self) -> int:
        """Timers that have neither fired nor been cancelled."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return sum(not timer.cancelled() for timer in scheduled)


def run_virtual(story: Coroutine[Any, Any, T]) -> T:
    """Run a story to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(story)


def now() -> float:
    """The running loop's time."""
    return asyncio.get_running_loop().time()


def pending_timers() -> int:
    """The running loop's timers that are still to fire."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop.pending_timers()
