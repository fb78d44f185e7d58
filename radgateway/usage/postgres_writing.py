"""The statements that change a PostgreSQL ledger, each inside a transaction of the caller's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import psycopg

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


def _insert(table: str, names: Iterable[str], conflict: str) -> str:
    # The batch as one JSON text. COPY to a temporary table and INSERT from it was measured between
    # a tenth slower and half faster at 500 rows, twice as slow at the few that mostly come, and it
    # needs a session. executemany, as a pipeline, took four times as long, an array a column twice.
    columns = ", ".join(names)
    return (
        f"INSERT INTO {table} ({columns}) SELECT {columns} "  # noqa: S608 - names of our own
        f"FROM json_populate_recordset(NULL::{table}, %s::json) ON CONFLICT {conflict}"
    )


def _added(table: str) -> str:
    sums = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name, _ in FIGURES)
    return _insert(table, ROLLUP_NAMES, f"({_KEY}) DO UPDATE SET {sums}")


_KEY: Final = ", ".join(name for name, _ in DIMENSIONS)
_REQUESTS: Final = (
    _insert("radgateway_requests", REQUEST_NAMES, "DO NOTHING") + " RETURNING usage_id"
)
_ATTEMPTS: Final = _insert("radgateway_attempts", ATTEMPT_NAMES, "DO NOTHING")
_HOURLY: Final = _added("radgateway_hourly")
_DAILY: Final = _added("radgateway_daily")
# Released when the transaction ends, so a pooler may stand between.
_IS_MINE: Final = "SELECT pg_try_advisory_xact_lock(hashtext('radgateway usage retention'))"
_DELETE_ROWS: Final = """
WITH oldest AS (
    SELECT usage_id FROM radgateway_requests WHERE started_at < %(before)s
    ORDER BY started_at LIMIT %(most)s
), attempts AS (
    DELETE FROM radgateway_attempts USING oldest
    WHERE radgateway_attempts.usage_id = oldest.usage_id
)
DELETE FROM radgateway_requests USING oldest WHERE radgateway_requests.usage_id = oldest.usage_id
"""


def insert(connection: psycopg.Connection, rows: Sequence[UsageRow]) -> None:
    """Store rows that are not there yet, with their attempts, and add them to the roll-ups.

    A NUL, which PostgreSQL can't store, becomes U+FFFD.
    """
    new = each_once(rows)
    added = connection.execute(_REQUESTS, (_as_json(REQUEST_NAMES, request_values(new)),))
    known = {usage_id for (usage_id,) in added.fetchall()}
    if len(known) < len(new):
        new = [row for row in new if row.usage_id in known]
    connection.execute(_ATTEMPTS, (_as_json(ATTEMPT_NAMES, attempt_values(new)),))
    # Last, since all replicas add to the same few, and wait for who has them until its end.
    hours = by_hour(new)
    for statement, of in ((_HOURLY, hours), (_DAILY, by_day(hours))):
        connection.execute(statement, (_as_json(ROLLUP_NAMES, rollup_values(of)),))


def delete_old(connection: psycopg.Connection, before: Horizon) -> int:
    """Delete some rows and roll-ups of before some times, and say how many.

    0 as well where another replica is at it.
    """
    if connection.execute(_IS_MINE).fetchone() != (True,):
        return 0
    deleted = 0
    if before.rows is not None:
        limits = {"before": before.rows, "most": EXPIRED_AT_ONCE}
        deleted += connection.execute(_DELETE_ROWS, limits).rowcount
    for table, limit in (("radgateway_hourly", before.hourly), ("radgateway_daily", before.daily)):
        if limit is not None:
            oldest = f"SELECT {_KEY} FROM {table} WHERE bucket < %s ORDER BY bucket LIMIT %s"  # noqa: S608
            delete = f"DELETE FROM {table} WHERE ({_KEY}) IN ({oldest})"  # noqa: S608
            deleted += connection.execute(delete, (limit, EXPIRED_AT_ONCE)).rowcount
    return deleted


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
