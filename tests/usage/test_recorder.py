"""Every request leaves a row, whatever became of it, around our apps and others'."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from drive import drive, http_scope
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from radgateway.exchange import HEDGE_LOST, Usage, exchange_of, open_exchange
from radgateway.surface import LIST_MODELS, OPERATIONS
from radgateway.usage.recorder import UsageRecorder
from radgateway.usage.row import UsageRow


async def answer_ok(scope: Any, receive: Any, send: Any) -> None:
    """A bare app."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def never() -> Any:
    """A caller that sends nothing more."""
    raise AssertionError("nobody reads")


def test_alone_it_records_status_and_duration() -> None:
    """Around a bare app there is a row with what can be known."""
    rows: list[UsageRow] = []
    asyncio.run(drive(UsageRecorder(answer_ok, put=rows.append), http_scope("/any")))
    (row,) = rows
    assert (row.status, row.outcome, row.method, row.route) == (200, "success", "POST", "other")
    assert row.duration_ms >= 0
    assert row.input_tokens is None


def test_alone_around_starlette() -> None:
    """As a middleware of a Starlette app."""
    rows: list[UsageRow] = []
    app = Starlette(routes=[Route("/hi", lambda request: PlainTextResponse("hi"))])
    app.add_middleware(UsageRecorder, put=rows.append)
    answer = asyncio.run(drive(app, http_scope("/hi", method="GET")))
    assert answer.body == b"hi"
    assert [row.status for row in rows] == [200]


def test_other_scopes_pass_as_they_are() -> None:
    """A lifespan reaches the app as the same objects and leaves no row."""
    seen: list[Any] = []

    async def app(*given: Any) -> None:
        seen.extend(given)

    rows: list[UsageRow] = []
    given: list[Any] = [{"type": "lifespan"}, object(), object()]
    asyncio.run(UsageRecorder(app, put=rows.append)(*given))
    assert all(a is b for a, b in zip(seen, given, strict=True))
    assert rows == []


def test_an_error_is_recorded_and_raised() -> None:
    """An app that raises leaves a 500; one that raises mid-answer an interrupted row."""

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("bug")

    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("bug")

    rows: list[UsageRow] = []
    for app in (fails, breaks):
        with pytest.raises(RuntimeError):
            asyncio.run(drive(UsageRecorder(app, put=rows.append), http_scope("/")))
    assert [(row.status, row.outcome) for row in rows] == [
        (500, "upstream_error"),
        (200, "interrupted"),
    ]


def test_a_client_that_leaves_is_recorded() -> None:
    """A disconnect seen by the app counts as 499; one after the answer as nothing."""

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def reads_on(scope: Any, receive: Any, send: Any) -> None:
        await answer_ok(scope, receive, send)
        while (await receive())["type"] != "http.disconnect":
            pass

    async def run() -> list[UsageRow]:
        rows: list[UsageRow] = []
        gone = asyncio.Event()
        gone.set()
        await drive(UsageRecorder(waits, put=rows.append), http_scope("/"), leave=gone)
        await drive(UsageRecorder(reads_on, put=rows.append), http_scope("/"))
        return rows

    assert [(r.status, r.outcome) for r in asyncio.run(run())] == [
        (499, "client_disconnected"),
        (200, "success"),
    ]


def test_a_cancelled_request_is_recorded() -> None:
    """Cancellation passes through, after the row was queued."""

    async def run() -> list[UsageRow]:
        rows: list[UsageRow] = []

        async def hangs(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.Event().wait()

        task = asyncio.create_task(drive(UsageRecorder(hangs, put=rows.append), http_scope("/")))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return rows

    assert len(asyncio.run(run())) == 1


def test_in_the_gateway_it_reads_the_record() -> None:
    """Model, attempts and tokens come from the exchange; listing models leaves no row."""
    rows: list[UsageRow] = []

    async def served(scope: Any, receive: Any, send: Any) -> None:
        exchange = exchange_of(scope)
        assert exchange is not None
        exchange.model = "fast"
        attempt = exchange.begin_attempt("openai", "gpt-4o-mini", None)
        attempt.status, attempt.usage = 200, Usage(12, 18)
        await answer_ok(scope, receive, send)

    async def run() -> list[tuple[str, float, float]]:
        spans: list[tuple[str, float, float]] = []
        for operation in (OPERATIONS["/v1/chat/completions"], LIST_MODELS):

            async def app(scope: Any, receive: Any, send: Any, operation: Any = operation) -> None:
                scope, send, exchange = open_exchange(scope, send, "r1")
                exchange.operation, exchange.spans = operation, spans
                await UsageRecorder(served, put=rows.append)(scope, receive, send)

            await drive(app, http_scope(operation.route))
        return spans

    spans = asyncio.run(run())
    (row,) = rows
    assert (row.model, row.selected_model, row.provider) == ("fast", "gpt-4o-mini", "openai")
    assert row.total_tokens == 30
    assert row.request_id == "r1"
    assert [name for name, _, _ in spans] == ["usage_record"]


def test_a_row_is_held_before_the_last_byte_is_sent() -> None:
    """Whoever has the whole answer has a row, though the process end at that moment."""
    events: list[str] = []

    async def send(message: Any) -> None:
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        events.append("last" if last else message["type"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"o", "more_body": True})
        await send({"type": "http.response.body", "body": b"k"})

    rows: list[UsageRow] = []

    def hold(row: UsageRow) -> None:
        events.append("held")
        rows.append(row)

    def put(row: UsageRow) -> None:
        events.append("put")
        rows.append(row)

    asyncio.run(UsageRecorder(app, put=put, hold=hold)(http_scope("/"), never, send))
    assert events == [
        "http.response.start",
        "http.response.body",
        "held",
        "last",
        "put",
    ]
    held, final = rows
    assert held is final
    assert (held.status, held.outcome) == (200, "success")
    assert held.ttft_ms is not None


def test_a_row_that_turns_out_otherwise_is_held_anew() -> None:
    """A last byte that never went out makes of a success an interrupted answer, of one id."""

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise asyncio.CancelledError

    held: list[UsageRow] = []
    put: list[UsageRow] = []
    recorder = UsageRecorder(answer_ok, put=put.append, hold=held.append)

    async def run() -> None:
        with pytest.raises(asyncio.CancelledError):
            await recorder(http_scope("/"), never, send)

    asyncio.run(run())
    first, second = held
    assert put == [second]
    assert (first.outcome, second.outcome) == ("success", "interrupted")
    assert first.usage_id == second.usage_id


def test_the_loser_of_a_race_is_told_of_though_it_ends_after_the_last_byte() -> None:
    """An answer that comes whole goes out in the turn in which it wins."""

    async def races(scope: Any, receive: Any, send: Any) -> None:
        exchange = exchange_of(scope)
        assert exchange is not None
        lost = exchange.begin_attempt("a", "m", None)
        won = exchange.begin_attempt("b", "m", None, hedge=True)
        won.usage, exchange.final = Usage(12, 18), won
        await answer_ok(scope, receive, send)
        lost.failure, lost.usage = HEDGE_LOST, Usage(12, 500, source="estimated")

    async def run() -> None:
        scope, send, _ = open_exchange(http_scope("/"), nowhere, "r1")
        await UsageRecorder(races, put=put.append, hold=held.append)(scope, never, send)

    async def nowhere(message: Any) -> None:
        pass

    held: list[UsageRow] = []
    put: list[UsageRow] = []
    asyncio.run(run())
    early, final = held
    assert put == [final]
    assert early.usage_id == final.usage_id
    lost, won = final.attempts
    assert (lost.failure, lost.usage_source, lost.output_tokens) == (HEDGE_LOST, "estimated", 500)
    assert (won.hedge, final.usage_source, final.output_tokens) == (True, "reported", 18)


def test_without_a_last_byte_the_row_is_put_at_the_end() -> None:
    """An answer that breaks off has no moment at which it is whole."""

    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("bug")

    held: list[UsageRow] = []
    put: list[UsageRow] = []
    recorder = UsageRecorder(breaks, put=put.append, hold=held.append)
    with pytest.raises(RuntimeError):
        asyncio.run(drive(recorder, http_scope("/")))
    assert held == []
    assert [row.outcome for row in put] == ["interrupted"]
