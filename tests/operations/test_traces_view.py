"""GET traces: requests as what happened, newest first."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlencode

from drive import Answer, drive, http_scope
from usage_rows import attempt_row, stored, usage_row

from radgateway.asgi import ASGIApp
from radgateway.exchange import HEDGE_LOST
from radgateway.operations.traces_view import COLUMNS, events_of, traces_view
from radgateway.usage.ledger import MemoryLedger
from radgateway.usage.row import UsageRow
from radgateway.usage.writer import UsageWriter

NOW = 1_795_600_800.0


def run(rows: list[UsageRow], story: Callable[[ASGIApp], Coroutine[Any, Any, None]]) -> None:
    """Run a story with the endpoint over some rows."""

    async def told() -> None:
        ledger = MemoryLedger()
        stored(ledger, rows)
        usage = UsageWriter(ledger)
        await story(traces_view(usage, lambda: NOW))
        await usage.aclose()

    asyncio.run(told())


async def ask(app: ASGIApp, **query: Any) -> Answer:
    """One request."""
    return await drive(app, http_scope("/", method="GET", query=urlencode(query)))


def test_a_failed_over_request_tells_its_story() -> None:
    """Each attempt with who, what and why, at the time it ended; the newest event first."""
    row = usage_row(
        NOW,
        attempts=(
            attempt_row(provider="first", status=503, failure="status_503", duration_ms=5.0),
            attempt_row(provider="second", offset_ms=6.0, duration_ms=4.0),
            attempt_row(provider="third", status=None, failure=HEDGE_LOST),
            attempt_row(provider="fourth", status=None),
        ),
        duration_ms=20.0,
    )
    events = events_of(row)
    assert [event["message"] for event in events] == [
        "gateway request completed",
        "provider attempt abandoned",
        "provider attempt abandoned",
        "provider attempt answered",
        "provider attempt failed",
        "gateway request accepted",
    ]
    failed = events[4]
    assert (failed["provider"], failed["status"], failed["reason"], failed["durationMs"]) == (
        "first",
        503,
        "status_503",
        5.0,
    )
    assert failed["timestamp"] == "2026-11-25T10:00:00.006Z"
    assert events[0]["timestamp"] == "2026-11-25T10:00:00.020Z"
    assert {(event["requestId"], event["traceId"]) for event in events} == {
        (row.request_id, row.trace_id)
    }


def test_a_failure_says_why() -> None:
    """By its code, or what broke it off."""
    refused = events_of(usage_row(outcome="refused", status=429, error_code="rate_limited"))[0]
    assert (refused["message"], refused["reason"]) == ("gateway request failed", "rate_limited")
    cut = events_of(usage_row(outcome="interrupted", interrupted="idle_timeout"))[0]
    assert cut["reason"] == "idle_timeout"


def test_one_request_is_found_by_its_trace() -> None:
    """And pages count requests, so that no story is torn."""
    rows = [usage_row(NOW - index) for index in range(5)]

    async def story(app: ASGIApp) -> None:
        found = json.loads((await ask(app, trace_id=rows[2].trace_id)).body)
        assert {event["requestId"] for event in found["data"]} == {rows[2].request_id}
        assert (found["total"], found["nextCursor"]) == (3, None)
        page = json.loads((await ask(app, limit=2)).body)
        newest = [row.request_id for row in rows[:2]]
        assert [event["requestId"] for event in page["data"][::3]] == newest
        rest = json.loads((await ask(app, limit=3, cursor=page["nextCursor"])).body)
        assert (rest["total"], rest["nextCursor"]) == (9, None)

    run(rows, story)


def test_events_can_be_exported() -> None:
    """One record an event; what an event says nothing of is empty."""

    async def story(app: ASGIApp) -> None:
        answer = await ask(app, format="csv")
        records = list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))
        assert list(records[0]) == list(COLUMNS)
        assert [record["message"] for record in records] == [
            "gateway request completed",
            "provider attempt answered",
            "gateway request accepted",
        ]
        assert [record["provider"] for record in records] == ["", "openai", ""]
        assert "usage" not in (answer.header("content-disposition") or "")

    run([usage_row()], story)


def test_events_are_not_summed() -> None:
    """A parameter of another path is refused like any unknown one."""

    async def story(app: ASGIApp) -> None:
        answer = await ask(app, group_by="key")
        assert answer.status == 400
        assert b"`group_by` is no parameter of this path" in answer.body

    run([], story)
