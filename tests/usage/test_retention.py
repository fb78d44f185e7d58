"""What is too old goes, in small pieces, and nothing else does."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace
from usage.ledger_rows import DAY_S, NOON, plain_row
from usage_rows import shown

from radgateway import MemoryLedger, PostgresLedger, SQLiteLedger, UsageWriter
from radgateway.chaos.postgres import PostgresServer
from radgateway.usage.journal import Journal
from radgateway.usage.ledger import LedgerUnavailable
from radgateway.usage.query import UsageFilter
from radgateway.usage.retention import EXPIRED_AT_ONCE, Horizon, Retention, RetentionConfig
from radgateway.usage.writer import UsageWriterConfig

KEEP_ALL = Horizon(None, None, None)
MIDNIGHT = NOON - DAY_S // 2


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.servers)])
def ledger(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[SQLiteLedger | PostgresLedger]:
    """Each that keeps rows on a disk, with a row of each of forty days."""
    made: SQLiteLedger | PostgresLedger
    if request.param == "sqlite":
        made = SQLiteLedger(tmp_path / "u.db")
    else:
        made = PostgresLedger(request.getfixturevalue("server").dsn)
    start = plain_row()
    with closing(made):
        made.write(
            [
                replace(start, usage_id=f"{day:032x}", started_at=float(NOON + day * DAY_S))
                for day in range(40)
            ]
        )
        yield made


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows_days": 0}, "rows_days must be at least 1"),
        ({"hourly_days": 29}, "hourly_days must be at least rows_days"),
        ({"daily_days": 89}, "daily_days must be at least hourly_days"),
        ({"rows_days": None}, "hourly_days must be at least null"),
        ({"daily_days": 40_000}, "at most 36500"),
    ],
)
def test_what_would_keep_rows_longer_than_their_sums_is_refused(
    settings: dict[str, int | None], message: str
) -> None:
    """Sums over whole hours come from roll-ups, so those have to be there."""
    with pytest.raises(ValueError, match=message):
        RetentionConfig(**settings)


def test_roll_ups_go_by_whole_days() -> None:
    """A day is never half there; rows go to the second."""
    config = RetentionConfig(rows_days=1, hourly_days=2, daily_days=None)
    assert config.horizon(NOON + 7.5) == Horizon(NOON + 7.5 - DAY_S, MIDNIGHT - 2 * DAY_S, None)


def test_each_kind_goes_at_its_own_time(ledger: SQLiteLedger | PostgresLedger) -> None:
    """Rows with their attempts first; sums of whole days last as long as the days do."""
    assert ledger.expire(KEEP_ALL) == 0
    horizon = Horizon(NOON + 30.0 * DAY_S, MIDNIGHT + 20.0 * DAY_S, MIDNIGHT + 10.0 * DAY_S)
    assert ledger.expire(horizon) == 30 + 20 + 10
    assert ledger.expire(horizon) == 0
    rows = ledger.page(UsageFilter(), 100).rows
    assert [row.started_at for row in rows] == [NOON + day * DAY_S for day in range(39, 29, -1)]
    assert all(row.attempts for row in rows)
    assert [each.requests for each in ledger.sums(UsageFilter(), ("hour",))] == [1] * 20
    assert [each.requests for each in ledger.sums(UsageFilter(), ("day",))] == [1] * 30


def test_one_piece_is_small(ledger: SQLiteLedger | PostgresLedger) -> None:
    """So that a row never waits long; the rest is for the next."""
    start = replace(plain_row(), started_at=float(NOON - DAY_S))
    ledger.write(
        [replace(start, usage_id=f"{at:032x}") for at in range(1000, 1700 + EXPIRED_AT_ONCE)]
    )
    horizon = Horizon(float(NOON), None, None)
    assert [ledger.expire(horizon) for _ in range(4)] == [EXPIRED_AT_ONCE, EXPIRED_AT_ONCE, 200, 0]


@pytest.mark.servers
def test_one_replica_at_a_time(server: PostgresServer) -> None:
    """Another leaves it alone, without waiting."""
    with closing(PostgresLedger(server.dsn)) as ledger:
        ledger.write([plain_row()])
        with psycopg.connect(server.dsn) as other:
            other.execute("SELECT pg_advisory_xact_lock(hashtext('radgateway usage retention'))")
            assert ledger.expire(Horizon(1e12, 1e12, 1e12)) == 0
        assert ledger.expire(Horizon(1e12, 1e12, 1e12)) == 3


def test_a_locked_file_is_for_later(tmp_path: Path) -> None:
    """As for a write; the writer's thread is not held longer than that."""
    with closing(SQLiteLedger(tmp_path / "u.db", busy_timeout_s=0.05)) as ledger:
        ledger.write([plain_row()])
        with closing(sqlite3.connect(tmp_path / "u.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LedgerUnavailable, match="locked"):
                ledger.expire(Horizon(1e12, None, None))


def test_it_runs_hourly_and_never_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """Soon after the start, then about once an hour, with a pause after each piece and one word."""
    slept: list[float] = []
    left = [500, 500, 3, 0, 0, 7, 0]

    async def expire(before: Horizon) -> int:
        assert before == RetentionConfig().horizon(NOON)
        return left.pop(0)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if not left:
            raise asyncio.CancelledError

    retention = Retention(
        RetentionConfig(), expire, clock=lambda: NOON, sleep=sleep, rng=random.Random(1)
    )
    with caplog.at_level(logging.INFO), pytest.raises(asyncio.CancelledError):
        asyncio.run(retention.run())
    first, *rest = slept
    assert 0 <= first <= 360
    assert [each for each in rest if each < 1] == [0.05] * 4
    assert all(1800 <= each <= 5400 for each in rest if each > 1)
    said = [(r.getMessage(), getattr(r, "rows", None)) for r in caplog.records]
    assert said == [("radgateway.usage.expired", 1003), ("radgateway.usage.expired", 7)]


def test_the_writer_keeps_its_ledger_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old rows go while new ones come, and the task ends with the writer."""
    monkeypatch.setattr(random.Random, "uniform", lambda self, low, high: 0.0)

    async def story() -> None:
        ledger = SQLiteLedger(tmp_path / "u.db")
        writer = UsageWriter(
            ledger, UsageWriterConfig(interval_s=0.01), retention=RetentionConfig(rows_days=1)
        )
        new = plain_row()
        writer.put(replace(new, usage_id="0" * 32, started_at=float(NOON)))
        writer.put(new)
        async with asyncio.timeout(10):
            while [r.usage_id for r in await shown(writer, 10)] != [new.usage_id]:
                await asyncio.sleep(0.02)
        await writer.aclose()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(story())


def test_a_ledger_that_is_away_ends_nothing() -> None:
    """The task goes on, and tries again an hour later."""

    class Away(MemoryLedger):
        def expire(self, before: Horizon) -> int:
            raise LedgerUnavailable("away")

    async def story() -> None:
        writer = UsageWriter(Away(), retention=RetentionConfig())
        assert writer._retention is not None
        await writer._retention.sweep()
        await writer.aclose()

    asyncio.run(story())


def test_what_was_deleted_does_not_come_again_from_a_journal(
    ledger: SQLiteLedger | PostgresLedger, tmp_path: Path
) -> None:
    """A journal that is found after years has only what was never stored, and that counts."""
    old = [replace(plain_row(), usage_id=f"{at:032x}", started_at=float(MIDNIGHT)) for at in (1, 2)]
    horizon = Horizon(NOON + 50.0 * DAY_S, None, None)
    while ledger.expire(horizon):
        pass
    (before,) = ledger.sums(UsageFilter())

    async def killed() -> None:
        journal = Journal(tmp_path / "j")
        writer = UsageWriter(ledger, UsageWriterConfig(interval_s=0.01), journal=journal)
        writer.put(old[0])
        async with asyncio.timeout(10):
            while await shown(writer, 10) != old[:1] or writer._entries:
                await asyncio.sleep(0.01)
        writer.hold(old[1])
        # The file as the kernel has it when the process dies: nobody closes anything.
        (tmp_path / "left").mkdir()
        for file in (tmp_path / "j").iterdir():
            shutil.copy(file, tmp_path / "left")
        await writer.aclose()

    async def found() -> None:
        writer = UsageWriter(ledger, journal=Journal(tmp_path / "left"))
        writer.start()
        async with asyncio.timeout(10):
            while any((tmp_path / "left").iterdir()):
                await asyncio.sleep(0.01)
        assert await shown(writer, 10) == old[1:]
        await writer.aclose()

    asyncio.run(killed())
    assert ledger.expire(horizon) == 1
    asyncio.run(found())
    assert ledger.expire(horizon) == 1
    (after,) = ledger.sums(UsageFilter())
    assert after.requests == before.requests + 2
