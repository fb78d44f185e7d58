"""Where usage rows are kept: a SQLite file, or a bounded ring in memory.

A ledger is plain and blocking; `UsageWriter` calls it from threads of its own, never from the
event loop. Writing a row twice leaves one, and counts it once: its ids are unique and inserts
ignore what is there, so a batch whose outcome is in doubt is simply written again.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, Protocol

from radgateway.usage import schema, sql_log
from radgateway.usage.cut_off import cut_off
from radgateway.usage.migrations import VERSION_TABLE
from radgateway.usage.query import (
    GroupBy,
    Page,
    Sums,
    UsageFilter,
    newest_first,
    page_of,
    summed,
)
from radgateway.usage.read_pool import NoneFree, ReadPool
from radgateway.usage.retention import Horizon
from radgateway.usage.row import UsageRow
from radgateway.usage.sqlite_writing import add_exactly, delete_old, insert

if TYPE_CHECKING:
    from radgateway.usage.reads import Run


class LedgerUnavailable(Exception):
    """The store can't take or give rows now; later it may."""


class Connections(NamedTuple):
    """A ledger's connections to its database."""

    in_use: int
    idle: int
    most: int
    """As many as there may be at once."""


class Ledger(Protocol):
    """A store of usage rows. Its methods block.

    One thread at a time calls `write` and `expire`; `page` and `sums` may be called by several
    meanwhile, and hold up neither.
    """

    def write(self, rows: Sequence[UsageRow]) -> None:
        """Store rows, all or none, each once. Raises `LedgerUnavailable`."""

    def page(self, wanted: UsageFilter, limit: int, cursor: str | None = None) -> Page:
        """Rows that fit, newest first, from after a cursor on. Raises `LedgerUnavailable`."""

    def sums(self, wanted: UsageFilter, by: tuple[GroupBy, ...] = ()) -> list[Sums]:
        """Sums of what fits, by group (`query.summed`). Raises `LedgerUnavailable`."""

    def expire(self, before: Horizon) -> int:
        """Delete some of what is too old, in a moment, and say how much; 0 when none is left.

        0 as well where another process is at it. Raises `LedgerUnavailable`.
        """

    def connections(self) -> Connections:
        """How many connections there are."""

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

    def page(self, wanted: UsageFilter, limit: int, cursor: str | None = None) -> Page:
        """Rows that fit, newest first, from after a cursor on."""
        return page_of(newest_first(self._held()), wanted, limit, cursor)

    def sums(self, wanted: UsageFilter, by: tuple[GroupBy, ...] = ()) -> list[Sums]:
        """Sums of what fits, among the rows that are held."""
        return summed(self._held(), wanted, by)

    def expire(self, before: Horizon) -> int:
        """Nothing: the ring is its own bound."""
        return 0

    def connections(self) -> Connections:
        """None: it is in this process."""
        return Connections(0, 0, 0)

    def _held(self) -> list[UsageRow]:
        with self._lock:
            return list(self._rows.values())

    def close(self) -> None:
        """Nothing to let go of."""


class SQLiteLedger:
    """A SQLite file in WAL mode: readers and the writers of other processes don't wait for us.

    The file is opened at the first use, and its schema brought up to date. `busy_timeout_s` is how
    long a write waits for another process's before it raises `LedgerUnavailable`, `read_timeout_s`
    how long a question may take. `readers` ask at once at most; who comes then waits `wait_s` for
    one to end. Needs `radgateway[ledger]`, else `ImportError`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        busy_timeout_s: float = 2.0,
        read_timeout_s: float = 10.0,
        readers: int = 4,
        wait_s: float = 2.0,
    ) -> None:
        schema.require_libraries()
        if str(path) == ":memory:":
            raise ValueError("path must be that of a file; a MemoryLedger keeps rows in memory")
        self.path = str(path)
        self._busy_timeout_s = busy_timeout_s
        self._read_timeout_s = read_timeout_s
        self._readers = readers
        self._connection: sqlite3.Connection | None = None
        self._writing = False
        self._pool = ReadPool(self._connect, size=readers, wait_s=wait_s)
        self._schema = schema.UpToDate(self._version, self._migrate)

    def write(self, rows: Sequence[UsageRow]) -> None:
        """Store rows in one transaction."""
        with self._transaction() as connection:
            insert(connection, rows)

    def page(self, wanted: UsageFilter, limit: int, cursor: str | None = None) -> Page:
        """Rows that fit, newest first, from after a cursor on."""
        from radgateway.usage import reads  # noqa: PLC0415 - heavy, and only when asked

        with self._reading() as run:
            return reads.page(reads.SQLITE, run, wanted, limit, cursor)

    def sums(self, wanted: UsageFilter, by: tuple[GroupBy, ...] = ()) -> list[Sums]:
        """Sums of what fits, from roll-ups where they tell it."""
        from radgateway.usage import reads  # noqa: PLC0415 - as above

        with self._reading() as run:
            return reads.sums(reads.SQLITE, run, wanted, by)

    def expire(self, before: Horizon) -> int:
        """Delete some of what is too old. Pages become free for new rows; the file stays."""
        with self._transaction() as connection:
            return delete_old(connection, before)

    def migrate(self) -> None:
        """Bring the schema up to date now. Raises `LedgerUnavailable`."""
        with self._unavailable():
            self._schema.ensure()

    def version(self) -> str | None:
        """The schema's version, None where there is none yet. Raises `LedgerUnavailable`."""
        if not Path(self.path).exists():
            return None  # and is not made by a question
        with self._unavailable():
            return self._version()

    def connections(self) -> Connections:
        """The one that writes, and those that read."""
        in_use, idle = (1, 0) if self._writing else (0, 0 if self._connection is None else 1)
        return Connections(in_use + self._pool.in_use, idle + self._pool.idle, 1 + self._readers)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._drop()
        self._pool.close()

    def _drop(self) -> None:
        self._schema.doubt()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """The connection that writes, for one transaction."""
        self._writing = True
        try:
            with self._unavailable():
                if self._connection is None:
                    self._schema.ensure()
                    self._connection = self._connect()
                connection = self._connection
                with connection:
                    yield connection
        except LedgerUnavailable:
            self._drop()
            raise
        finally:
            self._writing = False

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Run]:
        """What runs a statement on a connection of the pool, for as long as one may ask.

        All statements see the file as it was at the first: a request is not shown without the
        attempts that retention deletes between the two.
        """
        with self._unavailable():
            self._schema.ensure()
            with (
                self._pool.connection() as connection,
                cut_off(self._read_timeout_s, connection.interrupt) as late,
            ):
                try:
                    connection.execute("BEGIN")
                    yield connection.execute
                    connection.execute("COMMIT")
                except sqlite3.OperationalError:
                    if late.is_set():
                        raise LedgerUnavailable(
                            f"{self.path}: no answer within {self._read_timeout_s:g} s"
                        ) from None
                    raise

    def _version(self) -> str | None:
        known = "SELECT count(*) FROM sqlite_master WHERE name = ?"
        with contextlib.closing(self._connect()) as connection:
            if connection.execute(known, (VERSION_TABLE,)).fetchone() == (0,):
                return None
            found: tuple[str] | None = connection.execute(schema.READ_VERSION).fetchone()
        return found[0] if found is not None else None

    def _migrate(self) -> None:
        # Steps are taken in the transaction that SQLAlchemy thinks it has begun.
        schema.bring_up_to_date("sqlite", self._connect_plainly, ["BEGIN IMMEDIATE"])

    def _connect(self) -> sqlite3.Connection:
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
            connection.create_function("add_exactly", 2, add_exactly, deterministic=True)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_plainly(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.isolation_level = None
        return connection

    @contextlib.contextmanager
    def _unavailable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DataError, sqlite3.IntegrityError):
            raise  # a row's fault, which trying again does not mend
        except (sqlite3.DatabaseError, schema.SchemaTooNew, NoneFree) as error:
            raise LedgerUnavailable(f"{self.path}: {error}") from error
