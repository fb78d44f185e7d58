"""Connections to PostgreSQL that end when they should: addresses, and limits on waiting."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any, Final, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

from radgateway.usage import sql_log
from radgateway.usage.cut_off import cut_off

CONNECTING: Final = {
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


def connect(parameters: dict[str, Any], *, autocommit: bool = True) -> psycopg.Connection:
    """A new connection. Raises `psycopg.Error`."""
    # Prepared statements belong to a session, which a pooler would change under us.
    connection = psycopg.connect(
        autocommit=autocommit, prepare_threshold=None, **{**CONNECTING, **parameters}
    )
    if sql_log.wanted():
        connection.cursor_factory = _SaidCursor
    return connection


class _SaidCursor(psycopg.Cursor[Any]):
    """A cursor that says what it executes, without the values."""

    def execute(self, query: Any, *arguments: Any, **options: Any) -> Self:
        """Say the statement, then send it."""
        sql_log.say(str(query))
        return super().execute(query, *arguments, **options)


@contextlib.contextmanager
def time_limit(connection: psycopg.Connection, seconds: float) -> Iterator[None]:
    """Shut the connection's socket down if the block lasts longer, which ends any wait on it."""
    with socket.socket(fileno=os.dup(connection.fileno())) as wire:

        def shut() -> None:
            with contextlib.suppress(OSError):  # the peer was quicker
                wire.shutdown(socket.SHUT_RDWR)

        with cut_off(seconds, shut) as late:
            try:
                yield
            except psycopg.Error as error:
                if late.is_set():
                    raise psycopg.OperationalError(f"no answer within {seconds:g} s") from error
                raise


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
