"""How late the event loop is: a small task that sleeps, and measures by how much it overslept.

A loop that is busy in one callback serves nobody else meanwhile, which no request's own timings
tell apart from a slow provider.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from radgateway.asgi import Clock
from radgateway.task_end import end_task
from radgateway.telemetry.instruments import Instruments


class LoopLagMonitor:
    """Samples the lag of the running loop into the gauges, until it is stopped.

    A sample every `interval_s` seconds; the gauge shows the greatest of the last `period` of
    them, so that a scrape sees a stall that came between two scrapes. Each of
    `on_sample` gets every one.
    """

    def __init__(
        self,
        instruments: Instruments,
        *,
        interval_s: float = 0.25,
        period: int = 60,
        on_sample: Sequence[Callable[[float], object]] = (),
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not interval_s > 0:
            raise ValueError(f"interval_s must be more than 0, not {interval_s!r}")
        if period < 1:
            raise ValueError(f"period must be at least 1, not {period!r}")
        self._instruments = instruments
        self._interval_s = interval_s
        self._recent = [0.0] * period
        self.on_sample = tuple(on_sample)
        """May be replaced while it runs."""
        self._clock = clock
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sample on the running loop; does nothing where it runs already."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Stop."""
        task, self._task = self._task, None
        await end_task(task)

    async def _run(self) -> None:
        turn = 0
        while True:
            due = self._clock() + self._interval_s
            await self._sleep(self._interval_s)
            lag_s = max(0.0, self._clock() - due)
            self._recent[turn] = lag_s
            for told in self.on_sample:
                told(lag_s)
            turn = (turn + 1) % len(self._recent)
            self._instruments.event_loop_lag.set(max(self._recent))
            if turn % 4 == 0:
                self._instruments.asyncio_tasks.set(len(asyncio.all_tasks()))
