"""Where usage rows are kept: a SQLite file, or a bounded ring in memory.

A ledger is plain and blocking; `UsageWriter` calls it from a thread of its own, never from the
event loop. Writing a row twice leaves one: its ids are unique and inserts ignore what is there,
so a batch whose outcome is in doubt is simply written again.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol

from radgateway.usage import sql_log
from radgateway.usage.columns import (
    ATTEMPT_COLUMNS,
    ATTEMPT_NAMES,
    REQUEST_COLUMNS,
    REQUEST_NAMES,
    Kind,
    attempt_values,
    request_values,
    usage_rows,
)
from radgateway.usage.query import (
    GroupBy,
    Page,
    Sums,
    UsageFilter,
    newest_first,
    page_of,
    summed,
)
from radgateway.usage.row import UsageRow


class LedgerUnavailable(Exception):
    """The store can't take or give rows now; later it may."""


class Ledger(Protocol):
    """A store of usage rows. Its methods block; any one thread at a time calls them."""

    def write(self, rows: Sequence[UsageRow]) -> None:
        """Store rows, all or none, each once. Raises `LedgerUnavailable`."""

    def recent(self, limit: int) -> list[UsageRow]:
        """The newest rows, newest first. Raises `LedgerUnavailable`."""

    def page(self, wanted: UsageFilter, limit: int, cursor: str | None = None) -> Page:
        """Rows that fit, newest first, from after a cursor on. Raises `LedgerUnavailable`."""

    def sums(self, wanted: UsageFilter, by: tuple[GroupBy, ...] = ()) -> list[Sums]:
        """Sums of what fits, by group (`query.summed`). Raises `LedgerUnavailable`."""

    def close(self) -> None:
        """Let go of files and connections."""


class MemoryLedger:
    """A ring of the newest rows, for `memory://`: nothing outlives the process."""

    def __init__(self, capacity: int = 2_000) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        self._capacity = capacity
        self._rows: OrderedDict[str, UsageRow] = OrderedDict()
        self._lock = Lock()

    def write(self, rows: Sequence[UsageRow]) -> None:
        """Store rows; the oldest make room."""
        with self._lock:
            for row in rows:
                self._rows.setdefault(row.usage_id, row)
            while len(self._rows) > self._capacity:
                self._rows.popitem(last=False)

    def recent(self, limit: int) -> list[UsageRow]:
        """The newest rows, newest first."""
        rows = self._held()
        return rows[: -limit - 1 : -1] if limit > 0 else []

    def page(self, wanted: UsageFilter, limit: int, cursor: str | None = None) -> Page:
        """Rows that fit, newest first, from after a cursor on."""
        return page_of(newest_first(self._held()), wanted, limit, cursor)

    def sums(self, wanted: UsageFilter, by: tuple[GroupBy, ...] = ()) -> list[Sums]:
        """Sums of what fits, among the rows that are held."""
        return summed(self._held(), wanted, by)

    def _held(self) -> list[UsageRow]:
        with self._lock:
            return list(self._rows.values())

    def close(self) -> None:
        """Nothing to let go of."""


_TYPES: Final[Mapping[Kind, str]] = {
    "text": "TEXT",
    "integer": "INTEGER",
    "real": "REAL",
    "flag": "INTEGER",
    # As text, so that no binary fraction comes near it.
    "decimal": "TEXT",
}

# The key is in the order of time, so the table itself is the index that `recent` reads. Another by
# request id would cost two thirds as much again as the row: its keys come in no order at all.
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS requests (
    {", ".join(f"{name} {_TYPES[kind]}" for name, kind in REQUEST_COLUMNS)},
    PRIMARY KEY (usage_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (
    usage_id TEXT NOT NULL, request_id TEXT, ordinal INTEGER NOT NULL,
    {", ".join(f"{name} {_TYPES[kind]}" for name, kind in ATTEMPT_COLUMNS)},
    PRIMARY KEY (usage_id, ordinal)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""

# Rows a statement. sqlite3 lets go of the interpreter once a statement, so one a row would take
# it from the requests hundreds of times a batch. Handing SQLite the batch as JSON to unpack does
# that once too, but costs six times the processor time (29 against 5 microseconds a row). More
# rows gain nothing, and SQLite before 3.32 takes 999 parameters at most.
_CHUNKS: Final = (32, 8, 1)


def _inserts(table: str, names: tuple[str, ...]) -> dict[int, str]:
    row = f"({', '.join('?' * len(names))})"
    into = f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES "  # noqa: S608
    return {n: into + ", ".join([row] * n) for n in _CHUNKS}


# Only names of our own go into the statements' text.
_INSERT_REQUESTS = _inserts("requests", REQUEST_NAMES)
_INSERT_ATTEMPTS = _inserts("attempts", ATTEMPT_NAMES)
_RECENT = f"SELECT {', '.join(REQUEST_NAMES)} FROM requests ORDER BY usage_id DESC LIMIT ?"  # noqa: S608
_ATTEMPTS_OF = f"""
SELECT {", ".join(ATTEMPT_NAMES)} FROM attempts
WHERE usage_id >= ? AND usage_id <= ? ORDER BY usage_id, ordinal
"""  # noqa: S608


class SQLiteLedger:
    """A SQLite file in WAL mode: readers and the writers of other processes don't wait for us.

    The file is opened at the first use, by the thread that uses it. `busy_timeout_s` is how long
    a write waits for another process's before it raises `LedgerUnavailable`.
    """

    def __init__(self, path: str | Path, *, busy_timeout_s: float = 2.0) -> None:
        self.path = str(path)
        self._busy_timeout_s = busy_timeout_s
        self._connection: sqlite3.Connection | None = None

    def write(self, rows: Sequence[UsageRow]) -> None:
        """Store rows in one transaction."""
        requests, attempts = request_values(rows), attempt_values(rows)
        try:
            connection = self._open()
            with connection:
                _insert(connection, _INSERT_REQUESTS, requests)
                _insert(connection, _INSERT_ATTEMPTS, attempts)
        except (sqlite3.DataError, sqlite3.IntegrityError):
            raise  # a row's fault, which trying again does not mend
        except sqlite3.DatabaseError as error:
            self.close()
            raise LedgerUnavailable(f"{self.path}: {error}") from error

    def recent(self, limit: int) -> list[UsageRow]:
        """The newest rows, newest first."""
        try:
            connection = self._open()
            requests = connection.execute(_RECENT, (max(0, limit),)).fetchall()
            if not requests:
                return []
            span = (requests[-1][0], requests[0][0])
            attempts = connection.execute(_ATTEMPTS_OF, span).fetchall()
        except sqlite3.DatabaseError as error:
            self.close()
            raise LedgerUnavailable(f"{self.path}: {error}") from error
        return list(usage_rows(requests, attempts))

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        connection = sqlite3.connect(
            self.path, timeout=self._busy_timeout_s, check_same_thread=False
        )
        if sql_log.wanted():
            connection.set_trace_callback(sql_log.say)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # In WAL mode NORMAL loses nothing when the process dies, at most the last
            # transactions when the power does (sqlite.org/pragma.html#pragma_synchronous).
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection


def _insert(
    connection: sqlite3.Connection, statements: dict[int, str], rows: list[tuple[Any, ...]]
) -> None:
    start = 0
    for size in _CHUNKS:
        while len(rows) - start >= size:
            chunk = rows[start : start + size]
            connection.execute(statements[size], tuple(chain.from_iterable(chunk)))
            start += size
