"""Usage rows in PostgreSQL, shared by all replicas. Needs psycopg: `radgateway[postgres]`.

A batch is one transaction of one statement a table, and holds nothing in the session, so that a
connection pooler may stand between. The server is given a time limit for each statement; since a
server that hangs keeps none, the connection is cut off a little later from here.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Event, Timer
from typing import Any, Final, Self

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict

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
from radgateway.usage.ledger import LedgerUnavailable
from radgateway.usage.row import UsageRow

_CONNECTING: Final = {
    "connect_timeout": "2",
    # What unplugs a connection that is idle, or whose peer's machine is gone.
    "keepalives_idle": "30",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "4000",
    "fallback_application_name": "radgateway",
    "client_encoding": "utf8",
}
"""Where the address says nothing else: seconds, but tcp_user_timeout in milliseconds."""

_TYPES: Final[Mapping[Kind, str]] = {
    "text": "text",
    "integer": "bigint",
    "real": "double precision",
    "flag": "boolean",
    "decimal": "numeric",
}

# The key is hex and compared byte by byte; the database's own collation may cost ten times that.
# The tables' names say whose they are: a database may be shared with others.
_KEY = 'usage_id text COLLATE "C" NOT NULL'
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS radgateway_requests (
    {_KEY}, {", ".join(f"{name} {_TYPES[kind]}" for name, kind in REQUEST_COLUMNS[1:])},
    PRIMARY KEY (usage_id)
);
CREATE TABLE IF NOT EXISTS radgateway_attempts (
    {_KEY}, request_id text, ordinal integer NOT NULL,
    {", ".join(f"{name} {_TYPES[kind]}" for name, kind in ATTEMPT_COLUMNS)},
    PRIMARY KEY (usage_id, ordinal)
);
"""
# Asked first: IF NOT EXISTS needs the right to create tables even where there is nothing to do.
_HAS_TABLES = """
SELECT to_regclass('radgateway_requests') IS NOT NULL
   AND to_regclass('radgateway_attempts') IS NOT NULL
"""
# IF NOT EXISTS alone fails where two create a table at the same moment.
_ALONE = "SELECT pg_advisory_xact_lock(hashtext('radgateway usage tables'))"


def _insert(table: str, names: tuple[str, ...]) -> str:
    # The batch as one JSON text. COPY to a temporary table and INSERT from it was measured between
    # a tenth slower and half faster at 500 rows, twice as slow at the few that mostly come, and it
    # needs a session. executemany, as a pipeline, took four times as long, an array a column twice.
    columns = ", ".join(names)
    return (
        f"INSERT INTO {table} ({columns}) SELECT {columns} "  # noqa: S608 - names of our own
        f"FROM json_populate_recordset(NULL::{table}, %s::json) ON CONFLICT DO NOTHING"
    )


def _selected(names: Iterable[str]) -> str:
    return ", ".join("cost_usd::text" if name == "cost_usd" else name for name in names)


_INSERT_REQUESTS = _insert("radgateway_requests", REQUEST_NAMES)
_INSERT_ATTEMPTS = _insert("radgateway_attempts", ATTEMPT_NAMES)
_RECENT = f"""
SELECT {_selected(REQUEST_NAMES)} FROM radgateway_requests ORDER BY usage_id DESC LIMIT %s
"""  # noqa: S608
_ATTEMPTS_OF = f"""
SELECT {_selected(ATTEMPT_NAMES)} FROM radgateway_attempts
WHERE usage_id = ANY(%s) ORDER BY usage_id, ordinal
"""  # noqa: S608


class PostgresLedger:
    """Two tables of a PostgreSQL database, created at the first use where they are missing.

    `dsn` is what libpq takes: `postgresql://user:password@host/database` or `host=… password=…`;
    `ValueError` says that it is neither, and never quotes it. A write or read that lasts longer
    than `timeout_s` seconds raises `LedgerUnavailable`; connecting may take 2 more for each host.
    """

    def __init__(self, dsn: str, *, timeout_s: float = 4.0) -> None:
        if not timeout_s > 0:
            raise ValueError(f"timeout_s must be more than 0, not {timeout_s!r}")
        parameters = connection_parameters(dsn)
        self._parameters: dict[str, Any] = {**_CONNECTING, **parameters}
        self.address = f"{parameters.get('host', '')}/{parameters.get('dbname', '')}"
        """Host and database, without what may be secret."""
        self._timeout_s = timeout_s
        # The server's own limit comes first, so that no statement is left behind, waiting.
        self._begin = f"BEGIN; SET LOCAL statement_timeout = {max(1, int(timeout_s * 750))}"
        self._connection: psycopg.Connection | None = None

    def write(self, rows: Sequence[UsageRow]) -> None:
        """Store rows in one transaction. A NUL, which PostgreSQL can't store, becomes U+FFFD."""
        requests = _as_json(REQUEST_NAMES, request_values(rows))
        attempts = _as_json(ATTEMPT_NAMES, attempt_values(rows))
        with self._transaction() as connection:
            connection.execute(_INSERT_REQUESTS, (requests,))
            connection.execute(_INSERT_ATTEMPTS, (attempts,))

    def recent(self, limit: int) -> list[UsageRow]:
        """The newest rows, newest first."""
        with self._transaction() as connection:
            requests = connection.execute(_RECENT, (max(0, limit),)).fetchall()
            ids = [request[0] for request in requests]
            attempts = connection.execute(_ATTEMPTS_OF, (ids,)).fetchall()
        return list(usage_rows(requests, attempts))

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection]:
        """A connection for one transaction; after a failure it is not used again."""
        try:
            connection, is_new = self._connection, self._connection is None
            if connection is None:
                # Prepared statements belong to a session, which a pooler would change under us.
                connection = self._connection = psycopg.connect(
                    autocommit=True, prepare_threshold=None, **self._parameters
                )
                if sql_log.wanted():
                    connection.cursor_factory = _SaidCursor
            with _cut_off(connection, self._timeout_s):
                if is_new:
                    _create_tables(connection, self._begin)
                connection.execute(self._begin)
                yield connection
                connection.execute("COMMIT")
        except (psycopg.DataError, psycopg.IntegrityError):
            self.close()
            raise  # a row's fault, which trying again does not mend
        except (psycopg.Error, OSError) as error:
            self.close()
            said = " ".join(str(error).split())
            raise LedgerUnavailable(f"{self.address}: {said}") from error
        except BaseException:
            self.close()
            raise


class _SaidCursor(psycopg.Cursor[Any]):
    """A cursor that says what it executes, without the values."""

    def execute(self, query: Any, *arguments: Any, **options: Any) -> Self:
        """Say the statement, then send it."""
        sql_log.say(str(query))
        return super().execute(query, *arguments, **options)


def _create_tables(connection: psycopg.Connection, begin: str) -> None:
    if connection.execute(_HAS_TABLES).fetchone() != (True,):
        for step in (begin, _ALONE, _SCHEMA, "COMMIT"):
            connection.execute(step)


def connection_parameters(dsn: str) -> dict[str, Any]:
    """What an address says. Raises `ValueError`, without the address or its parts."""
    # What stands unescaped in a password ends it early for libpq, which takes the rest for a host
    # and repeats it when that is not found.
    scheme, _, rest = dsn.partition("://")
    before = rest.partition("@")[0]
    if scheme in ("postgresql", "postgres") and (
        rest.count("@") > 1 or ("@" in rest and set(before) & set("/?#"))
    ):
        raise ValueError("user name and password must be percent-encoded")
    with contextlib.suppress(psycopg.ProgrammingError, UnicodeError):
        return conninfo_to_dict(dsn)
    # Not from within a handler: libpq quotes what it stumbled over.
    raise ValueError("is not an address that PostgreSQL's client library takes")


def _as_json(names: tuple[str, ...], values: list[tuple[Any, ...]]) -> str:
    text = msgspec.json.encode([dict(zip(names, each, strict=True)) for each in values]).decode()
    if "\\u0000" not in text:
        return text
    cleaned = [
        {
            name: value.replace("\0", "\ufffd") if isinstance(value, str) else value
            for name, value in zip(names, each, strict=True)
        }
        for each in values
    ]
    return msgspec.json.encode(cleaned).decode()


@contextlib.contextmanager
def _cut_off(connection: psycopg.Connection, seconds: float) -> Iterator[None]:
    """Shut the connection's socket down if the block lasts longer, which ends any wait on it."""
    late = Event()
    with socket.socket(fileno=os.dup(connection.fileno())) as wire:

        def cut() -> None:
            late.set()
            with contextlib.suppress(OSError):  # the peer was quicker
                wire.shutdown(socket.SHUT_RDWR)

        timer = Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except psycopg.Error as error:
            if late.is_set():
                raise psycopg.OperationalError(f"no answer within {seconds:g} s") from error
            raise
        finally:
            timer.cancel()
            timer.join()
