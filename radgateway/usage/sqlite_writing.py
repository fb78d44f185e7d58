"""The statements that change a SQLite ledger, each inside a transaction of the caller's."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from itertools import chain
from typing import Any, Final

from radgateway.usage.columns import (
    ATTEMPT_NAMES,
    REQUEST_NAMES,
    attempt_values,
    each_once,
    request_values,
)
from radgateway.usage.retention import EXPIRED_AT_ONCE, Horizon
from radgateway.usage.rollup import (
    DIMENSIONS,
    FIGURES,
    ROLLUP_NAMES,
    by_day,
    by_hour,
    rollup_values,
)
from radgateway.usage.row import UsageRow

# Rows a statement. sqlite3 lets go of the interpreter once a statement, so one a row would take
# it from the requests hundreds of times a batch. Handing SQLite the batch as JSON to unpack does
# that once too, but costs six times the processor time (29 against 5 microseconds a row). More
# rows gain nothing, and SQLite before 3.32 takes 999 parameters at most.
_CHUNKS: Final = (32, 8, 1)


def _inserts(into: str, names: tuple[str, ...], conflict: str) -> dict[int, str]:
    row = f"({', '.join('?' * len(names))})"
    insert = f"INSERT INTO {into} ({', '.join(names)}) VALUES "  # noqa: S608 - names of our own
    return {n: f"{insert}{', '.join([row] * n)} ON CONFLICT {conflict}" for n in _CHUNKS}


def _added(into: str) -> dict[int, str]:
    key = ", ".join(name for name, _ in DIMENSIONS)
    sums = ", ".join(
        f"{name} = add_exactly({name}, excluded.{name})"
        if kind == "decimal"
        else f"{name} = {name} + excluded.{name}"
        for name, kind in FIGURES
    )
    return _inserts(into, ROLLUP_NAMES, f"({key}) DO UPDATE SET {sums}")


_REQUESTS: Final = _inserts("radgateway_requests", REQUEST_NAMES, "DO NOTHING")
_ATTEMPTS: Final = _inserts("radgateway_attempts", ATTEMPT_NAMES, "DO NOTHING")
_HOURLY: Final = _added("radgateway_hourly")
_DAILY: Final = _added("radgateway_daily")
_OLDEST: Final = (
    "SELECT usage_id FROM radgateway_requests WHERE started_at < ? "
    "ORDER BY started_at, usage_id LIMIT ?"
)
_IS_KNOWN: Final = "SELECT 1 FROM radgateway_requests WHERE usage_id = ?"


def insert(connection: sqlite3.Connection, rows: Sequence[UsageRow]) -> None:
    """Store rows that are not there yet, with their attempts, and add them to the roll-ups."""
    new = each_once(rows)
    connection.execute("BEGIN IMMEDIATE")
    if _execute(connection, _REQUESTS, request_values(new)) < len(new):
        # Some are there already. Which ones, SQLite says only since 3.35 (RETURNING); it happens
        # after a crash, so that once more from the beginning does no harm.
        connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        new = [
            row for row in new if connection.execute(_IS_KNOWN, (row.usage_id,)).fetchone() is None
        ]
        _execute(connection, _REQUESTS, request_values(new))
    _execute(connection, _ATTEMPTS, attempt_values(new))
    hours = by_hour(new)
    _execute(connection, _HOURLY, rollup_values(hours))
    _execute(connection, _DAILY, rollup_values(by_day(hours)))


def add_exactly(one: str, other: str) -> str:
    """The sum of two decimals, for SQLite, which has floating-point numbers only."""
    return f"{Decimal(one) + Decimal(other):f}"


def delete_old(connection: sqlite3.Connection, before: Horizon) -> int:
    """Delete some rows and roll-ups of before some times, and say how many."""
    connection.execute("BEGIN IMMEDIATE")
    deleted = 0
    if before.rows is not None:
        for table in ("radgateway_attempts", "radgateway_requests"):
            delete = f"DELETE FROM {table} WHERE usage_id IN ({_OLDEST})"  # noqa: S608
            requests = connection.execute(delete, (before.rows, EXPIRED_AT_ONCE)).rowcount
        deleted += requests
    for table, limit in (("radgateway_hourly", before.hourly), ("radgateway_daily", before.daily)):
        if limit is not None:
            key = ", ".join(name for name, _ in DIMENSIONS)
            oldest = f"SELECT {key} FROM {table} WHERE bucket < ? ORDER BY bucket LIMIT ?"  # noqa: S608
            delete = f"DELETE FROM {table} WHERE ({key}) IN ({oldest})"  # noqa: S608
            deleted += connection.execute(delete, (limit, EXPIRED_AT_ONCE)).rowcount
    return deleted


def _execute(
    connection: sqlite3.Connection, statements: dict[int, str], rows: list[tuple[Any, ...]]
) -> int:
    """Run a statement for rows, in chunks, and say how many rows it has changed."""
    start = changed = 0
    for size in _CHUNKS:
        while len(rows) - start >= size:
            chunk = rows[start : start + size]
            values = tuple(chain.from_iterable(chunk))
            changed += connection.execute(statements[size], values).rowcount
            start += size
    return changed
