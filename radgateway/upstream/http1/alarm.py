"""One timer that outlives what it times: most calls only store a number in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

NEVER = float("inf")

_TICK_S = 0.001
"""Loops count in milliseconds, so a timer may fire this much early."""


class Alarm:
    """Rings once the loop's time has passed `due`, which may be moved at no cost.

    A timer is only set where none would fire in time; it looks, when it fires, whether anything is
    still due, and sleeps on if not. A clock that is never set therefore never costs a timer, and
    one that is moved for each call costs one timer per its own length, not one per call.
    """

    __slots__ = ("_loop", "_ring", "_timer", "_timer_at", "due")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self.due = NEVER
        """In the loop's time. May be moved later by writing to it; `set` moves it anywhere."""
        self._loop = loop
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER

    def set(self, due: float) -> None:
        """Ring at `due`, and not before."""
        self.due = due
        if due < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(due, self._fired)
            self._timer_at = due

    def cancel(self) -> None:
        """Let go of the timer, for good."""
        self.due = NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def reached(self, at: float) -> bool:
        """Whether the loop's time has passed `at`."""
        return self._loop.time() + _TICK_S >= at

    def _fired(self) -> None:
        self._timer, self._timer_at = None, NEVER
        if self.reached(self.due):
            self._ring()
        elif self.due < NEVER:
            self.set(self.due)
