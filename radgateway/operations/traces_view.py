"""GET /v0/management/traces: the requests in the ledger as what happened, newest first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from radgateway.asgi import ASGIApp
from radgateway.exchange import HEDGE_LOST
from radgateway.operations.listing import Export, Listing
from radgateway.operations.query_parameters import TRACES, Query, check_known
from radgateway.operations.usage_view import Records, export, page_of_query, written
from radgateway.short_turns import in_short_turns, paced
from radgateway.usage.moment import rfc3339
from radgateway.usage.query import Page
from radgateway.usage.row import AttemptRow, UsageRow
from radgateway.usage.writer import UsageWriter

COLUMNS: Final = (
    "timestamp",
    "traceId",
    "requestId",
    "message",
    "apiKeyName",
    "route",
    "provider",
    "model",
    "status",
    "outcome",
    "reason",
    "durationMs",
    "firstByteMs",
    "costUsd",
)
"""The columns of an export; an event has those that say something of it."""


def traces_view(usage: UsageWriter, clock: Callable[[], float] = time.time) -> ASGIApp:
    """The endpoint. `limit` counts requests; each has all of its events on one page."""

    async def as_json(query: Query) -> tuple[int, Any]:
        check_known(query, TRACES)
        page = await page_of_query(usage, query, clock())
        return 200, await asyncio.to_thread(in_short_turns, _payload, page)

    async def as_csv(query: Query) -> Export:
        check_known(query, TRACES)
        return await export(usage, query, clock(), _EVENTS)

    return Listing(as_json, as_csv)


def events_of(row: UsageRow) -> list[dict[str, Any]]:
    """A request's story, newest first: accepted, each attempt, completed or failed."""

    def event(offset_ms: float, message: str, **more: Any) -> dict[str, Any]:
        return {
            "timestamp": rfc3339(row.started_at + offset_ms / 1000),
            "traceId": row.trace_id,
            "requestId": row.request_id,
            "message": message,
            **more,
        }

    events = [
        event(
            0.0,
            "gateway request accepted",
            apiKeyName=row.api_key_name,
            model=row.model,
            route=row.route,
        )
    ]
    events += [
        event(
            attempt.offset_ms + attempt.duration_ms,
            f"provider attempt {_fate(attempt)}",
            provider=attempt.provider,
            model=attempt.model,
            status=attempt.status,
            reason=attempt.failure,
            durationMs=attempt.duration_ms,
            firstByteMs=attempt.first_byte_ms,
            costUsd=attempt.cost_usd,
        )
        for attempt in row.attempts
    ]
    word = "completed" if row.outcome == "success" else "failed"
    events.append(
        event(
            row.duration_ms,
            f"gateway request {word}",
            outcome=row.outcome,
            status=row.status,
            reason=row.error_code or row.interrupted,
            durationMs=row.duration_ms,
            firstByteMs=row.ttft_ms,
            costUsd=row.cost_usd,
        )
    )
    return events[::-1]


def _fate(attempt: AttemptRow) -> str:
    if attempt.failure == HEDGE_LOST:
        return "abandoned"
    if attempt.failure is not None:
        return "failed"
    return "answered" if attempt.status is not None else "abandoned"


def _payload(page: Page) -> msgspec.Raw:
    data = [written(event) for row in paced(page.rows) for event in events_of(row)]
    return written({"data": data, "total": len(data), "nextCursor": page.next_cursor})


def _cells(row: UsageRow) -> Iterable[tuple[Any, ...]]:
    for event in events_of(row):
        yield tuple(event.get(name) for name in COLUMNS)


_EVENTS: Final = Records("traces", COLUMNS, _cells)
