"""Questions have connections of their own: a few, counted, and never for long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from usage.ledger_rows import plain_row

from radgateway import Instruments, MemoryLedger, PostgresLedger, SQLiteLedger, UsageWriter
from radgateway.assembly.usage import connections_shown
from radgateway.chaos.postgres import PostgresServer
from radgateway.usage.ledger import Connections, LedgerUnavailable
from radgateway.usage.query import Page, UsageFilter
from radgateway.usage.writer import UsageWriterConfig

ENDLESS = """
WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted)
SELECT max(n) FROM counted
"""
ALL = UsageFilter()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.servers)])
def ledger(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[SQLiteLedger | PostgresLedger]:
    """Each kind, for two questions at once that last half a second."""
    bounds = {"read_timeout_s": 0.5, "wait_s": 0.1}
    made: SQLiteLedger | PostgresLedger
    if request.param == "sqlite":
        made = SQLiteLedger(tmp_path / "u.db", readers=2, **bounds)
    else:
        server = request.getfixturevalue("server")
        made = PostgresLedger(server.dsn, readers=2, **bounds)
    with closing(made):
        made.write([plain_row()])
        yield made


def ask_for_ever(ledger: SQLiteLedger | PostgresLedger) -> None:
    """A question that has no end."""
    with ledger._reading() as run:
        run(ENDLESS, {})


def test_a_question_without_end_is_ended(ledger: SQLiteLedger | PostgresLedger) -> None:
    """In its time, with rows written meanwhile, and the connection is not used again."""
    began = time.monotonic()
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(ask_for_ever, ledger)
        written = 0
        while not asked.done():
            ledger.write([plain_row()])
            written += 1
        with pytest.raises(LedgerUnavailable):
            asked.result(5)
    assert time.monotonic() - began < 5
    assert written > 0
    assert ledger.sums(ALL)[0].requests == 1 + written


def test_more_questions_than_connections_are_refused(
    ledger: SQLiteLedger | PostgresLedger,
) -> None:
    """After a short wait, and said so; the next one, later, is answered."""
    assert ledger.connections() == Connections(in_use=0, idle=1, most=3)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(ledger._reading())
        assert ledger.connections() == Connections(in_use=2, idle=1, most=3)
        began = time.monotonic()
        with pytest.raises(LedgerUnavailable, match="2 connections for reading are in use"):
            ledger.page(ALL, 1)
        assert time.monotonic() - began < 1
    assert len(ledger.page(ALL, 1).rows) == 1
    assert ledger.connections() == Connections(in_use=0, idle=3, most=3)
    ledger.close()
    assert ledger.connections() == Connections(in_use=0, idle=0, most=3)
    assert len(ledger.page(ALL, 1).rows) == 1


@pytest.mark.servers
def test_connections_that_a_restart_has_ended_cost_no_question(server: PostgresServer) -> None:
    """They are found to be dead before they are asked."""
    with closing(PostgresLedger(server.dsn, readers=3)) as ledger:
        ledger.write([plain_row()])
        with ExitStack() as held:
            for _ in range(3):
                held.enter_context(ledger._reading())
        server.stop()
        with pytest.raises(LedgerUnavailable):
            ledger.sums(ALL)
        server.start()
        assert [ledger.sums(ALL)[0].requests for _ in range(4)] == [1] * 4


@pytest.mark.servers
def test_a_server_that_hangs_is_not_waited_for(server: PostgresServer) -> None:
    """Neither by a question under way nor by the next; afterwards all is well."""
    with closing(PostgresLedger(server.dsn, timeout_s=0.5, read_timeout_s=0.5)) as ledger:
        ledger.write([plain_row()])
        assert len(ledger.page(ALL, 1).rows) == 1
        server.hang()
        try:
            for _ in range(2):
                began = time.monotonic()
                with pytest.raises(LedgerUnavailable):
                    ledger.page(ALL, 1)
                assert time.monotonic() - began < 3.5  # two of them to connect
        finally:
            server.resume()
        assert len(ledger.page(ALL, 1).rows) == 1


@pytest.mark.servers
def test_what_reads_can_not_write(server: PostgresServer) -> None:
    """Whatever a question says."""
    with closing(PostgresLedger(server.dsn)) as ledger:
        ledger.write([plain_row()])
        with pytest.raises(LedgerUnavailable, match="read-only"), ledger._reading() as run:
            run("DELETE FROM radgateway_requests", {})
    with psycopg.connect(server.dsn) as connection:
        assert connection.execute("SELECT count(*) FROM radgateway_requests").fetchone() == (1,)


class Slow(MemoryLedger):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Event()
        self.asked = 0

    def page(self, wanted: UsageFilter, limit: int, cursor: str | None = None) -> Page:
        """Wait for the word."""
        self.asked += 1
        self.told.wait(10)
        return super().page(wanted, limit, cursor)


def test_slow_answers_delay_no_row() -> None:
    """All turns are taken by questions that wait: rows are stored, and one more is refused."""

    async def story() -> None:
        ledger = Slow()
        config = UsageWriterConfig(interval_s=0.01, reads=2, read_wait_s=0.05)
        writer = UsageWriter(ledger, config)
        row = plain_row()
        waiting = [asyncio.create_task(writer.page(ALL, 10)) for _ in range(2)]
        await asyncio.sleep(0)
        writer.put(row)
        with pytest.raises(LedgerUnavailable, match="too many"):
            await writer.page(ALL, 10)
        async with asyncio.timeout(5):
            while not ledger._held():
                await asyncio.sleep(0.005)
        # Who goes away leaves the thread at work: its turn is not free until it is done.
        waiting[0].cancel()
        await asyncio.wait([waiting[0]])
        with pytest.raises(LedgerUnavailable, match="too many"):
            await writer.page(ALL, 10)
        assert ledger.asked == 2
        ledger.told.set()
        assert (await waiting[1]).rows == [row]
        assert (await writer.sums(ALL))[0].requests == 1
        await writer.aclose()
        with pytest.raises(LedgerUnavailable, match="closed"):
            await writer.page(ALL, 10)

    asyncio.run(story())


def test_the_gauges_show_the_connections(tmp_path: Path) -> None:
    """From the ledger itself, whenever they are sampled."""

    async def story() -> None:
        instruments = Instruments()
        writer = UsageWriter(SQLiteLedger(tmp_path / "u.db"))
        show = connections_shown(writer, instruments)
        get = instruments.registry.get_sample_value
        await writer.page(ALL, 1)
        show(0.0)
        assert get("rad_gateway_db_connections", {"state": "in_use"}) == 0
        assert get("rad_gateway_db_connections", {"state": "idle"}) == 1
        assert get("rad_gateway_db_connections_max") == 5
        await writer.aclose()

    asyncio.run(story())
