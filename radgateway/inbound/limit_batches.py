"""Puts the questions of concurrent requests to a store together, as they come.

What asks within one turn of the event loop goes out as one batch, so a burst of requests costs a
few round trips and needs a few connections. A request that comes alone goes at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from radgateway.task_end import end_task

Q = TypeVar("Q")

_IN_FLIGHT = 8
"""Batches under way at once, each on a connection; those who ask meanwhile share the next one."""

_BATCH = 100
"""Questions asked at once; a longer script would hold up the others of the server."""


class Batches(Generic[Q]):
    """Asks through `ask`, which gives an answer or an exception for each question of a batch.

    `on_left` gets what was asked and answered for somebody who no longer waits.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[Q]], Awaitable[Sequence[Any]]],
        on_left: Callable[[Q, Any], None],
        *,
        timeout_s: float,
    ) -> None:
        self._ask = ask
        self._on_left = on_left
        self._timeout_s = timeout_s
        self._waiting: list[tuple[Q, asyncio.Future[Any]]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def answer(self, question: Q) -> Any:
        """The answer to a question; raises what asking it raised."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._waiting, self._under_way = loop, [], set()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((question, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._send)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                # It was answered in the same turn in which its request was given up.
                self._on_left(question, future.result())
            raise

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        """End what is under way. Nobody waits for it any more, and what it took expires."""
        await asyncio.gather(*(end_task(task) for task in self._under_way))

    def _send(self) -> None:
        if self._loop is None or len(self._under_way) >= _IN_FLIGHT:
            return
        waiting = [(question, future) for question, future in self._waiting if not future.done()]
        batch, self._waiting = waiting[:_BATCH], waiting[_BATCH:]
        if batch:
            task = self._loop.create_task(self._run(batch))
            self._under_way.add(task)
            task.add_done_callback(self._ended)
        if self._waiting:
            self._send()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if self._waiting:
            self._send()

    async def _run(self, batch: list[tuple[Q, asyncio.Future[Any]]]) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = await self._ask([question for question, _ in batch])
        except Exception as error:
            answers = [error] * len(batch)
        for (question, future), answer in zip(batch, answers, strict=True):
            if future.done():
                self._on_left(question, answer)
            elif isinstance(answer, Exception):
                self._on_left(question, answer)
                future.set_exception(answer)
            else:
                future.set_result(answer)
