"""One timer of the event loop for all that a layer waits for.

A timer for each request costs a microsecond and a half to set and to put away, and nearly none of
them ever fires. Here the loop has one, set to what is due first; a request only joins a set, and
whoever moves its own time later tells nobody. When the timer fires, all are asked.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

NEVER = float("inf")

_SLACK_S = 0.001
"""A timer may fire this much early: uvloop's clock counts in milliseconds."""


class Waiting(Protocol):
    """Something to be woken at a time of its own."""

    def due(self, now: float) -> float:
        """When to ring, in the loop's time as `now` is, or NEVER. May be later than last told."""

    def ring(self, now: float) -> None:
        """It is time: move `due`, or leave the timer."""


class SharedTimer:
    """Wakes its members. Belongs to one event loop at a time; while empty, to none."""

    __slots__ = ("_at", "_members", "_timer")

    def __init__(self) -> None:
        self._members: set[Waiting] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._at = NEVER

    def __len__(self) -> int:
        """How many wait."""
        return len(self._members)

    def add(self, member: Waiting, due: float) -> None:
        """Ask this one too, first at `due`."""
        self._members.add(member)
        if due < self._at:
            self._set(due)

    def sooner(self, due: float) -> None:
        """A member has become due earlier than it last said."""
        if due < self._at:
            self._set(due)

    def remove(self, member: Waiting) -> None:
        """Ask this one no more. The last one to go takes the loop's timer along."""
        members = self._members
        members.discard(member)
        if not members and self._timer is not None:
            self._timer.cancel()
            self._timer, self._at = None, NEVER

    def _set(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._fired)
        self._at = due

    def _fired(self) -> None:
        self._timer, self._at = None, NEVER
        now = asyncio.get_running_loop().time() + _SLACK_S
        first = NEVER
        for member in list(self._members):
            due = member.due(now)
            if due <= now:
                member.ring(now)
                if member not in self._members:
                    continue
                due = member.due(now)
            first = min(first, due)
        if first < NEVER:
            self._set(max(first, now))
