from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from drive import Answer, drive, http_scope
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import now, pending_timers, run_virtual

from radgateway.asgi import StreamBroken
from radgateway.exchange import exchange_of, open_exchange
from radgateway.inbound.drain import Drain, DrainGuard, DrainLimits
from radgateway.usage.row import UsageRow, row_of

EVENTS = [(b"content-type", b"text/event-stream")]


def serving(seconds: float, *, stream: bool, starts: bool = True, events: bool = True) -> Any:
    """An app that takes this long, streaming or not; it says so in the record as a router would."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        exchange = exchange_of(scope)
        assert exchange is not None
        exchange.stream = stream
        if starts:
            headers = EVENTS if events else []
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await asyncio.sleep(seconds)
        if not starts:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data: 2\n\n"})

    return app


async def begun(app: Any, path: str = "/v1/chat/completions", **options: Any) -> asyncio.Task[Any]:
    """A request under way."""
    task = asyncio.create_task(drive(app, http_scope(path), raises=True, **options))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


def test_new_work_is_refused_and_old_work_ends() -> None:
    """A request under way when the drain begins is answered; the next one is sent elsewhere."""

    async def story() -> None:
        drain = Drain()
        app = DrainGuard(serving(3, stream=False, starts=False), drain)
        running = await begun(app)
        assert drain.in_flight == 1
        drain.begin()
        refused = await drive(app, http_scope("/"))
        assert refused.status == 503
        assert json.loads(refused.body)["error"]["code"] == "draining"
        assert refused.header("retry-after") == "5"
        assert refused.header("connection") == "close"
        assert await drain.finish()
        assert now() == pytest.approx(3)
        answered = await running
        assert (answered.status, answered.body) == (200, b"data: 2\n\n")
        assert answered.header("connection") == "close"
        assert drain.in_flight == 0
        assert await drain.finish()
        assert pending_timers() == 0

    run_virtual(story())


def test_plain_requests_and_streams_have_limits_of_their_own() -> None:
    """Each its own time; an answer that has not begun is a 503, a stream gets a last event."""
    phases: list[tuple[str, int]] = []

    async def story() -> None:
        limits = DrainLimits(timeout_s=1, stream_timeout_s=4)
        drain = Drain(limits, lambda phase, left: phases.append((phase, left)))
        plain = await begun(DrainGuard(serving(999, stream=False, starts=False), drain))
        quick = await begun(DrainGuard(serving(0.9, stream=False, starts=False), drain))
        stream = await begun(DrainGuard(serving(999, stream=True), drain))
        whole = await begun(DrainGuard(serving(3.9, stream=True), drain))
        ends: dict[str, float] = {}

        def note(task: asyncio.Task[Any]) -> None:
            ends[task.get_name()] = round(now(), 1)

        for name, task in (("plain", plain), ("quick", quick), ("stream", stream)):
            task.set_name(name)
            task.add_done_callback(note)
        assert not await drain.finish()
        assert ends == {"quick": 0.9, "plain": 1, "stream": 4}
        refused: Answer = await plain
        assert (refused.status, json.loads(refused.body)["error"]["code"]) == (503, "draining")
        assert refused.header("retry-after") == "5"
        assert (await quick).status == 200
        ended: Answer = await stream
        assert ended.complete
        first, last = ended.chunks
        assert first == b"data: 1\n\n"
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "draining"
        assert (await whole).chunks[-1] == b"data: 2\n\n"

    run_virtual(story())
    assert phases == [("leaving", 4), ("draining", 4), ("overdue", 0)]


def test_the_last_event_is_in_the_callers_dialect() -> None:
    """Anthropic's clients look for an event named error."""

    async def story() -> None:
        drain = Drain(DrainLimits(stream_timeout_s=1))
        running = await begun(DrainGuard(serving(9, stream=True), drain), "/v1/messages")
        await drain.finish()
        last = (await running).chunks[-1]
        assert last.startswith(b"event: error\ndata: ")
        assert b'"overloaded_error"' in last
        assert b'"draining"' in last

    run_virtual(story())


def test_a_body_that_is_no_event_stream_is_cut() -> None:
    """Half an answer must not look whole."""

    async def story() -> None:
        drain = Drain(DrainLimits(timeout_s=1))
        running = await begun(DrainGuard(serving(9, stream=False, events=False), drain))
        assert not await drain.finish()
        answer = await running
        assert isinstance(answer.error, StreamBroken)
        assert not answer.complete

    run_virtual(story())


@pytest.mark.parametrize("starts", [True, False])
def test_the_record_says_so_before_the_inner_layers_end(starts: bool) -> None:
    """UsageRecorder stands inside and reads the record while the cancellation passes."""
    rows: list[UsageRow] = []

    async def story() -> None:
        async def recording(scope: Any, receive: Any, send: Any) -> None:
            exchange = exchange_of(scope)
            assert exchange is not None
            try:
                await serving(9, stream=starts, starts=starts)(scope, receive, send)
            finally:
                rows.append(row_of(exchange))

        drain = Drain(DrainLimits(timeout_s=1, stream_timeout_s=1))
        running = await begun(DrainGuard(recording, drain))
        await drain.finish()
        await running

    run_virtual(story())
    (row,) = rows
    if starts:
        assert (row.outcome, row.status, row.interrupted) == ("interrupted", 200, "draining")
    else:
        assert (row.outcome, row.status, row.error_code) == ("refused", 503, "draining")


def test_a_caller_that_does_not_read_gets_no_more_than_five_seconds() -> None:
    """The last words wait for nobody: the connection is cut, and the drain ends."""

    async def story() -> None:
        async def stuck(answer: Answer) -> None:
            if len(answer.chunks) > 1:
                await asyncio.Event().wait()

        drain = Drain(DrainLimits(timeout_s=1, stream_timeout_s=1))
        app = DrainGuard(serving(9, stream=True), drain)
        running = asyncio.create_task(drive_long(app, stuck))
        await asyncio.sleep(0.1)
        assert not await drain.finish()
        assert now() == pytest.approx(0.1 + 1 + 5, abs=0.1)
        with pytest.raises(StreamBroken):
            await running

    run_virtual(story())


async def drive_long(app: Any, on_chunk: Any) -> None:
    """As `drive`, without its limit of five seconds."""
    answer = Answer()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            answer.chunks.append(message["body"])
            await on_chunk(answer)

    await app(http_scope("/"), asyncio.Event().wait, send)


def test_a_request_that_can_not_be_ended_does_not_hold_the_drain() -> None:
    """An app that ignores its cancellation is left to the server to cut."""

    async def story() -> None:
        async def deaf(scope: Any, receive: Any, send: Any) -> None:
            until = now() + 1000
            while now() < until:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(until - now())

        drain = Drain(DrainLimits(timeout_s=1))
        running = asyncio.create_task(
            DrainGuard(deaf, drain)(http_scope("/"), asyncio.Event().wait, nothing)
        )
        await asyncio.sleep(0)
        assert not await drain.finish()
        assert now() == pytest.approx(1 + 6, abs=0.1)
        await running

    run_virtual(story())


async def nothing(message: Any) -> None:
    """Takes a message."""


def test_with_a_delay_readiness_goes_first_and_work_is_still_served() -> None:
    """A balancer that polls sees it before anybody is refused; connections are asked to close."""

    async def story() -> None:
        drain = Drain(DrainLimits(delay_s=10))
        app = DrainGuard(serving(1, stream=False, starts=False), drain)
        finishing = asyncio.create_task(drain.finish())
        await asyncio.sleep(5)
        assert (drain.leaving, drain.draining) == (True, False)
        served = await drive(app, http_scope("/"))
        assert (served.status, served.header("connection")) == (200, "close")
        await asyncio.sleep(5)
        assert drain.draining
        assert (await drive(app, http_scope("/"))).status == 503
        assert await finishing
        assert now() == pytest.approx(11)

    run_virtual(story())


@pytest.mark.parametrize("delay_s", [0, 10])
def test_a_second_word_ends_what_is_in_flight_at_once(delay_s: float) -> None:
    """With its last words all the same."""

    async def story() -> None:
        drain = Drain(DrainLimits(delay_s=delay_s))
        running = await begun(DrainGuard(serving(999, stream=True), drain))
        finishing = asyncio.create_task(drain.finish())
        await asyncio.sleep(2)
        drain.hurry()
        assert not await finishing
        assert now() == pytest.approx(2)
        assert b'"draining"' in (await running).chunks[-1]

    run_virtual(story())


def test_http_2_has_no_connection_header() -> None:
    """RFC 9113 §8.2.2 forbids it; the refusal is the same otherwise."""

    async def story() -> None:
        drain = Drain()
        drain.begin()
        scope = {**http_scope("/"), "http_version": "2"}
        refused = await drive(DrainGuard(serving(1, stream=False), drain), scope)
        assert (refused.status, refused.header("connection")) == (503, None)

    run_virtual(story())


def test_a_foreign_cancellation_passes() -> None:
    """Whoever cancels the task, while the drain does too, sees it end as cancelled."""

    async def story() -> None:
        drain = Drain(DrainLimits(timeout_s=1))
        running = await begun(DrainGuard(serving(9, stream=False, starts=False), drain))
        drain.start()
        await asyncio.sleep(0.5)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()
        assert await drain.finish()

    run_virtual(story())


def test_a_request_that_fails_or_is_cancelled_is_counted_out() -> None:
    """A drain must not wait for work that is long gone."""

    async def story() -> None:
        async def broken(scope: Any, receive: Any, send: Any) -> None:
            raise RuntimeError("a bug")

        async def stuck(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.Event().wait()

        drain = Drain()
        answer = await drive(DrainGuard(broken, drain), http_scope("/"), raises=True)
        assert isinstance(answer.error, RuntimeError)
        running = await begun(DrainGuard(stuck, drain))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert drain.in_flight == 0
        assert await drain.finish()

    asyncio.run(story())


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.floats(0, 20), st.floats(0, 40), st.booleans(), st.booleans()), max_size=12
    ),
    timeout_s=st.floats(0, 10),
    stream_timeout_s=st.floats(0, 10),
    delay_s=st.floats(0, 3),
)
def test_every_schedule_ends_in_time_and_leaves_nothing(
    requests: list[tuple[float, float, bool, bool]],
    timeout_s: float,
    stream_timeout_s: float,
    delay_s: float,
) -> None:
    """Whatever comes when and takes how long: none is lost without a word, none outlives its time.

    Each request comes at a moment, takes some seconds, is a stream or not, has begun its answer
    or not. The drain begins after ten.
    """

    async def story() -> None:
        drain = Drain(
            DrainLimits(timeout_s=timeout_s, stream_timeout_s=stream_timeout_s, delay_s=delay_s)
        )

        async def one(at: float, seconds: float, stream: bool, starts: bool) -> None:
            await asyncio.sleep(at)
            app = DrainGuard(serving(seconds, stream=stream, starts=starts), drain)
            messages: list[Any] = []

            async def send(message: Any) -> None:
                messages.append(message)

            scope, recording_send, exchange = open_exchange(http_scope("/"), send, "r")
            await app(scope, asyncio.Event().wait, recording_send)
            assert messages[0]["type"] == "http.response.start"
            assert not messages[-1].get("more_body", False)
            limit_s = stream_timeout_s if stream else timeout_s
            assert now() <= max(at, 10 + delay_s + limit_s) + 0.01 or now() <= at + seconds
            whole = messages[-1]["body"] == b"data: 2\n\n"
            assert whole != (b'"draining"' in messages[-1]["body"])
            assert exchange.ended is not None

        async def end() -> None:
            await asyncio.sleep(10)
            await drain.finish()
            assert drain.in_flight == 0
            assert now() <= 10 + delay_s + max(timeout_s, stream_timeout_s) + 0.01

        await asyncio.gather(end(), *(one(*request) for request in requests))
        assert pending_timers() == 0

    run_virtual(story())
