"""Where usage rows are kept: a SQLite file, or a bounded ring in memory.

A ledger is plain and blocking; `UsageWriter` calls it from a thread of its own, never from the
event loop. Writing a row twice leaves one: its ids are unique and inserts ignore what is there,
so a batch whose outcome is in doubt is simply written again.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol

import msgspec

from radgateway.usage.row import AttemptRow, UsageRow


class LedgerUnavailable(Exception):
    """The store can't take or give rows now; later it may."""


class Ledger(Protocol):
    """A store of usage rows. Its methods block; any one thread at a time calls them."""

    def write(self, rows: Sequence[UsageRow]) -> None:
        """Store rows, all or none, each once. Raises `LedgerUnavailable`."""

    def recent(self, limit: int) -> list[UsageRow]:
        """The newest rows, newest first. Raises `LedgerUnavailable`."""

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
        with self._lock:
            rows = list(self._rows.values())
        return rows[: -limit - 1 : -1] if limit > 0 else []

    def close(self) -> None:
        """Nothing to let go of."""


REQUEST_COLUMNS: Final = (
    ("usage_id", "TEXT PRIMARY KEY"),
    ("started_at", "REAL"),
    ("request_id", "TEXT"),
    ("trace_id", "TEXT"),
    ("api_key_name", "TEXT"),
    ("api_type", "TEXT"),
    ("route", "TEXT"),
    ("method", "TEXT"),
    ("model", "TEXT"),
    ("selected_model", "TEXT"),
    ("provider", "TEXT"),
    ("status", "INTEGER"),
    ("outcome", "TEXT"),
    ("error_code", "TEXT"),
    ("interrupted", "TEXT"),
    ("stream", "INTEGER"),
    ("duration_ms", "REAL"),
    ("ttft_ms", "REAL"),
    ("queued_ms", "REAL"),
    ("input_tokens", "INTEGER"),
    ("output_tokens", "INTEGER"),
    ("cached_tokens", "INTEGER"),
    ("reasoning_tokens", "INTEGER"),
    ("usage_source", "TEXT"),
    ("cost_usd", "TEXT"),
)
"""The table `requests`; `UsageRow` has its fields in this order."""

ATTEMPT_COLUMNS: Final = (
    ("provider", "TEXT"),
    ("model", "TEXT"),
    ("status", "INTEGER"),
    ("failure", "TEXT"),
    ("sent", "INTEGER"),
    ("offset_ms", "REAL"),
    ("duration_ms", "REAL"),
    ("first_byte_ms", "REAL"),
    ("waited_ms", "REAL"),
    ("connect_ms", "REAL"),
    ("input_tokens", "INTEGER"),
    ("output_tokens", "INTEGER"),
    ("usage_source", "TEXT"),
    ("cost_usd", "TEXT"),
)
"""The table `attempts` after its key (usage_id, ordinal); `AttemptRow` has this order."""

_ATTEMPTS_AT = len(REQUEST_COLUMNS)
_STREAM_AT = [name for name, _ in REQUEST_COLUMNS].index("stream")


def _values(source: str, count: int) -> str:
    return ", ".join(f"json_extract({source}, '$[{i}]')" for i in range(count))


_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS requests ({", ".join(" ".join(c) for c in REQUEST_COLUMNS)});
CREATE INDEX IF NOT EXISTS requests_request_id ON requests (request_id);
CREATE INDEX IF NOT EXISTS requests_started_at ON requests (started_at);
CREATE TABLE IF NOT EXISTS attempts (
    usage_id TEXT NOT NULL REFERENCES requests (usage_id), request_id TEXT, ordinal INTEGER,
    {", ".join(" ".join(c) for c in ATTEMPT_COLUMNS)},
    PRIMARY KEY (usage_id, ordinal)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
# One statement a table and batch. Row by row the statements' Python side holds the interpreter
# lock for so long that requests lost 15 % of their throughput.
_INSERT_REQUESTS = f"""
INSERT OR IGNORE INTO requests SELECT {_values("value", _ATTEMPTS_AT)} FROM json_each(?)
"""  # noqa: S608 - only names and numbers of our own
_INSERT_ATTEMPTS = f"""
INSERT OR IGNORE INTO attempts
SELECT json_extract(r.value, '$[0]'), json_extract(r.value, '$[2]'), a.key,
       {_values("a.value", len(ATTEMPT_COLUMNS))}
FROM json_each(?) AS r, json_each(r.value, '$[{_ATTEMPTS_AT}]') AS a
"""  # noqa: S608 - only names and numbers of our own
_NAMES = ", ".join(name for name, _ in REQUEST_COLUMNS)
_RECENT = f"SELECT {_NAMES} FROM requests ORDER BY started_at DESC, rowid DESC LIMIT ?"  # noqa: S608
_ATTEMPTS_OF = f"""
SELECT usage_id, {", ".join(name for name, _ in ATTEMPT_COLUMNS)} FROM attempts
WHERE usage_id IN (SELECT value FROM json_each(?)) ORDER BY usage_id, ordinal
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
        batch = msgspec.json.encode(rows).decode()
        try:
            connection = self._open()
            with connection:
                connection.execute(_INSERT_REQUESTS, (batch,))
                connection.execute(_INSERT_ATTEMPTS, (batch,))
        except (sqlite3.DataError, sqlite3.IntegrityError):
            raise  # a row's fault, which trying again does not mend
        except sqlite3.DatabaseError as error:
            self.close()
            raise LedgerUnavailable(f"{self.path}: {error}") from error

    def recent(self, limit: int) -> list[UsageRow]:
        """The newest rows, newest first."""
        try:
            connection = self._open()
            rows = connection.execute(_RECENT, (max(0, limit),)).fetchall()
            ids = msgspec.json.encode([row[0] for row in rows]).decode()
            attempts: dict[str, list[AttemptRow]] = {}
            for usage_id, *fields in connection.execute(_ATTEMPTS_OF, (ids,)):
                attempts.setdefault(usage_id, []).append(_attempt(fields))
        except sqlite3.DatabaseError as error:
            self.close()
            raise LedgerUnavailable(f"{self.path}: {error}") from error
        return [_request(row, tuple(attempts.get(row[0], ()))) for row in rows]

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


def _attempt(fields: list[Any]) -> AttemptRow:
    fields[4] = bool(fields[4])
    return AttemptRow(*fields)


def _request(fields: tuple[Any, ...], attempts: tuple[AttemptRow, ...]) -> UsageRow:
    values: list[Any] = [*fields, attempts]
    values[_STREAM_AT] = bool(values[_STREAM_AT])
    return UsageRow(*values)
