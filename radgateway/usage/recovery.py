"""Brings into the ledger what only the journal has: of dead processes, and of a full queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextvars import Context
from typing import TypeVar

from radgateway.task_end import end_task
from radgateway.usage.journal import Journal, Segment
from radgateway.usage.row import UsageRow

_log = logging.getLogger("radgateway.usage")

T = TypeVar("T")


class Recovery:
    """Reads a journal's segments in a thread of `executor`, `store`s their rows, removes the files.

    `store` returns when the ledger has the rows, however long that takes.
    """

    def __init__(
        self,
        journal: Journal,
        store: Callable[[list[UsageRow]], Awaitable[None]],
        executor: Executor,
        *,
        batch_rows: int,
    ) -> None:
        self._journal = journal
        self._store = store
        self._executor = executor
        self._batch_rows = batch_rows
        self._adoption: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with what dead processes have left; once."""
        if self._adoption is None:
            self._adoption = asyncio.get_running_loop().create_task(
                self._adopt(), context=Context()
            )

    async def brought_in(self, timeout_s: float) -> bool:
        """Whether what dead processes have left is stored, after so many seconds at most."""
        if self._adoption is None:
            return False
        done, _ = await asyncio.wait([self._adoption], timeout=timeout_s)
        return bool(done)

    async def sweep(self) -> None:
        """Remove what was stored, and bring in what had no room in memory."""
        journal = self._journal
        journal.seal_spilled()
        while journal.finished:
            await self._remove(journal.finished.popleft())
        while journal.spilled:
            segment = journal.spilled.popleft()
            try:
                await self._bring_in(segment)
            except asyncio.CancelledError:
                segment.close()  # its lock with it: whoever opens the journal next has it
                raise

    async def aclose(self) -> None:
        """Leave what was not brought in yet to the next process."""
        await end_task(self._adoption)

    async def _adopt(self) -> None:
        looking = asyncio.get_running_loop().run_in_executor(self._executor, self._journal.adopt)
        try:
            segments = await asyncio.shield(looking)
        except asyncio.CancelledError:
            # The thread goes on, and what it locks would be nobody's until the process ends.
            looking.add_done_callback(_let_go)
            raise
        rows = 0
        try:
            while segments:
                rows += await self._bring_in(segments[0])
                del segments[0]
        finally:
            for segment in segments:
                segment.close()
        if rows:
            _log.warning("radgateway.usage.journal_brought_in", extra={"rows": rows})

    async def _bring_in(self, segment: Segment) -> int:
        """Store a segment's rows and remove it; how many there were."""
        try:
            rows, rest = await self._run(segment.rows)
        except OSError as error:
            _log.warning("radgateway.usage.journal_unreadable: %s", error)
            segment.close()
            return 0
        for start in range(0, len(rows), self._batch_rows):
            await self._store(rows[start : start + self._batch_rows])
        if rest:
            # Half a row, if the process died while it wrote it; or another version's rows.
            aside = await self._run(segment.set_aside)
            self._journal.removed(segment)
            _log.warning(
                "radgateway.usage.journal_unreadable: the last %d bytes of %s are no rows",
                rest,
                aside,
            )
        else:
            await self._remove(segment)
        return len(rows)

    async def _remove(self, segment: Segment) -> None:
        try:
            await self._run(segment.remove)
        except OSError as error:
            _log.warning("radgateway.usage.journal_unremovable: %s", error)
            segment.close()
        self._journal.removed(segment)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def _let_go(looked: asyncio.Future[list[Segment]]) -> None:
    if not looked.cancelled() and looked.exception() is None:
        for segment in looked.result():
            segment.close()
