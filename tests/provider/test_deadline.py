from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from drive import Answer, drive, http_scope
from virtual_time import now, pending_timers, run_virtual

from radgateway.asgi import StreamBroken
from radgateway.dialects.base import Ask
from radgateway.errors import OWN_REFUSALS
from radgateway.exchange import ATTEMPT_KEY, KEY, Attempt, Exchange
from radgateway.provider.deadline import Deadline
from radgateway.upstream.interface import Timeouts

App = Callable[[Any, Any, Any], Awaitable[None]]
EVENTS = [(b"content-type", b"text/event-stream")]
CHAT = "/v1/chat/completions"


def scripted(*steps: float | bytes | str, events: bool = False) -> App:
    """An app that waits (a number), starts ("start"), sends (bytes) and ends ("end")."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for step in steps:
            if isinstance(step, bytes):
                await send({"type": "http.response.body", "body": step, "more_body": True})
            elif step == "start":
                headers = EVENTS if events else []
                await send({"type": "http.response.start", "status": 200, "headers": headers})
            elif step == "end":
                await send({"type": "http.response.body", "body": b""})
            elif isinstance(step, float):
                await asyncio.sleep(step)

    return app


def served(app: App, timeouts: Timeouts) -> tuple[Answer, float]:
    """The answer, and when it was there; no timer may be left."""

    async def story() -> tuple[Answer, float]:
        answer = await drive(Deadline(app, timeouts), http_scope(CHAT), raises=True)
        assert pending_timers() == 0
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return answer, round(now(), 2)

    return run_virtual(story())


def code_of(answer: Answer) -> str:
    code: str = json.loads(answer.body)["error"]["code"]
    return code


def test_no_first_byte_in_time() -> None:
    """Before anything was sent the answer is a 504, at the time allowed."""
    answer, at = served(scripted(9.0, "start", "end"), Timeouts(first_byte_s=1, total_s=4))
    assert (answer.status, at) == (504, 1)
    assert code_of(answer) == "first_byte_timeout"


def test_the_whole_takes_too_long_before_the_start() -> None:
    """The total clock answers too where nothing had begun."""
    answer, at = served(scripted(9.0, "start", "end"), Timeouts(first_byte_s=3, total_s=2))
    assert (answer.status, at) == (504, 2)
    assert code_of(answer) == "total_timeout"


def test_the_start_is_the_first_byte_of_a_plain_body_only() -> None:
    """A start stops the first clock, except for a stream of events, whose first event does."""
    steps = ("start", 2.0, b"data: x\n\n", "end")
    timeouts = Timeouts(first_byte_s=1)
    plain, _ = served(scripted(*steps), timeouts)
    assert plain.complete
    assert plain.error is None
    events, at = served(scripted(*steps, events=True), timeouts)
    assert at == 1
    assert b"first_byte_timeout" in events.body
    assert events.complete


def test_a_long_stream_is_not_cut_for_being_long() -> None:
    """Chunks that keep coming may go on far beyond the idle time."""
    steps = ["start", *([0.9, b"data: x\n\n"] * 5), "end"]
    answer, at = served(scripted(*steps, events=True), Timeouts(first_byte_s=1, idle_s=1))  # type: ignore[arg-type]
    assert answer.error is None
    assert len(answer.chunks) == 6
    assert at == 4.5


def test_a_stalled_event_stream_ends_with_an_error_event() -> None:
    """A silence within a stream ends it after `idle_s`, audibly."""
    app = scripted("start", b"data: x\n\n", 0.5, b"data: y\n\n", 9.0, "end", events=True)
    answer, at = served(app, Timeouts(first_byte_s=3, idle_s=1))
    assert at == 1.5
    assert answer.chunks[:2] == [b"data: x\n\n", b"data: y\n\n"]
    assert b"idle_timeout" in answer.chunks[2]
    assert answer.complete


def test_a_stalled_plain_body_is_cut() -> None:
    """Where the format can't say that it broke, the connection must."""
    answer, at = served(scripted("start", b"x", 9.0, "end"), Timeouts(idle_s=1))
    assert at == 1
    assert isinstance(answer.error, StreamBroken)
    assert not answer.complete


def test_a_short_idle_time_is_not_hidden_by_a_long_first_one() -> None:
    """The timer set for the first byte does not delay that for the silence."""
    answer, at = served(scripted("start", 9.0, "end"), Timeouts(first_byte_s=4, idle_s=0.5))
    assert at == 0.5
    assert isinstance(answer.error, StreamBroken)


def test_the_total_runs_while_chunks_flow() -> None:
    """No chunk extends the total time."""
    steps = ["start", *([0.4, b"data: x\n\n"] * 9), "end"]
    answer, at = served(scripted(*steps, events=True), Timeouts(idle_s=1, total_s=2))  # type: ignore[arg-type]
    assert at == 2
    assert b"total_timeout" in answer.chunks[-1]


def test_all_clocks_off() -> None:
    """None turns a clock off, and no timer is made."""
    off = Timeouts(connect_s=None, pool_s=None)
    answer, _ = served(scripted(3.0, "start", 1.0, b"x", "end"), off)
    assert answer.complete


def test_a_slow_reader_is_not_the_providers_silence() -> None:
    """Time spent waiting for the caller to take a chunk does not count as idle."""

    async def story() -> None:
        async def slowly(answer: Answer) -> None:
            await asyncio.sleep(1.2)

        app = Deadline(scripted("start", b"a", 0.9, b"b", "end"), Timeouts(idle_s=1))
        answer = await drive(app, http_scope(CHAT), on_chunk=slowly)
        assert answer.complete
        assert now() == pytest.approx(4.5)

    run_virtual(story())


def test_a_reader_that_stopped_is_cut_when_the_total_is_over() -> None:
    """No last words are attempted to a caller that does not read; nothing hangs."""

    async def story() -> None:
        async def never(answer: Answer) -> None:
            await asyncio.Event().wait()

        app = Deadline(scripted("start", b"a", "end", events=True), Timeouts(idle_s=1, total_s=3))
        answer = await drive(app, http_scope(CHAT), on_chunk=never, raises=True)
        assert now() == 3
        assert isinstance(answer.error, StreamBroken)
        assert answer.chunks == [b"a"]

    run_virtual(story())


def test_last_words_nobody_takes_are_given_up() -> None:
    """A caller that stops reading right at the end can't hold the request either."""

    async def story() -> float:
        started = False

        async def send(message: Any) -> None:
            nonlocal started
            if started and message["type"] == "http.response.body":
                await asyncio.Event().wait()
            started = True

        app = Deadline(scripted("start", 9.0, events=True), Timeouts(total_s=1))
        with pytest.raises(StreamBroken):
            await app(http_scope(CHAT), _nothing, send)
        return now()

    assert run_virtual(story()) == 6


async def _nothing() -> Any:
    await asyncio.Event().wait()


def test_an_upload_is_not_the_providers_silence() -> None:
    """The first byte's clock starts when the caller has sent its last."""

    async def story() -> None:
        parts = [b"a", b"b", b"c"]

        async def receive() -> Any:
            await asyncio.sleep(0.8)
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def app(scope: Any, receive: Any, send: Any) -> None:
            while (await receive())["more_body"]:
                pass
            await asyncio.sleep(0.9)
            await scripted("start", "end")(scope, receive, send)

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await Deadline(app, Timeouts(first_byte_s=1))(http_scope(CHAT), receive, send)
        assert sent[0]["status"] == 200

    run_virtual(story())


def test_a_cancellation_from_outside_passes() -> None:
    """The caller's leaving is a cancellation and no timeout, and leaves no timer."""

    async def story() -> None:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        app = Deadline(scripted(9.0), Timeouts(first_byte_s=3, total_s=4))
        running = asyncio.ensure_future(app(http_scope(CHAT), _nothing, send))
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert running.cancelled()
        assert pending_timers() == 0
        assert sent == []

    run_virtual(story())


def test_of_two_cancellations_the_outer_one_wins() -> None:
    """Where the caller leaves in the moment of the timeout, the task ends cancelled."""

    async def story() -> None:
        async def stubborn(scope: Any, receive: Any, send: Any) -> None:
            try:
                await asyncio.sleep(9)
            finally:
                await asyncio.sleep(1)  # cleaning up, while the second one comes

        app = Deadline(stubborn, Timeouts(total_s=1))
        running = asyncio.ensure_future(app(http_scope(CHAT), _nothing, _drop))
        await asyncio.sleep(1.5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    run_virtual(story())


async def _drop(message: Any) -> None:
    pass


def test_deadlines_nest() -> None:
    """An inner and an outer deadline, and one of asyncio's, each end what is theirs."""

    async def story() -> None:
        stuck = scripted(9.0)
        inner = Deadline(stuck, Timeouts(total_s=1))
        outer = Deadline(inner, Timeouts(total_s=2))
        answer = await drive(outer, http_scope(CHAT))
        assert (answer.status, now()) == (504, 1)
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await outer(http_scope(CHAT), _nothing, _drop)
        assert task.cancelling() == 0

    run_virtual(story())


@pytest.mark.parametrize("finishes", [False, True])
def test_an_app_that_swallows_the_cancellation(finishes: bool) -> None:
    """It is answered for where it left the answer out, and not where it gave one after all."""

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            if finishes:
                await scripted("start", b"late", "end")(scope, receive, send)

    answer, at = served(stubborn, Timeouts(total_s=1))
    assert at == 1
    assert (answer.status, answer.body[:4]) == ((200, b"late") if finishes else (504, b'{"er'))


def test_work_after_the_response_is_left_alone() -> None:
    """When the last byte is out, the clocks are off."""
    answer, at = served(scripted("start", "end", 4.0), Timeouts(idle_s=1, total_s=2))
    assert answer.error is None
    assert at == 4


def recorded_scope(patience_s: float | None = None, stream: bool | None = None) -> dict[str, Any]:
    """A request below a router: with its record, what is known of it, and an attempt."""
    scope = http_scope(CHAT)
    exchange = Exchange("r", clock=now)
    if patience_s is not None:
        exchange.deadline = now() + patience_s
    if stream is not None:
        exchange.ask = Ask(CHAT, b"application/json", b"{}", "m", stream)
        exchange.stream = stream
    scope["state"] = {KEY: exchange, ATTEMPT_KEY: Attempt("p", "m", 0.0)}
    return scope


def test_nobody_is_worked_for_who_has_gone() -> None:
    """The client's own deadline ends the wait for the start, where it is before ours."""

    async def story() -> None:
        app = Deadline(scripted(9.0, "start", "end"), Timeouts(first_byte_s=4, total_s=8))
        scope = recorded_scope(patience_s=2)
        answer = await drive(app, scope)
        assert (answer.status, code_of(answer)) == (504, "deadline_exceeded")
        assert now() == pytest.approx(2)
        attempt = scope["state"][ATTEMPT_KEY]
        assert attempt.failure in OWN_REFUSALS, "it must not count against the provider"
        answer = await drive(app, recorded_scope(patience_s=600))
        assert code_of(answer) == "first_byte_timeout"
        assert now() == pytest.approx(6)
        assert pending_timers() == 0

    run_virtual(story())


def test_no_work_is_begun_for_one_who_has_gone() -> None:
    """Where the client's time is over already, the provider hears nothing."""

    async def story() -> None:
        called = False

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal called
            called = True

        answer = await drive(Deadline(app, Timeouts(total_s=8)), recorded_scope(patience_s=0))
        assert (answer.status, code_of(answer), called) == (504, "deadline_exceeded", False)

    run_virtual(story())


def test_the_clients_deadline_is_for_the_start() -> None:
    """Who has got its first event waits for the rest by the other clocks."""

    async def story() -> None:
        steps = ("start", 1.5, b"data: x\n\n", 1.5, b"data: y\n\n", "end")
        app = Deadline(scripted(*steps, events=True), Timeouts(first_byte_s=9, idle_s=2))
        answer = await drive(app, recorded_scope(patience_s=2, stream=True))
        assert (len(answer.chunks), now()) == (3, 3)

    run_virtual(story())


@pytest.mark.parametrize(
    ("stream", "ends_at"), [(False, 4), (True, 2), (None, 2)], ids=["whole", "stream", "unknown"]
)
def test_an_answer_that_does_not_stream_has_a_clock_of_its_own(
    stream: bool | None, ends_at: float
) -> None:
    """Its first byte comes with its last token, so `answer_s` stands in for `first_byte_s`."""

    async def story() -> None:
        app = Deadline(scripted(9.0), Timeouts(first_byte_s=2, answer_s=4, total_s=8))
        answer = await drive(app, recorded_scope(stream=stream), raises=True)
        assert code_of(answer) == "first_byte_timeout"
        assert f"within {ends_at} s" in answer.body.decode()
        assert now() == ends_at

    run_virtual(story())


def test_requests_at_once_end_each_at_its_own_time() -> None:
    """One timer serves them all, whoever comes, moves and goes meanwhile."""

    async def story() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            step_s = float(scope["path"][1:])
            await scripted("start", step_s, b"data: x\n\n", 9.0, events=True)(scope, receive, send)

        ended: dict[float, float] = {}

        async def ask(deadline: Deadline, first_event_s: float, after_s: float) -> None:
            await asyncio.sleep(after_s)
            answer = await drive(deadline, http_scope(f"/{first_event_s}"))
            assert answer.complete
            ended[first_event_s] = round(now(), 2)

        deadline = Deadline(app, Timeouts(first_byte_s=2, idle_s=1))
        steps = [(1.5, 0.0), (0.2, 0.1), (3.0, 0.4), (0.1, 2.0)]
        await asyncio.gather(*(ask(deadline, *step) for step in steps))
        assert ended == {1.5: 2.5, 0.2: 1.3, 3.0: 2.4, 0.1: 3.1}
        assert pending_timers() == 0

    run_virtual(story())


@pytest.mark.parametrize("started", [False, True])
def test_the_attempt_says_what_happened(started: bool) -> None:
    """Below a router the attempt's failure is the clock that ran out."""

    async def story() -> None:
        scope = http_scope(CHAT)
        exchange, attempt = Exchange("r"), Attempt("p", "m", 0.0)
        scope["state"] = {KEY: exchange, ATTEMPT_KEY: attempt}
        app = Deadline(scripted(*(["start", 9.0] if started else [9.0])), Timeouts(total_s=1))
        await drive(app, scope, raises=True)
        assert attempt.failure == "total_timeout"
        assert exchange.interrupted is None

    run_virtual(story())


def test_a_clock_of_no_time_is_a_mistake() -> None:
    """Zero seconds can't be meant; None is off."""
    with pytest.raises(ValueError, match="idle_s"):
        Deadline(scripted(), Timeouts(idle_s=0))
    with pytest.raises(ValueError, match="answer_s"):
        Deadline(scripted(), Timeouts(answer_s=0))
