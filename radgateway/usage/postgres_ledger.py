"""Usage rows in PostgreSQL, shared by all replicas. Needs psycopg: `radgateway[postgres]`.

A batch is one transaction of one statement a table, and holds nothing in the session, so that a
connection pooler may stand between. The server is given a time limit for each statement; since a
server that hangs keeps none, the connection is cut off a little later from here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import psycopg

from radgateway.usage import schema
from radgateway.usage.ledger import Connections, LedgerUnavailable
from radgateway.usage.migrations import VERSION_TABLE
from radgateway.usage.postgres_connection import connect, connection_parameters, time_limit
from radgateway.usage.postgres_writing import delete_old, insert
from radgateway.usage.query import GroupBy, Page, Sums, UsageFilter
from radgateway.usage.read_pool import NoneFree, ReadPool
from radgateway.usage.retention import Horizon
from radgateway.usage.row import UsageRow

if TYPE_CHECKING:
    from radgateway.usage.reads import Run

_HAS_VERSION: Final = f"SELECT to_regclass('{VERSION_TABLE}') IS NOT NULL"
# Steps may take long where there are many rows, but to wait for others' is for later.
_ALONE: Final = (
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL lock_timeout = '2s'",
    "SELECT pg_advisory_xact_lock(hashtext('radgateway usage tables'))",
)
_MIGRATION_S: Final = 3600.0
"""Seconds after which a server that takes the steps is held to hang."""


class PostgresLedger:
    """Tables of a PostgreSQL database, made and brought up to date at the first use.

    `dsn` is what libpq takes: `postgresql://user:password@host/database` or `host=… password=…`;
    `ValueError` says that it is neither, and never quotes it. A write that lasts longer than
    `timeout_s` seconds raises `LedgerUnavailable`, a question after `read_timeout_s`; connecting
    may take 2 more for each host. `readers` ask at once at most, each on a connection of its own;
    who comes then waits `wait_s` for one to end.
    """

    def __init__(
        self,
        dsn: str,
        *,
        timeout_s: float = 4.0,
        read_timeout_s: float = 10.0,
        readers: int = 4,
        wait_s: float = 2.0,
    ) -> None:
        schema.require_libraries()
        for name, seconds in (("timeout_s", timeout_s), ("read_timeout_s", read_timeout_s)):
            if not seconds > 0:
                raise ValueError(f"{name} must be more than 0, not {seconds!r}")
        self._parameters = connection_parameters(dsn)
        host, database = (self._parameters.get(name, "") for name in ("host", "dbname"))
        self.address = f"{host}/{database}"
        """Host and database, without what may be secret."""
        self._timeout_s = timeout_s
        self._read_timeout_s = read_timeout_s
        self._readers = readers
        self._connection: psycopg.Connection | None = None
        self._writing = False
        self._pool = ReadPool(
            lambda: connect(self._parameters), size=readers, wait_s=wait_s, alive=self._is_alive
        )
        self._schema = schema.UpToDate(self._version, self._migrate)

    def write(self, rows: Sequence[UsageRow]) -> None:
        """Store rows in one transaction. A NUL, which PostgreSQL can't store, becomes U+FFFD."""
        with self._transaction() as connection:
            insert(connection, rows)

    def page(self, wanted: UsageFilter, limit: int, cursor: str | None = None) -> Page:
        """Rows that fit, newest first, from after a cursor on."""
        from radgateway.usage import reads  # noqa: PLC0415 - heavy, and only when asked

        with self._reading() as run:
            return reads.page(reads.POSTGRESQL, run, wanted, limit, cursor)

    def sums(self, wanted: UsageFilter, by: tuple[GroupBy, ...] = ()) -> list[Sums]:
        """Sums of what fits, from roll-ups where they tell it."""
        from radgateway.usage import reads  # noqa: PLC0415 - as above

        with self._reading() as run:
            return reads.sums(reads.POSTGRESQL, run, wanted, by)

    def expire(self, before: Horizon) -> int:
        """Delete some of what is too old, if no other replica does. Autovacuum has the rest."""
        with self._transaction() as connection:
            return delete_old(connection, before)

    def migrate(self) -> None:
        """Bring the schema up to date now. Raises `LedgerUnavailable`."""
        with self._unavailable():
            self._schema.ensure()

    def version(self) -> str | None:
        """The schema's version, None where there is none yet. Raises `LedgerUnavailable`."""
        with self._unavailable():
            return self._version()

    def connections(self) -> Connections:
        """The one that writes, and those that read."""
        in_use, idle = (1, 0) if self._writing else (0, 0 if self._connection is None else 1)
        return Connections(in_use + self._pool.in_use, idle + self._pool.idle, 1 + self._readers)

    def close(self) -> None:
        """Close all connections; the next use opens others."""
        self._drop()
        self._pool.close()

    def _drop(self) -> None:
        self._schema.doubt()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection]:
        """The connection that writes, for one transaction; after a failure it is not used again."""
        self._writing = True
        try:
            with self._unavailable():
                self._schema.ensure()
                if self._connection is None:
                    self._connection = connect(self._parameters)
                connection = self._connection
                with time_limit(connection, self._timeout_s):
                    connection.execute(f"BEGIN; {_own_limit(self._timeout_s)}")
                    yield connection
                    connection.execute("COMMIT")
        except BaseException:
            self._drop()
            raise
        finally:
            self._writing = False

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Run]:
        """What runs a statement on a connection of the pool, in a transaction that only reads."""
        limit_s = self._read_timeout_s
        with self._unavailable():
            self._schema.ensure()
            with self._pool.connection() as connection, time_limit(connection, limit_s):
                connection.execute(
                    f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_own_limit(limit_s)}"
                )
                yield connection.execute
                connection.execute("COMMIT")

    def _is_alive(self, connection: psycopg.Connection) -> bool:
        """Whether the server still knows a connection that was idle. Raises where it hangs."""
        try:
            with time_limit(connection, self._timeout_s):
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _version(self) -> str | None:
        with connect(self._parameters) as connection, time_limit(connection, self._timeout_s):
            if connection.execute(_HAS_VERSION).fetchone() != (True,):
                return None
            found: tuple[str] | None = connection.execute(schema.READ_VERSION).fetchone()
        return found[0] if found is not None else None

    def _migrate(self) -> None:
        connection = connect(self._parameters, autocommit=False)
        with contextlib.closing(connection), time_limit(connection, _MIGRATION_S):
            schema.bring_up_to_date("postgresql+psycopg", lambda: connection, _ALONE)

    @contextlib.contextmanager
    def _unavailable(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.DataError, psycopg.IntegrityError):
            raise  # a row's fault, which trying again does not mend
        except (psycopg.Error, OSError, schema.SchemaTooNew, NoneFree) as error:
            said = " ".join(str(error).split())
            raise LedgerUnavailable(f"{self.address}: {said}") from error


def _own_limit(seconds: float) -> str:
    # The server's own limit comes first, so that no statement is left behind, waiting.
    return f"SET LOCAL statement_timeout = {max(1, int(seconds * 750))}"
