"""Databases of every age, and none, come to the schema in force without losing a row."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from msgspec.structs import replace
from usage.ledger_rows import NOON, plain_row

from radgateway import MemoryLedger, PostgresLedger, SQLiteLedger
from radgateway.chaos.postgres import PostgresServer
from radgateway.usage import migrations, schema
from radgateway.usage.columns import (
    ATTEMPT_NAMES,
    REQUEST_NAMES,
    attempt_values,
    request_values,
)
from radgateway.usage.ledger import LedgerUnavailable
from radgateway.usage.migrations import HEAD, REVISIONS, VERSION_TABLE
from radgateway.usage.query import UsageFilter
from radgateway.usage.tables import METADATA

KINDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.servers)]

EARLIER = """
CREATE TABLE {0}requests (
    usage_id {key}, started_at {real}, request_id TEXT, trace_id TEXT, api_key_name TEXT,
    api_type TEXT, route TEXT, method TEXT, model TEXT, selected_model TEXT, provider TEXT,
    status {integer}, outcome TEXT, error_code TEXT, interrupted TEXT, stream {flag},
    duration_ms {real}, ttft_ms {real}, queued_ms {real}, input_tokens {integer},
    output_tokens {integer}, cached_tokens {integer}, reasoning_tokens {integer},
    usage_source TEXT, cost_usd {decimal}, PRIMARY KEY (usage_id)
){end};
CREATE TABLE {0}attempts (
    usage_id {key} NOT NULL, request_id TEXT, ordinal INTEGER NOT NULL, provider TEXT, model TEXT,
    status {integer}, failure TEXT, sent {flag}, offset_ms {real}, duration_ms {real},
    first_byte_ms {real}, waited_ms {real}, connect_ms {real}, input_tokens {integer},
    output_tokens {integer}, usage_source TEXT, cost_usd {decimal}, PRIMARY KEY (usage_id, ordinal)
){end};
"""
"""What gateways made before there were steps."""


class Place:
    """A database, by whichever driver."""

    def __init__(
        self,
        kind: str,
        ledger: Callable[[], SQLiteLedger | PostgresLedger],
        connect: Callable[[], Any],
        url: str,
    ) -> None:
        self.kind = kind
        self.ledger = ledger
        self._connect = connect
        self.url = url

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """A connection of its own, committed at the end."""
        with closing(self._connect()) as connection, connection:
            yield connection

    def execute(self, *statements: str) -> None:
        """Run statements."""
        with self.connection() as connection:
            for statement in statements:
                connection.execute(statement)

    def make_earlier(self) -> None:
        """Make the tables of the time before there were steps."""
        if self.kind == "sqlite":
            types = {
                "key": "TEXT",
                "real": "REAL",
                "integer": "INTEGER",
                "flag": "INTEGER",
                "decimal": "TEXT",
            }
            script = EARLIER.format("", end=" WITHOUT ROWID", **types)
            self.execute(*script.split(";"), "PRAGMA user_version = 1")
        else:
            types = {
                "key": 'TEXT COLLATE "C"',
                "real": "double precision",
                "integer": "bigint",
                "flag": "boolean",
                "decimal": "numeric",
            }
            self.execute(EARLIER.format("radgateway_", end="", **types))

    def fill(self, table: str, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        """Insert into an earlier table what it has columns for, of values by their names."""
        table = table if self.kind == "sqlite" else f"radgateway_{table}"
        mark = "?" if self.kind == "sqlite" else "%s"
        with self.connection() as connection:
            cursor = connection.cursor()
            cursor.execute(f"SELECT * FROM {table}")
            known = [each[0] for each in cursor.description]
            values = [[dict(zip(names, row, strict=True))[name] for name in known] for row in rows]
            marks = ", ".join([mark] * len(known))
            cursor.executemany(f"INSERT INTO {table} VALUES ({marks})", values)


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty database of each kind."""
    if request.param == "sqlite":
        file = tmp_path / "u.db"
        return Place(
            "sqlite",
            lambda: SQLiteLedger(file),
            lambda: sqlite3.connect(file),
            f"sqlite:///{file}",
        )
    server: PostgresServer = request.getfixturevalue("server")
    return Place(
        "postgres",
        lambda: PostgresLedger(server.dsn),
        lambda: psycopg.connect(server.dsn),
        server.dsn.replace("postgresql:", "postgresql+psycopg:", 1),
    )


def differences(url: str) -> list[Any]:
    """What Alembic would change to make a database what is declared."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    options = {"compare_type": True, "version_table": VERSION_TABLE}
    with engine.connect() as connection, warnings.catch_warnings():
        # Alembic leaves indexes of expressions out in SQLite, and says so; it has none.
        warnings.filterwarnings("ignore", ".*expression-based index")
        context = MigrationContext.configure(connection, opts=options)
        found: list[Any] = compare_metadata(context, METADATA)
    return found


def test_the_steps_are_those_that_are_listed() -> None:
    """One after the other, without branches; the last is what ledgers ask for."""
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    steps = [step.revision for step in script.walk_revisions()]
    assert tuple(reversed(steps)) == REVISIONS
    assert script.get_heads() == [HEAD]


@pytest.mark.parametrize("earlier", [False, True], ids=["new", "earlier"])
def test_the_steps_lead_to_the_schema_that_is_declared(place: Place, earlier: bool) -> None:
    """In both databases, from nothing and from tables made before there were steps."""
    if earlier:
        place.make_earlier()
    with closing(place.ledger()) as ledger:
        assert ledger.version() is None
        ledger.migrate()
        assert ledger.version() == HEAD
        ledger.migrate()
    assert differences(place.url) == []


def test_a_declared_column_that_no_step_makes_is_found(place: Place) -> None:
    """The comparison above is worth something."""
    with closing(place.ledger()) as ledger:
        ledger.migrate()
    place.execute("ALTER TABLE radgateway_daily DROP COLUMN good")
    assert [each[0] for each in differences(place.url)] == ["add_column"]


@pytest.mark.servers
def test_an_index_of_ids_that_no_step_makes_is_found(server: PostgresServer) -> None:
    """Alembic compares indexes of expressions as well, in PostgreSQL, which alone has some."""
    with closing(PostgresLedger(server.dsn)) as ledger:
        ledger.migrate()
    with psycopg.connect(server.dsn) as connection:
        connection.execute("DROP INDEX radgateway_requests_by_trace_id")
    url = server.dsn.replace("postgresql:", "postgresql+psycopg:", 1)
    assert [each[0] for each in differences(url)] == ["add_index"]


def test_sqlite_has_no_index_of_ids(tmp_path: Path) -> None:
    """Neither by the steps nor as declared: one would cost more than all else of a row."""
    known = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    declared = sa.create_engine(f"sqlite:///{tmp_path / 'd.db'}", poolclass=sa.NullPool)
    METADATA.create_all(declared)
    with closing(SQLiteLedger(tmp_path / "u.db")) as ledger:
        ledger.migrate()
    for name in ("d.db", "u.db"):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            assert connection.execute(known).fetchall() == [("radgateway_requests_by_time",)]


@pytest.mark.servers
def test_keys_are_compared_byte_by_byte(server: PostgresServer) -> None:
    """As Alembic does not compare: a language's order would cost ten times as much."""
    with closing(PostgresLedger(server.dsn)) as ledger:
        ledger.migrate()
    with psycopg.connect(server.dsn) as connection:
        found = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE collation_name = 'C' AND table_name LIKE 'radgateway_%'"
        ).fetchall()
    keys = {(t.name, c.name) for t in METADATA.tables.values() for c in t.primary_key}
    assert set(found) == {key for key in keys if key[1] not in ("ordinal", "bucket")}


def test_rows_of_before_are_carried_over(place: Place) -> None:
    """Each row with its attempts, and counted in the roll-ups to the last digit."""
    start = plain_row()
    kept = [
        replace(
            start,
            usage_id=f"{at:032x}",
            started_at=NOON + at * 1000.0,
            status=503 if at % 7 == 0 else 200,
            output_tokens=None if at % 5 == 0 else at,
            cost_usd=None if at % 3 == 0 else f"0.{at:018d}",
        )
        for at in range(250)
    ]
    place.make_earlier()
    place.fill("requests", REQUEST_NAMES, request_values(kept))
    place.fill("attempts", ATTEMPT_NAMES, attempt_values(kept))
    plain = MemoryLedger()
    plain.write(kept)
    with closing(place.ledger()) as ledger:
        assert ledger.page(UsageFilter(), 300).rows == kept[::-1]
        for by in ((), ("hour",), ("day",)):
            assert ledger.sums(UsageFilter(), by) == plain.sums(UsageFilter(), by)
        ledger.write(kept[-3:])
        assert ledger.sums(UsageFilter()) == plain.sums(UsageFilter())


def test_a_newer_schema_is_refused(place: Place) -> None:
    """With both names and what to do, before a row is written; rows wait meanwhile."""
    with closing(place.ledger()) as ledger:
        ledger.migrate()
    place.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with closing(place.ledger()) as ledger:
        for use in (lambda: ledger.write([plain_row()]), lambda: ledger.sums(UsageFilter())):
            with pytest.raises(LedgerUnavailable, match=f"schema is 9999.* none after {HEAD}.*use"):
                use()


@pytest.mark.servers
def test_a_gateway_at_work_goes_on_while_newer_ones_take_over(server: PostgresServer) -> None:
    """Steps only ever add, so what ran before them may lose its connection and come back."""
    with closing(PostgresLedger(server.dsn)) as ledger:
        ledger.write([plain_row()])
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            admin.execute("ALTER TABLE radgateway_requests ADD COLUMN something text")
            admin.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'radgateway'"
            )
        with pytest.raises(LedgerUnavailable, match=r"terminat|closed"):
            ledger.write([plain_row()])
        ledger.write([plain_row()])
        assert len(ledger.page(UsageFilter(), 10).rows) == 2


_START = """
import sys
from contextlib import closing
from radgateway import PostgresLedger, SQLiteLedger
from radgateway.exchange import Exchange
from radgateway.usage.row import row_of

sys.stdin.readline()
with closing({ledger}) as ledger:
    ledger.write([row_of(Exchange("r1", "POST"), ending=True)])
    print(sorted({{"alembic", "sqlalchemy"}} & set(sys.modules)))
"""


def started(place: Place, count: int) -> list[str]:
    """What processes say that open a database and write a row, all at the same time."""
    where = place.url.removeprefix("sqlite:///").replace("+psycopg", "")
    name = "SQLiteLedger" if place.kind == "sqlite" else "PostgresLedger"
    program = _START.format(ledger=f"{name}({where!r})")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(count)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * count, said
    return said


def test_processes_that_start_at_once_make_one_schema(place: Place) -> None:
    """Each writes its row, whoever took the steps."""
    started(place, 4)
    with closing(place.ledger()) as ledger:
        assert len(ledger.page(UsageFilter(), 10).rows) == 4
        (found,) = ledger.sums(UsageFilter())
        assert found.requests == 4
    assert differences(place.url) == []


def test_a_current_schema_costs_no_library(place: Place) -> None:
    """What takes steps is some 20 MB, which a process that has none to take does without."""
    with closing(place.ledger()) as ledger:
        ledger.migrate()
    assert started(place, 1) == ["[]\n"]


def test_what_is_missing_is_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with the first row, in a thread where nobody would see it."""
    monkeypatch.setattr(schema, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"radgateway\[ledger\]"):
        SQLiteLedger(tmp_path / "u.db")


def test_memory_is_not_a_file() -> None:
    """SQLite's word for it would give each connection a database of its own."""
    with pytest.raises(ValueError, match="MemoryLedger"):
        SQLiteLedger(":memory:")
