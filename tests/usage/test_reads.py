"""What SQLite and PostgreSQL answer is what the plain ledger in memory does."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import fields
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from psycopg.conninfo import make_conninfo
from usage.ledger_rows import DAY_S, NOON, filters, plain_row, rows

from radgateway import MemoryLedger, PostgresLedger, SQLiteLedger
from radgateway.usage import reads
from radgateway.usage.ledger import Ledger
from radgateway.usage.query import GROUPS, GroupBy, Sums, UsageFilter
from radgateway.usage.retention import Horizon
from radgateway.usage.row import UsageRow
from radgateway.usage.tables import METADATA

Emptied = Callable[[], Ledger]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.servers)])
def emptied(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Emptied]:
    """Gives a ledger of each kind, without rows."""
    ledger: SQLiteLedger | PostgresLedger
    if request.param == "sqlite":
        ledger = SQLiteLedger(tmp_path / "u.db")
    else:
        server = request.getfixturevalue("server")
        ledger = PostgresLedger(server.dsn)
    ledger.migrate()

    def empty() -> Ledger:
        if isinstance(ledger, SQLiteLedger):
            with closing(sqlite3.connect(tmp_path / "u.db")) as connection, connection:
                for table in METADATA.tables:
                    connection.execute(f"DELETE FROM {table}")
        else:
            with psycopg.connect(server.dsn) as session:
                session.execute(f"TRUNCATE {', '.join(METADATA.tables)}")
        return ledger

    yield empty
    ledger.close()


@pytest.fixture
def ledger(emptied: Emptied) -> Ledger:
    """One without rows."""
    return emptied()


def oracle(kept: list[UsageRow]) -> MemoryLedger:
    """The plain ledger with the same rows."""
    made = MemoryLedger(capacity=10_000)
    made.write(kept)
    return made


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.lists(rows, max_size=8), min_size=1, max_size=4),
    filters,
    st.lists(st.sampled_from(GROUPS), unique=True, max_size=3).map(tuple),
    st.integers(1, 4),
)
def test_sums_and_pages_are_the_plain_ledgers(
    emptied: Emptied,
    batches: list[list[UsageRow]],
    wanted: UsageFilter,
    by: tuple[GroupBy, ...],
    limit: int,
) -> None:
    """Whatever rows there are, written in whatever batches, twice; whatever is asked."""
    ledger, plain = emptied(), MemoryLedger(capacity=10_000)
    for batch in [*batches, batches[0]]:
        ledger.write(batch)
        plain.write(batch)
    assert ledger.sums(wanted, by) == plain.sums(wanted, by)
    cursor: str | None = None
    while True:
        page = ledger.page(wanted, limit, cursor)
        assert page == plain.page(wanted, limit, cursor)
        cursor = page.next_cursor
        if cursor is None:
            break


def test_every_field_of_a_filter_is_asked_for() -> None:
    """A field that is added and forgotten in SQL would be answered as if it had not been set."""
    known = {*reads.EQUAL, "since", "until", "model"}
    assert known == {each.name for each in fields(UsageFilter)}


def test_money_is_exact_to_the_last_digit(ledger: Ledger) -> None:
    """Where floating point would lose it: many tenths, and 10^-18 beside a million."""
    costs = ["0.1"] * 30 + ["1000000", "0.000000000000000001", "0.10000000000000000"]
    start = plain_row()
    kept = [
        replace(start, usage_id=f"{at:032x}", started_at=float(NOON), cost_usd=cost)
        for at, cost in enumerate(costs)
    ]
    ledger.write(kept)
    # From rows (by model), from roll-ups (by nothing), and with edges.
    for wanted in (UsageFilter(model=start.model), UsageFilter(), UsageFilter(since=NOON - 1.5)):
        (found,) = ledger.sums(wanted)
        assert found.cost_usd == Decimal("1000003.100000000000000001")
        assert found.requests == len(costs)


def test_a_batch_written_again_is_counted_once(ledger: Ledger) -> None:
    """Alone, with others before and after, and twice in one batch."""
    kept = [replace(plain_row(), usage_id=f"{at:032x}", cost_usd="0.5") for at in range(70)]
    ledger.write(kept[:40])
    ledger.write(kept[20:60])
    ledger.write([*kept[55:], *kept[50:], kept[0]])
    (found,) = ledger.sums(UsageFilter())
    assert (found.requests, found.cost_usd) == (70, Decimal(35))


def test_writers_at_the_same_time_lose_no_count(ledger: Ledger) -> None:
    """Several, of the same hours and keys, with batches that overlap: each row counts once."""
    kept = [
        replace(
            plain_row(), usage_id=f"{at:032x}", api_key_name=f"k{at % 7}", started_at=float(NOON)
        )
        for at in range(1200)
    ]
    assert isinstance(ledger, SQLiteLedger | PostgresLedger)
    others = [another(ledger) for _ in range(3)]

    def write(which: int) -> None:
        rng = random.Random(which)
        for _ in range(20):
            start = rng.randrange(len(kept))
            some = kept[start : start + 100]
            others[which].write(rng.sample(some, len(some)))
        others[which].write(kept)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(write, range(3)))
    for each in others:
        each.close()
    assert ledger.sums(UsageFilter(), ("key",)) == oracle(kept).sums(UsageFilter(), ("key",))


def another(ledger: SQLiteLedger | PostgresLedger) -> SQLiteLedger | PostgresLedger:
    """One more on the same database, that waits for the others."""
    if isinstance(ledger, SQLiteLedger):
        return SQLiteLedger(ledger.path, busy_timeout_s=20)
    parameters = ledger._parameters
    return PostgresLedger(make_conninfo(**parameters), timeout_s=20)


def test_roll_ups_answer_what_they_can(ledger: Ledger) -> None:
    """Sums of whole days need no row, and outlive all of them; by hour or by day alike."""
    kept = [
        replace(plain_row(), usage_id=f"{at:032x}", started_at=NOON + at * 3000.0)
        for at in range(60)
    ]
    ledger.write(kept)
    plain = oracle(kept)
    whole = UsageFilter(since=float(NOON - DAY_S // 2), until=float(NOON + 2 * DAY_S))
    groupings: list[tuple[GroupBy, ...]] = [(), ("day",), ("hour",), ("day", "key"), ("provider",)]
    before = [ledger.sums(whole, by) for by in groupings]
    assert before == [plain.sums(whole, by) for by in groupings]
    while ledger.expire(Horizon(NOON + 10.0 * DAY_S, None, None)):
        pass
    assert ledger.page(UsageFilter(), 10).rows == []
    assert [ledger.sums(whole, by) for by in groupings] == before
    # What roll-ups can't tell is of the rows that are left.
    assert ledger.sums(UsageFilter(model="gpt-4o-mini")) == [Sums()]


def test_pages_of_a_time_long_ago_come_in_order(ledger: Ledger) -> None:
    """With a cursor and without, though the keys of a time are not quite in its order."""
    kept = [
        replace(plain_row(), usage_id=f"{(at * 7) % 100:032x}", started_at=NOON + at * 60.0)
        for at in range(100)
    ]
    ledger.write(kept)
    wanted = UsageFilter(since=NOON + 1200.0, until=NOON + 3600.0, outcome="success")
    shown: list[str] = []
    cursor: str | None = None
    while True:
        page = ledger.page(wanted, 7, cursor)
        shown += [each.usage_id for each in page.rows]
        if (cursor := page.next_cursor) is None:
            break
    assert len(shown) == 40
    assert all(later > earlier for later, earlier in pairwise(shown))


@pytest.mark.parametrize(
    "wanted",
    [
        UsageFilter(request_id="r"),
        UsageFilter(trace_id="t", since=NOON + 3.0 * DAY_S, until=NOON + 15.0 * DAY_S),
    ],
)
def test_an_id_is_looked_for_along_its_index(ledger: Ledger, wanted: UsageFilter) -> None:
    """For a page and for sums: whoever is on call looks for one request among millions."""
    start = plain_row()
    ledger.write(
        [
            replace(
                start,
                usage_id=f"{at:032x}",
                started_at=NOON + at * 1000.0,
                request_id=f"r{at}",
                trace_id=f"t{at}",
            )
            for at in range(2000)
        ]
    )
    plans: list[str] = []

    def explained(flavour: reads.Flavour, run: reads.Run, explain: str) -> None:
        def noted(sql: str, values: Any) -> list[Sequence[Any]]:
            plans.append("\n".join(str(line) for line in run(f"{explain} {sql}", values)))
            return []

        reads.page(flavour, noted, wanted, 50, None)
        with contextlib.suppress(IndexError):  # sums are of something, and here there is nothing
            reads.sums(flavour, noted, wanted, ())

    if isinstance(ledger, SQLiteLedger):
        # It has no such index, so it goes through the rows, once and not for each hour: all of
        # them, or those of the time asked for.
        with closing(sqlite3.connect(ledger.path)) as connection:
            explained(reads.SQLITE, connection.execute, "EXPLAIN QUERY PLAN")
        assert len(plans) == 2
        for plan in plans:
            assert "hours" not in plan
            assert ("SCAN radgateway_requests" in plan) == (wanted.since is None)
            assert ("radgateway_requests_by_time" in plan) == (wanted.since is not None)
        return
    assert isinstance(ledger, PostgresLedger)
    with psycopg.connect(**ledger._parameters) as session:
        # Of so few rows it would rather read all of them.
        session.execute("ANALYZE radgateway_requests; SET enable_seqscan = off")
        explained(reads.POSTGRESQL, session.execute, "EXPLAIN")
    name = "request_id" if wanted.request_id is not None else "trace_id"
    assert len(plans) == 2
    for plan in plans:
        assert f"radgateway_requests_by_{name}" in plan
        assert "radgateway_requests_by_time" not in plan
        assert "Seq Scan on radgateway_requests" not in plan
        assert "SCAN radgateway_requests" not in plan


def test_a_page_is_of_one_moment(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are deleted while a page is read are on it with their attempts, or not at all."""
    row = replace(plain_row(), started_at=float(NOON))
    ledger.write([row])
    run, deleted = reads._run, []

    def run_and_delete(*question: Any) -> Sequence[Sequence[Any]]:
        found = run(*question)
        deleted.append(ledger.expire(Horizon(NOON + 1.0, None, None)))
        return found

    monkeypatch.setattr(reads, "_run", run_and_delete)
    assert ledger.page(UsageFilter(), 5).rows == [row]
    assert deleted == [1, 0]
    assert ledger.page(UsageFilter(), 5).rows == []


def test_an_id_is_found_at_the_edges_of_hours(ledger: Ledger) -> None:
    """Wherever a database thinks that an hour begins, and however long nobody asked anything."""
    hours = (0, 1, 2, 1799, 1800, 1801, 3599)
    times = [
        NOON + day * DAY_S + second + part
        for day in (0, 40)
        for second in hours
        for part in (0.0, 0.5)
    ]
    kept = [
        replace(plain_row(), usage_id=f"{at:032x}", started_at=time, request_id=f"r{at}")
        for at, time in enumerate(times)
    ]
    ledger.write(kept)
    for row in kept:
        since, until = row.started_at, row.started_at + 0.25
        for wanted in (
            UsageFilter(request_id=row.request_id),
            UsageFilter(request_id=row.request_id, since=since),
            UsageFilter(request_id=row.request_id, until=until),
            UsageFilter(request_id=row.request_id, since=since, until=until),
        ):
            assert ledger.page(wanted, 5).rows == [row]
            assert ledger.sums(wanted)[0].requests == 1
        gone = UsageFilter(request_id=row.request_id, until=since)
        assert ledger.page(gone, 5).rows == []
