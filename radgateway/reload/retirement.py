"""What an earlier configuration leaves behind, closed once the requests that began with it end.

A request keeps what it began with by its own call stack. So nothing is counted for each request;
those present at the swap are remembered, and looked after until none of them is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable

from radgateway.exchange import Exchange
from radgateway.inbound.drain import Drain
from radgateway.task_end import end_task

_log = logging.getLogger("radgateway.reload")

MOST_RETIRING = 16
"""Earlier configurations that may still have requests; the oldest makes room for another one."""
_POLL_S = 0.1

Close = Callable[[], Awaitable[object]]


class Retirement:
    """Waits for requests to end, and closes what they used."""

    def __init__(self, drain: Drain, *, poll_s: float = _POLL_S, most: int = MOST_RETIRING) -> None:
        self._drain = drain
        self._poll_s = poll_s
        self._most = most
        self._retiring: dict[asyncio.Task[None], asyncio.Event] = {}

    def __len__(self) -> int:
        """How many earlier configurations still have requests."""
        return len(self._retiring)

    def retire(self, closers: Iterable[Close], limit_s: float) -> None:
        """Await `closers` when all requests of this moment have ended, `limit_s` at the latest."""
        hurried = asyncio.Event()
        retired = self._retired(self._drain.present(), list(closers), limit_s, hurried)
        task = asyncio.get_running_loop().create_task(retired)
        self._retiring[task] = hurried
        task.add_done_callback(self._retiring.pop)
        for oldest in list(self._retiring.values())[: -self._most]:
            oldest.set()

    async def aclose(self) -> None:
        """Close everything that still waits to be closed."""
        tasks = list(self._retiring)
        for hurried in list(self._retiring.values()):
            hurried.set()
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                await end_task(task)

    async def _retired(
        self,
        requests: frozenset[Exchange],
        closers: list[Close],
        limit_s: float,
        hurried: asyncio.Event,
    ) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._drain.serves_any(requests) and not hurried.is_set():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._poll_s):
                            await hurried.wait()
        for close in closers:
            await closed(close)


async def closed(close: Close) -> None:
    """Close one thing. That it failed is no reason to leave the others open, and is logged."""
    try:
        await close()
    except Exception:
        _log.exception("radgateway.config.leftover_not_closed")
