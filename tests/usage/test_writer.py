"""The writer keeps rows off the request path, and counts what it can't keep."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from usage_rows import newest, shown

from radgateway.exchange import Exchange, current_exchange
from radgateway.usage.journal import Journal, Segment
from radgateway.usage.ledger import LedgerUnavailable, MemoryLedger, SQLiteLedger
from radgateway.usage.row import UsageRow, row_of
from radgateway.usage.writer import UsageWriter, UsageWriterConfig

QUICK = UsageWriterConfig(interval_s=0.01, retry_s=0.01, retry_max_s=0.02)


def row() -> UsageRow:
    """Any row."""
    return row_of(Exchange("r", "POST"))


class FlakyLedger(MemoryLedger):
    """Fails as often as it is told to, and remembers its batches."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__(10_000)
        self.failures = failures
        self.batches: list[int] = []
        self.threads: set[int] = set()

    def write(self, rows: Sequence[UsageRow]) -> None:
        """Fail, or store."""
        self.threads.add(threading.get_ident())
        if self.failures:
            self.failures -= 1
            raise LedgerUnavailable("down")
        self.batches.append(len(rows))
        super().write(rows)


async def until_stored(writer: UsageWriter, count: int, limit_s: float = 3.0) -> None:
    """Wait until the ledger holds a number of rows."""
    async with asyncio.timeout(limit_s):
        while len(await shown(writer, 100_000)) < count:
            await asyncio.sleep(0.01)


def test_a_row_is_visible_within_two_seconds_and_no_task_stays(tmp_path: Path) -> None:
    """With the defaults and without a lifespan; an idle writer holds no task."""

    async def run() -> None:
        writer = UsageWriter(SQLiteLedger(tmp_path / "u.db"))
        began = time.monotonic()
        writer.put(row())
        await until_stored(writer, 1, 2.0)
        assert time.monotonic() - began < 2.0
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == 1
        writer.put(row())
        await until_stored(writer, 2, 2.0)
        await writer.aclose()
        assert writer.lost == 0

    asyncio.run(run())


def test_rows_share_batches_and_the_thread_is_not_the_loops() -> None:
    """A thousand rows are a few writes, none of them on the event loop."""

    async def run() -> None:
        ledger = FlakyLedger()
        writer = UsageWriter(ledger, UsageWriterConfig(interval_s=0.01, batch_rows=400))
        for _ in range(1000):
            assert writer.put(row())
        await until_stored(writer, 1000)
        await writer.aclose()
        assert ledger.batches == [400, 400, 200]
        assert threading.get_ident() not in ledger.threads

    asyncio.run(run())


def test_a_failing_ledger_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """Rows wait out an outage; it is logged once when it begins and once when it ends."""

    async def run() -> None:
        ledger = FlakyLedger(failures=5)
        writer = UsageWriter(ledger, QUICK)
        for _ in range(10):
            writer.put(row())
        await until_stored(writer, 10)
        await writer.aclose()
        assert writer.lost == 0

    with caplog.at_level(logging.WARNING, "radgateway.usage"):
        asyncio.run(run())
    names = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert names == ["radgateway.usage.ledger_unavailable", "radgateway.usage.ledger_recovered"]


def test_what_it_says_is_not_of_the_request_whose_row_came_first() -> None:
    """An outage outlives that request, and its lines would carry the ids of it."""
    seen: list[Exchange | None] = []

    class Seeing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(current_exchange.get())

    async def run() -> None:
        writer = UsageWriter(FlakyLedger(failures=2), QUICK)
        token = current_exchange.set(Exchange("r", "POST"))
        writer.put(row())
        current_exchange.reset(token)
        await until_stored(writer, 1)
        await writer.aclose()

    log, seeing = logging.getLogger("radgateway.usage"), Seeing()
    log.addHandler(seeing)
    try:
        asyncio.run(run())
    finally:
        log.removeHandler(seeing)
    assert seen == [None, None]


def test_a_full_queue_refuses_counts_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    """The bound holds during an outage, every lost row is counted, and one line says so."""
    counted: list[int] = []

    async def run() -> None:
        writer = UsageWriter(
            FlakyLedger(failures=10**9),
            UsageWriterConfig(interval_s=0.01, batch_rows=5, queue_rows=20, retry_s=0.01),
            on_lost=counted.append,
        )
        for _ in range(10):
            writer.put(row())
        await asyncio.sleep(0.05)
        kept = sum(writer.put(row()) for _ in range(30))
        assert kept == 10
        await writer.aclose(timeout_s=0.05)
        assert writer.lost == 40

    with caplog.at_level(logging.WARNING, "radgateway.usage"):
        asyncio.run(run())
    assert sum(counted) == 40
    lost = [r for r in caplog.records if "records_lost" in r.getMessage()]
    assert len(lost) == 1


def test_a_row_that_can_not_be_stored_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    """A poisonous row does not take its batch with it, nor block those behind it."""
    bad = row()

    class Picky(MemoryLedger):
        def write(self, rows: Sequence[UsageRow]) -> None:
            if bad in rows:
                raise TypeError("unstorable")
            super().write(rows)

    async def run() -> None:
        writer = UsageWriter(Picky(), QUICK)
        for each in (row(), bad, row()):
            writer.put(each)
        await until_stored(writer, 2)
        writer.put(row())
        await until_stored(writer, 3)
        await writer.aclose()
        assert writer.lost == 1

    with caplog.at_level(logging.ERROR, "radgateway.usage"):
        asyncio.run(run())


def test_closing_writes_what_is_queued_and_refuses_the_rest(tmp_path: Path) -> None:
    """What was accepted before the close is in the file after it, without waiting the interval."""
    path = tmp_path / "u.db"

    async def run() -> None:
        writer = UsageWriter(SQLiteLedger(path), UsageWriterConfig(interval_s=60))
        for _ in range(1234):
            writer.put(row())
        await asyncio.sleep(0)
        await writer.aclose()
        assert writer.lost == 0
        assert not writer.put(row())
        assert writer.lost == 1
        await writer.aclose()

    asyncio.run(run())
    assert len(newest(SQLiteLedger(path), 10_000)) == 1234


def test_closing_ends_in_time_though_the_ledger_hangs() -> None:
    """A store that never answers costs the shutdown its time limit and no more."""
    release = threading.Event()

    class Stuck(MemoryLedger):
        def write(self, rows: Sequence[UsageRow]) -> None:
            release.wait(10)

    async def run() -> None:
        writer = UsageWriter(Stuck(), QUICK)
        writer.put(row())
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await writer.aclose(timeout_s=0.1)
        assert time.monotonic() - began < 2.0
        assert writer.lost == 1

    try:
        asyncio.run(run())
    finally:
        release.set()


def test_rows_survive_a_loop_that_ends_without_a_close(tmp_path: Path) -> None:
    """A host that never runs our lifespan loses no row that was queued."""
    path = tmp_path / "u.db"
    writers: list[UsageWriter] = []

    async def run() -> None:
        writer = UsageWriter(SQLiteLedger(path), UsageWriterConfig(interval_s=60))
        writers.append(writer)
        writer.put(row())
        await asyncio.sleep(0)

    asyncio.run(run())
    asyncio.run(writers[0].aclose())
    deadline = time.monotonic() + 3
    reader = SQLiteLedger(path)
    while time.monotonic() < deadline and not path.exists():
        time.sleep(0.01)
    while time.monotonic() < deadline and not newest(reader, 1):
        time.sleep(0.01)
    assert len(newest(reader, 10)) == 1
    reader.close()


@pytest.mark.parametrize(
    ("field", "value"),
    [("interval_s", 0), ("batch_rows", 0), ("queue_rows", 1), ("retry_s", 0), ("retry_max_s", 0)],
)
def test_bad_settings_are_named(field: str, value: float) -> None:
    """A setting out of range is an error that names it."""
    with pytest.raises(ValueError, match=field):
        UsageWriterConfig(**{field: value})  # type: ignore[arg-type]


SMALL = UsageWriterConfig(interval_s=0.01, batch_rows=5, queue_rows=20, retry_s=0.01)


def test_with_a_journal_a_full_queue_loses_nothing(tmp_path: Path) -> None:
    """What has no room in memory is on disk only, and brought in when the ledger is back."""

    async def run() -> None:
        ledger = FlakyLedger(failures=10**9)
        journal = Journal(tmp_path / "j", segment_bytes=2000)
        writer = UsageWriter(ledger, SMALL, journal=journal)
        rows = [row() for _ in range(200)]
        assert all(writer.put(each) for each in rows)
        assert len(writer._queue) + len(writer._batch) <= 20
        await asyncio.sleep(0.05)
        ledger.failures = 0
        await until_stored(writer, 200)
        assert {each.usage_id for each in await shown(writer, 1000)} == {
            each.usage_id for each in rows
        }
        await writer.aclose()
        assert writer.lost == 0
        assert list((tmp_path / "j").iterdir()) == []

    asyncio.run(run())


def test_with_a_journal_what_is_left_at_the_close_is_the_nexts(tmp_path: Path) -> None:
    """A ledger that takes nothing until the end leaves its rows to whoever starts next."""
    rows = [row() for _ in range(50)]

    async def first() -> None:
        writer = UsageWriter(FlakyLedger(10**9), SMALL, journal=Journal(tmp_path / "j"))
        for each in rows:
            writer.put(each)
        await writer.aclose(timeout_s=0.05)
        assert writer.lost == 0

    async def second() -> None:
        writer = UsageWriter(FlakyLedger(2), SMALL, journal=Journal(tmp_path / "j"))
        writer.start()
        writer.start()
        await until_stored(writer, 50)
        assert {each.usage_id for each in await shown(writer, 1000)} == {r.usage_id for r in rows}
        await writer.aclose()

    asyncio.run(first())
    asyncio.run(second())
    assert list((tmp_path / "j").iterdir()) == []


def test_the_first_row_finds_what_was_left_too(tmp_path: Path) -> None:
    """Nobody has to start a writer."""
    before = Journal(tmp_path / "j")
    before.append(row())
    before.close()

    async def run() -> None:
        writer = UsageWriter(MemoryLedger(), QUICK, journal=Journal(tmp_path / "j"))
        writer.put(row())
        await until_stored(writer, 2)
        await writer.aclose()

    asyncio.run(run())


def test_a_row_held_and_then_corrected_is_stored_as_corrected(tmp_path: Path) -> None:
    """Also where the process ended between the two: the last word counts."""
    held = row()
    corrected = row_of(Exchange("corrected", "POST"), usage_id=held.usage_id)

    async def stored(*, ends: bool) -> list[UsageRow]:
        writer = UsageWriter(MemoryLedger(), QUICK, journal=Journal(tmp_path / str(ends)))
        writer.hold(held)
        writer.hold(corrected)
        if ends:
            await writer.aclose()
            writer = UsageWriter(MemoryLedger(), QUICK, journal=Journal(tmp_path / str(ends)))
            writer.start()
        else:
            writer.put(corrected)
        await until_stored(writer, 1)
        found = await shown(writer, 10)
        await writer.aclose()
        return found

    for ends in (False, True):
        assert asyncio.run(stored(ends=ends)) == [corrected]


def test_a_journal_that_fails_costs_no_row(tmp_path: Path) -> None:
    """While the disk takes nothing it is as without a journal."""
    (tmp_path / "j").write_text("in the way")

    async def run() -> None:
        journal = Journal(tmp_path / "j")
        writer = UsageWriter(MemoryLedger(), QUICK, journal=journal)
        first = row()
        writer.hold(first)
        assert writer.put(first)
        assert writer.put(row())
        await until_stored(writer, 2)
        await writer.aclose()
        assert not journal.available
        assert writer.lost == 0

    asyncio.run(run())


def test_a_file_that_can_not_be_read_is_kept_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is readable of it is stored, and a line says where the rest is."""
    before = Journal(tmp_path / "j")
    before.append(row())
    before.append(row())
    before.close()
    (path,) = (tmp_path / "j").iterdir()
    path.write_bytes(path.read_bytes().rstrip(b"\0")[:-3])

    async def run() -> None:
        writer = UsageWriter(MemoryLedger(), QUICK, journal=Journal(tmp_path / "j"))
        writer.start()
        await until_stored(writer, 1)
        await writer.aclose()

    with caplog.at_level(logging.WARNING, "radgateway.usage"):
        asyncio.run(run())
    (aside,) = (tmp_path / "j").iterdir()
    assert aside.suffix == ".unreadable"
    assert any(str(aside) in record.getMessage() for record in caplog.records)


def test_a_correction_that_finds_no_disk_leaves_the_row_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the ledger has the new one, the next process would find the old one, not none."""
    held = row()
    corrected = row_of(Exchange("corrected", "POST"), usage_id=held.usage_id)
    journal = Journal(tmp_path / "j", segment_bytes=250)

    def full(*arguments: int) -> None:
        raise OSError("No space left on device")

    async def run() -> None:
        writer = UsageWriter(MemoryLedger(), QUICK, journal=journal)
        writer.hold(held)
        with monkeypatch.context() as disk:
            disk.setattr(os, "posix_fallocate", full)
            writer.hold(corrected)
        (path,) = (tmp_path / "j").iterdir()
        segment = Segment(path, os.open(path, os.O_RDONLY))
        assert segment.rows()[0] == [held]
        segment.close()
        assert writer.put(corrected)
        await until_stored(writer, 1)
        assert await shown(writer, 9) == [corrected]
        await writer.aclose()

    asyncio.run(run())


def test_a_close_while_it_looks_for_rows_leaves_them_to_the_next(tmp_path: Path) -> None:
    """What the thread finds after the close is let go of, in this process too."""
    left = row()
    before = Journal(tmp_path / "j")
    before.append(left)
    before.close()
    goes_on = threading.Event()

    class Slow(Journal):
        def adopt(self) -> list[Segment]:
            assert goes_on.wait(5)
            return super().adopt()

    async def run() -> None:
        writer = UsageWriter(MemoryLedger(), QUICK, journal=Slow(tmp_path / "j"))
        writer.start()
        await asyncio.sleep(0)
        closing = asyncio.create_task(writer.aclose())
        await asyncio.sleep(0.02)
        goes_on.set()
        await closing
        await asyncio.sleep(0)

    asyncio.run(run())
    (segment,) = Journal(tmp_path / "j").adopt()
    assert segment.rows()[0] == [left]
    segment.remove()
