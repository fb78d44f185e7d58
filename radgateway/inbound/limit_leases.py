"""Keeps the leases of requests in progress alive and settles those that ended, beside the requests.

What a request took in a shared store expires unless it is renewed, so a gateway that dies leaves
nothing taken. One task does it all, one write after the other, so no renewal can overtake a
settlement. It starts with the first lease and ends with the last.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import NamedTuple

from radgateway.asgi import Clock
from radgateway.inbound.limit_ledger import Hold
from radgateway.inbound.limit_plan import Costs

BATCH = 100
"""Leases written at once."""
_QUEUE_MAX = 20_000
"""Settlements kept while the store is away, some 10 MB. Those it has no room for expire there."""
_RETRY_S = 1.0


class Settlement(NamedTuple):
    """A hold and what was spent; `certain` where no earlier try can have arrived."""

    hold: Hold
    spent: Costs
    certain: bool


class LeaseKeeper:
    """Renews and settles through the functions it is given, which raise where the store is away.

    `on_lost` is told how many settlements were given up.
    """

    def __init__(
        self,
        settle: Callable[[Sequence[Settlement]], Awaitable[object]],
        renew: Callable[[Sequence[Hold]], Awaitable[object]],
        *,
        lease_s: float,
        timeout_s: float,
        on_lost: Callable[[int], object] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._settle = settle
        self._renew = renew
        self._every_s = lease_s / 3
        self._timeout_s = timeout_s
        self._on_lost = on_lost
        self._clock = clock
        # By when each is due, which is the order they came in.
        self._held: dict[Hold, float] = {}
        self._queue: deque[Settlement] = deque()
        self._writing: list[Settlement] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def pending(self) -> int:
        """Settlements that are not yet known to be written."""
        return len(self._queue) + len(self._writing)

    def hold(self, hold: Hold) -> None:
        """Keep a lease alive until it is settled."""
        self._held[hold] = self._clock() + self._every_s
        self._begin()

    def settle(self, hold: Hold, spent: Costs, *, certain: bool = True) -> None:
        """Settle a lease, soon and without waiting."""
        self._held.pop(hold, None)
        if len(self._queue) >= _QUEUE_MAX:
            self._queue.popleft()
            self._lose(1)
        self._queue.append(Settlement(hold, spent, certain))
        self._begin()
        self._wake.set()

    async def aclose(self, timeout_s: float = 1.0) -> None:
        """Write what is queued, for at most `timeout_s` seconds."""
        self._closing = True
        self._wake.set()
        task = self._task
        if task is not None and not task.done():
            await asyncio.wait([task], timeout=timeout_s)
            if task.cancel():
                await asyncio.wait([task], timeout=timeout_s)
        if self.pending:
            self._lose(self.pending)
            self._queue.clear()
            self._writing = []

    def _begin(self) -> None:
        if self._task is not None and not self._task.done():
            return
        self._wake = asyncio.Event()
        with contextlib.suppress(RuntimeError):  # the loop is gone; the leases expire
            # In a context of its own, or it would keep the request that came first, body and all.
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), context=Context())

    async def _run(self) -> None:
        while self.pending or (self._held and not self._closing):
            self._wake.clear()
            if not (await self._settle_some() and await self._renew_some()):
                if self._closing:
                    return
                await self._sleep(_RETRY_S)
            elif not self._queue and self._held:
                await self._sleep_until(next(iter(self._held.values())))

    async def _settle_some(self) -> bool:
        if not self._writing:
            size = min(len(self._queue), BATCH)
            self._writing = [self._queue.popleft() for _ in range(size)]
        if not self._writing:
            return True
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._settle(self._writing)
        except Exception:
            # Whether it arrived is not known, so the next try must not count twice.
            self._writing = [s._replace(certain=False) for s in self._writing]
            return False
        self._writing = []
        return True

    async def _renew_some(self) -> bool:
        now = self._clock()
        due: list[Hold] = []
        for hold, at in self._held.items():
            if at > now or len(due) == BATCH:
                break
            due.append(hold)
        if not due:
            return True
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._renew(due)
        except Exception:
            return False
        for hold in due:
            if self._held.pop(hold, None) is not None:
                self._held[hold] = now + self._every_s
        return True

    async def _sleep_until(self, due: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.001, due - self._clock())):
                await self._wake.wait()

    async def _sleep(self, seconds: float) -> None:
        """Leave the store alone; only the end of the gateway cuts it short."""
        until = self._clock() + seconds
        while not self._closing and (left_s := until - self._clock()) > 0:
            self._wake.clear()
            await self._sleep_until(self._clock() + left_s)

    def _lose(self, count: int) -> None:
        if self._on_lost is not None:
            self._on_lost(count)
