"""Carries usage rows from the request path to the ledger, in batches, in a thread of its own.

A request only appends to a journal, where there is one, and to a bounded queue. The task that
drains the queue starts with the first row and ends when it is empty, so no lifespan is needed and
an idle writer holds nothing. A ledger that fails is tried again, with back-off. Rows that the queue
has no room for meanwhile stay in the journal alone and are brought in afterwards; without a
journal, or beyond its bound, they are counted, and said to be lost.

What is asked of the ledger goes through threads of its own, so that a slow answer delays no row.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass
from typing import TypeVar

from radgateway.short_turns import in_short_turns
from radgateway.task_end import end_task
from radgateway.usage.journal import Entry, Journal
from radgateway.usage.ledger import Connections, Ledger, LedgerUnavailable
from radgateway.usage.query import GroupBy, Page, Sums, UsageFilter
from radgateway.usage.recovery import Recovery
from radgateway.usage.retention import Horizon, Retention, RetentionConfig
from radgateway.usage.row import UsageRow

_log = logging.getLogger("radgateway.usage")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageWriterConfig:
    """How the writer batches, and what it bounds."""

    interval_s: float = 0.2
    """Seconds a row waits at most for others to share its transaction; > 0. A fifth of a second
    keeps a batch worth its commit and a row visible well within two seconds."""
    batch_rows: int = 500
    """Rows written at once, and the number that ends the wait early; >= 1."""
    queue_rows: int = 20_000
    """Rows held while the ledger can't take them; >= batch_rows. About 20 MB when full."""
    retry_s: float = 0.1
    """Seconds before a failed batch is tried again, doubled each time; > 0."""
    retry_max_s: float = 5.0
    """The longest pause between tries, in seconds; >= retry_s."""
    reads: int = 4
    """Questions to the ledger at once; >= 1. No more than it has connections for them."""
    read_wait_s: float = 2.0
    """Seconds a question waits for its turn before it is refused; > 0."""

    def __post_init__(self) -> None:
        for name in ("interval_s", "retry_s", "read_wait_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)!r}")
        if self.batch_rows < 1:
            raise ValueError(f"batch_rows must be at least 1, not {self.batch_rows!r}")
        if self.reads < 1:
            raise ValueError(f"reads must be at least 1, not {self.reads!r}")
        if self.queue_rows < self.batch_rows:
            raise ValueError(f"queue_rows must be at least batch_rows, not {self.queue_rows!r}")
        if self.retry_max_s < self.retry_s:
            raise ValueError(f"retry_max_s must be at least retry_s, not {self.retry_max_s!r}")


class UsageWriter:
    """A bounded queue before a ledger, for one event loop.

    With a `journal` a row is on disk before `hold` or `put` return, and outlives the process.
    With `retention` the ledger is kept to what it says. `on_lost` is told how many rows were lost,
    each time some are.
    """

    def __init__(
        self,
        ledger: Ledger,
        config: UsageWriterConfig | None = None,
        *,
        journal: Journal | None = None,
        retention: RetentionConfig | None = None,
        on_lost: Callable[[int], None] | None = None,
    ) -> None:
        self._ledger = ledger
        self.journal = journal
        self._config = config or UsageWriterConfig()
        self._on_lost = on_lost
        self._queue: deque[UsageRow] = deque()
        self._batch: list[UsageRow] = []
        self._entries: dict[str, Entry] = {}  # where the journal has the rows in memory, by id
        self._enough = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # One thread: a ledger is written by one at a time, and SQLite's own lock is not waited for
        # by more than one of our threads.
        self._executor = ThreadPoolExecutor(1, "radgateway-usage")
        self._readers = ThreadPoolExecutor(self._config.reads, "radgateway-usage-read")
        self._may_read = asyncio.Semaphore(self._config.reads)
        self._retention: Retention | None = None
        if retention is not None:
            self._retention = Retention(retention, self._expire)
        self._keeping: asyncio.Task[None] | None = None
        self._recovery: Recovery | None = None
        if journal is not None:
            self._recovery = Recovery(
                journal, self._store, self._executor, batch_rows=self._config.batch_rows
            )
        self._closed = False
        self.available = True
        """Whether the ledger took the last batch; while it does not, rows wait in the queue."""
        self.lost = 0
        """Rows lost so far: refused by a full queue, unstorable, or left at the close."""
        self._full = False

    def start(self) -> None:
        """Bring in what dead processes have left in the journal, and begin to delete what is old.

        The first row does so too.
        """
        if self._closed:
            return
        if self._recovery is not None:
            self._recovery.start()
        if self._retention is not None and self._keeping is None:
            loop = asyncio.get_running_loop()
            self._keeping = loop.create_task(self._retention.run(), context=Context())

    async def brought_in(self, timeout_s: float) -> bool:
        """Whether the ledger has what dead processes left in the journal, within so many seconds.

        It has to be started.
        """
        return self._recovery is None or await self._recovery.brought_in(timeout_s)

    def hold(self, row: UsageRow) -> None:
        """Keep a row in the journal before its request has ended; `put` has to follow.

        The row that is put, of the same id, is taken for this one: where it turned out otherwise,
        hold the new one first.
        """
        if self.journal is None or self._closed:
            return
        entry = self.journal.append(row)
        if entry is None:
            return  # an earlier word on disk is better than none
        before = self._entries.get(row.usage_id)
        self._entries[row.usage_id] = entry
        if before is not None:
            self.journal.release(before)

    def put(self, row: UsageRow) -> bool:
        """Take a row, at once and without waiting; False where it is lost."""
        if self.journal is not None and row.usage_id not in self._entries:
            self.hold(row)
        if self._closed or len(self._queue) + len(self._batch) >= self._config.queue_rows:
            entry = self._entries.pop(row.usage_id, None)
            if entry is not None and self.journal is not None:
                self.journal.abandon(entry)
                return True
            self._lose(1, "the queue is full" if not self._closed else "the writer is closed")
            return False
        self.start()
        self._queue.append(row)
        if self._task is None or self._task.done():
            self._enough = asyncio.Event()
            # In a context of its own: what it logs is not of the request whose row came first.
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._drain(), context=Context())
        elif len(self._queue) >= self._config.batch_rows:
            self._enough.set()
        return True

    async def page(self, wanted: UsageFilter, limit: int, cursor: str | None = None) -> Page:
        """Rows in the ledger that fit, newest first. Raises `LedgerUnavailable`."""
        return await self._ask(lambda: self._ledger.page(wanted, limit, cursor))

    async def sums(self, wanted: UsageFilter, by: tuple[GroupBy, ...] = ()) -> list[Sums]:
        """Sums of what fits, by group. Raises `LedgerUnavailable`."""
        return await self._ask(lambda: self._ledger.sums(wanted, by))

    def connections(self) -> Connections:
        """The ledger's connections to its database."""
        return self._ledger.connections()

    async def _ask(self, question: Callable[[], T]) -> T:
        """Ask in a thread, when it is this question's turn, and without holding up the loop."""
        try:
            async with asyncio.timeout(self._config.read_wait_s):
                await self._may_read.acquire()
        except TimeoutError:
            raise LedgerUnavailable("too many questions at once") from None
        try:
            loop = asyncio.get_running_loop()
            asked = loop.run_in_executor(self._readers, in_short_turns, question)
        except RuntimeError:
            self._may_read.release()
            raise LedgerUnavailable("the ledger is closed") from None
        # The turn ends with the answer, not with whoever goes away before it.
        asked.add_done_callback(self._answered)
        return await asyncio.shield(asked)

    def _answered(self, asked: asyncio.Future[T]) -> None:
        self._may_read.release()
        if not asked.cancelled():
            asked.exception()  # whoever asked may be gone, and nobody else needs to know

    async def _expire(self, before: Horizon) -> int:
        """Delete some of what is too old, in the thread that writes."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, self._ledger.expire, before)
        except LedgerUnavailable:
            return 0  # there is time

    async def aclose(self, timeout_s: float = 5.0) -> None:
        """Write what is queued, for at most `timeout_s` seconds, and close the ledger."""
        self._closed = True
        self._enough.set()
        task = self._task
        if task is not None and not task.done():
            await asyncio.wait([task], timeout=timeout_s)
            if task.cancel():
                await asyncio.wait([task], timeout=1.0)
        if self._recovery is not None:
            await self._recovery.aclose()
        await end_task(self._keeping)
        if left := sum(row.usage_id not in self._entries for row in self._in_memory()):
            self._lose(left, "the ledger did not take them before the close")
        self._queue.clear()
        self._batch = []
        # Waited for briefly only: a ledger that hangs must not hang the shutdown as well.
        with contextlib.suppress(RuntimeError):
            closing = asyncio.get_running_loop().run_in_executor(self._executor, self._close)
            await asyncio.wait([closing], timeout=1.0)
        self._executor.shutdown(wait=False)
        self._readers.shutdown(wait=False)

    def _close(self) -> None:
        if self.journal is not None:
            self.journal.close()
        self._ledger.close()

    async def _drain(self) -> None:
        # The first row after a pause is stored at once; those that come meanwhile share the next
        # transaction.
        wait = False
        try:
            while self._queue:
                if wait:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._config.interval_s):
                            await self._enough.wait()
                wait = True
                self._enough.clear()
                while self._queue:
                    size = min(len(self._queue), self._config.batch_rows)
                    self._batch = [self._queue.popleft() for _ in range(size)]
                    await self._store(self._batch)
                    self._release(self._batch)
                    self._batch = []
                    if len(self._queue) < self._config.batch_rows and not self._closed:
                        break
                if self._recovery is not None and not self._closed:
                    await self._recovery.sweep()
        except asyncio.CancelledError:
            self._hand_over()
            raise

    async def _store(self, rows: list[UsageRow]) -> None:
        """Write a batch, for as long as it takes."""
        loop = asyncio.get_running_loop()
        pause_s = self._config.retry_s
        while True:
            try:
                await loop.run_in_executor(self._executor, self._ledger.write, rows)
            except LedgerUnavailable as error:
                if self.available:
                    _log.warning("radgateway.usage.ledger_unavailable: %s", error)
                self.available = False
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, self._config.retry_max_s)
            except Exception:
                # Not the store but a row: find it, so that its neighbours are kept.
                if len(rows) == 1:
                    _log.exception("radgateway.usage.row_unstorable")
                    self._lose(1, "the ledger can't store it")
                    return
                for row in rows:
                    await self._store([row])
                return
            else:
                if not self.available:
                    _log.warning("radgateway.usage.ledger_recovered")
                self.available = True
                return

    def _release(self, rows: list[UsageRow]) -> None:
        """The ledger has these rows, so the journal need not."""
        if self.journal is None:
            return
        for row in rows:
            entry = self._entries.pop(row.usage_id, None)
            if entry is not None:
                self.journal.release(entry)

    def _in_memory(self) -> Iterator[UsageRow]:
        yield from self._batch
        yield from self._queue

    def _hand_over(self) -> None:
        """The loop is ending without `aclose`: the thread writes what is left, once."""
        rows = list(self._in_memory())
        if self._closed or not rows:
            return
        with contextlib.suppress(RuntimeError):
            self._executor.submit(self._ledger.write, rows)
            self._batch = []
            self._queue.clear()

    def _lose(self, count: int, why: str) -> None:
        self.lost += count
        if self._on_lost is not None:
            self._on_lost(count)
        if not self._full:
            # Once: a line for each row lost would be the next thing to overflow.
            self._full = True
            _log.warning("radgateway.usage.records_lost: %s; further losses are counted only", why)
