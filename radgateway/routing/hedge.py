"""Hedging: a second attempt while the first is late, whichever answers first (Dean and Barroso,
"The Tail at Scale", 2013).

It is for what is short and must be quick: two providers may both charge for the answer. Off
unless a model asks for it, and paid from the retry budget: a slow provider can't double the load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from radgateway.routing.latency import SAMPLES


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeConfig:
    """When a request is given to the next candidate too."""

    quantile: float = 0.95
    """Share of a candidate's calls that have their first byte by then, 0.5 to 0.99: the slowest
    twentieth is hedged."""
    min_samples: int = 20
    """Calls of a candidate before its quantile means anything, 1 to 128."""
    min_delay_s: float = 0.05
    """Seconds waited at least, 0 to 60: where all are quick, there is little to win."""
    max_body_bytes: int = 16 * 1024
    """Bytes of the largest request that is hedged, at least 1: a long prompt is dear to send
    twice."""

    def __post_init__(self) -> None:
        if not 0.5 <= self.quantile <= 0.99:
            raise ValueError(f"quantile must be 0.5 to 0.99, not {self.quantile}")
        if not 1 <= self.min_samples <= SAMPLES:
            raise ValueError(f"min_samples must be 1 to {SAMPLES}, not {self.min_samples}")
        if not 0 <= self.min_delay_s <= 60:
            raise ValueError(f"min_delay_s must be 0 to 60, not {self.min_delay_s}")
        if self.max_body_bytes < 1:
            raise ValueError(f"max_body_bytes must be at least 1, not {self.max_body_bytes}")


class Race:
    """One attempt, or two in their own tasks, of which the first to claim the race wins.

    The winner goes on; its rival is cancelled, once, and waited for. A failure of one leaves the
    other running. Cancelling the race cancels both.
    """

    __slots__ = ("_first", "_hedge", "hedge_won")

    def __init__(self) -> None:
        self._first: asyncio.Task[Any] | None = None
        self._hedge: asyncio.Task[Any] | None = None
        self.hedge_won: bool | None = None
        """None until one of the two has claimed the race."""

    def claim(self, *, hedge: bool) -> bool:
        """Whether this one is the winner: the first to ask is."""
        if self.hedge_won is None:
            self.hedge_won = hedge
            rival = self._first if hedge else self._hedge
            if rival is not None and not rival.cancelling():
                rival.cancel()
        return self.hedge_won is hedge

    def lost(self, *, hedge: bool) -> bool:
        """Whether the other one has won."""
        return self.hedge_won is not None and self.hedge_won is not hedge

    async def run(
        self,
        first: Coroutine[Any, Any, None],
        delay_s: float,
        second: Callable[[], Coroutine[Any, Any, None] | None],
    ) -> None:
        """Run them to their ends. `second` is asked after `delay_s` seconds, if `first` still runs.

        Raises what the winner raised, or where nobody won what either did.
        """
        self._first = asyncio.create_task(first)
        pending = {self._first}
        timeout_s: float | None = delay_s
        interrupted: asyncio.CancelledError | None = None
        while pending:
            try:
                _, pending = await asyncio.wait(pending, timeout=timeout_s)
            except asyncio.CancelledError as error:
                interrupted = error
                for task in pending:
                    # Once: cancelled twice, a client may drop the connection it is closing.
                    if not task.cancelling():
                        task.cancel()
            else:
                hedge = second() if pending and timeout_s is not None else None
                if hedge is not None:
                    self._hedge = asyncio.create_task(hedge)
                    pending.add(self._hedge)
            timeout_s = None
        errors = self._errors()
        if interrupted is not None:
            raise interrupted
        if errors:
            raise errors[0]

    def _errors(self) -> list[BaseException]:
        """What is to be raised; the loser's error goes to the loop's handler, to be logged."""
        found: list[BaseException] = []
        for task, hedge in ((self._first, False), (self._hedge, True)):
            if task is None:
                continue
            error: BaseException | None
            if task.cancelled():
                # Not by us: then its rival would have won, or we would have been interrupted.
                error = asyncio.CancelledError() if self.hedge_won in (None, hedge) else None
            else:
                error = task.exception()
                if error is not None and self.lost(hedge=hedge):
                    context = {"message": "an attempt that lost", "exception": error, "task": task}
                    task.get_loop().call_exception_handler(context)
                    error = None
            if error is not None:
                found.append(error)
        return found
