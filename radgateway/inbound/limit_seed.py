"""What was spent of the budgets before this process began, taken from the usage ledger.

For budgets that are counted in memory, which a restart would otherwise give back in full. A shared
storage keeps its counts itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from decimal import Decimal

from radgateway.asgi import Clock
from radgateway.inbound.limit_period import Period, index_of, start_of
from radgateway.task_end import end_task

_log = logging.getLogger("radgateway.rate_limit")

SpentByKey = Callable[[float, float], Awaitable[Mapping[str, Decimal] | None]]
"""US dollars that requests have cost by the name of their key, which began from one time to before
another (Unix seconds); None where the ledger does not answer."""

_RETRY_S = 2.0


class BudgetSeed:
    """Asks once, when it is started, and again until there is an answer.

    `spend` gets a key's name, the period, and billionths of a dollar, once for each key and period.
    Requests that begin after the start are counted where they are made, so none is counted twice;
    `on_start` is called at that moment.
    """

    def __init__(
        self,
        spent: SpentByKey,
        spend: Callable[[str, Period, int], object],
        periods: Iterable[Period],
        *,
        on_start: Callable[[], object] = lambda: None,
        wall: Clock = time.time,
        retry_s: float = _RETRY_S,
    ) -> None:
        self._on_start = on_start
        self._spent = spent
        self._spend = spend
        self._periods = tuple(periods)
        self._wall = wall
        self._retry_s = retry_s
        self._task: asyncio.Task[None] | None = None

    @property
    def done(self) -> bool:
        """Whether it has its answer."""
        return self._task is not None and self._task.done()

    def start(self) -> None:
        """Begin, in the event loop that serves; once."""
        if self._task is None:
            self._on_start()
            self._task = asyncio.get_running_loop().create_task(self._run(self._wall()))

    async def aclose(self) -> None:
        """Stop asking."""
        await end_task(self._task)

    async def _run(self, until: float) -> None:
        for period in self._periods:
            index = index_of(period, until)
            found = await self._ask(start_of(period, index), until)
            if index_of(period, self._wall()) != index:
                continue  # it has begun anew meanwhile, and nothing is spent of it
            for name, usd in found.items():
                self._spend(name, period, int(usd * 10**9))

    async def _ask(self, since: float, until: float) -> Mapping[str, Decimal]:
        warned = False
        while (found := await self._spent(since, until)) is None:
            if not warned:
                _log.warning("radgateway.rate_limit.budgets_unknown")
            warned = True
            await asyncio.sleep(self._retry_s)
        if warned:
            _log.warning("radgateway.rate_limit.budgets_known")
        return found
