from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from drive import Answer, drive, http_scope
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import pending_timers, run_virtual

from radgateway.dialects.base import Ask
from radgateway.errors import Refusal, answer
from radgateway.exchange import KEY, Exchange
from radgateway.inbound.keepalive import StreamKeepalive
from radgateway.provider.deadline import Deadline
from radgateway.surface import operation_of
from radgateway.upstream.interface import Timeouts

App = Callable[[Any, Any, Any], Awaitable[None]]
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
GEMINI = "/v1beta/models/m:streamGenerateContent"
COMMENT = b": keepalive\n\n"


def scripted(*steps: float | bytes | str, events: bool = True) -> App:
    """An app that waits (a number), starts ("start"), sends (bytes) and ends ("end")."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for step in steps:
            if isinstance(step, bytes):
                await send({"type": "http.response.body", "body": step, "more_body": True})
            elif step == "start":
                kind = b"text/event-stream" if events else b"application/json"
                headers = [(b"content-type", kind)]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
            elif step == "end":
                await send({"type": "http.response.body", "body": b""})
            elif isinstance(step, float):
                await asyncio.sleep(step)

    return app


def recorded(path: str, *, stream: bool | None = True) -> dict[str, Any]:
    """A request whose body has been read, or not yet where `stream` is None."""
    exchange = Exchange("r")
    exchange.operation = operation_of(path)
    if stream is not None:
        exchange.ask = Ask(path, b"application/json", b"{}", "m", stream)
        exchange.stream = stream
    return {**http_scope(path), "state": {KEY: exchange}}


def chunks_of(app: App, path: str = CHAT, interval_s: float = 1.0) -> list[bytes]:
    """What comes out of a response; nothing may be left behind."""

    async def story() -> list[bytes]:
        made = await drive(StreamKeepalive(app, interval_s), http_scope(path))
        assert pending_timers() == 0
        assert len(asyncio.all_tasks()) == 1
        return made.chunks

    return run_virtual(story())


def test_a_silence_is_filled_in_every_interval() -> None:
    """Counted from the last byte, whoever sent it."""
    app = scripted("start", b"data: 1\n\n", 2.5, b"data: 2\n\n", 0.9, b"data: 3\n\n", 1.2, "end")
    assert chunks_of(app) == [
        b"data: 1\n\n",
        COMMENT,
        COMMENT,
        b"data: 2\n\n",
        b"data: 3\n\n",
        COMMENT,
        b"",
    ]


def test_also_between_the_start_and_the_first_event() -> None:
    """Where the status is out, nothing is committed by a comment."""
    assert chunks_of(scripted("start", 1.5, b"data: 1\n\n", "end"))[0] == COMMENT


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (CHAT, [COMMENT]),
        ("/v1/responses", [COMMENT]),
        (MESSAGES, [b'event: ping\ndata: {"type": "ping"}\n\n']),
        (GEMINI, []),
        ("/feed", [COMMENT]),
    ],
)
def test_it_is_worded_in_the_callers_dialect(path: str, expected: list[bytes]) -> None:
    """Anthropic's API has an event for it; Gemini's clients can't read any."""
    app = scripted("start", b"data: 1\n\n", 1.5, "end")
    assert chunks_of(app, path) == [b"data: 1\n\n", *expected, b""]


def test_what_is_no_stream_is_left_alone() -> None:
    """A slow body is no place for comments."""
    app = scripted("start", b"{", 3.0, b"}", "end", events=False)
    assert chunks_of(app, interval_s=1.0) == [b"{", b"}", b""]


def test_nothing_before_the_response_has_started() -> None:
    """That would commit it, while another provider could still be tried."""
    assert chunks_of(scripted(4.0, "start", b"data: 1\n\n", "end")) == [b"data: 1\n\n", b""]


def test_nothing_after_the_end() -> None:
    """Neither after the last byte, nor after the dialect's own mark."""
    assert chunks_of(scripted("start", b"data: 1\n\n", "end", 4.0)) == [b"data: 1\n\n", b""]

    async def story() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await scripted("start", b"data: 1\n\n")(scope, receive, send)
            scope["state"][KEY].delivered = True
            await scripted(4.0, "end")(scope, receive, send)

        made = await drive(StreamKeepalive(app, 1.0), recorded(CHAT))
        assert made.chunks == [b"data: 1\n\n", b""]

    run_virtual(story())


@given(
    st.lists(
        st.sampled_from([b"data: a", b"\n", b"\r\n", b"\r", b"event: b", b": c"]), max_size=12
    ),
    st.lists(st.integers(1, 14), max_size=6),
)
def test_never_inside_an_event(lines: list[bytes], cuts: list[int]) -> None:
    """However an app cuts its stream, taking the keepalives out leaves whole events as they were,
    and each stands where an event had ended."""
    stream = b"".join(lines) + b"\n\n"
    parts, at = [], 0
    for cut in cuts:
        parts.append(stream[at : at + cut])
        at += cut
    parts.append(stream[at:])
    steps: list[float | bytes | str] = ["start"]
    for part in parts:
        steps += [part, 0.3]
    got = chunks_of(scripted(*steps, "end"), interval_s=0.1)
    before = b""
    for chunk in got:
        if chunk == COMMENT:
            normal = before.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            assert not before or normal.endswith(b"\n\n")
        else:
            before += chunk
    assert before == stream
    assert got.count(COMMENT) >= 2


def test_never_while_a_message_is_on_its_way() -> None:
    """A reader that takes a chunk late gets it whole; a chunk waits for a keepalive as well."""

    async def story() -> None:
        sending = 0
        got: list[bytes] = []

        async def send(message: Any) -> None:
            nonlocal sending
            assert not sending, "two messages at once"
            sending += 1
            try:
                if message["type"] == "http.response.body":
                    await asyncio.sleep(2.2)
                    got.append(message["body"])
            finally:
                sending -= 1

        steps: list[float | bytes | str] = ["start", b"data: 1\n\n", 1.5, b"data: 2\n\n", "end"]
        await StreamKeepalive(scripted(*steps), 1.0)(http_scope(CHAT), _nothing, send)
        assert got == [b"data: 1\n\n", COMMENT, b"data: 2\n\n", b""]
        assert pending_timers() == 0

    run_virtual(story())


async def _nothing() -> Any:
    await asyncio.Event().wait()


@pytest.mark.parametrize("at_s", [0.5, 1.5])
def test_a_cancelled_request_leaves_nothing_behind(at_s: float) -> None:
    """Not even a keepalive on its way to a reader that has stopped."""

    async def story() -> None:
        async def send(message: Any) -> None:
            if message.get("body") == COMMENT:
                await asyncio.Event().wait()

        app = StreamKeepalive(scripted("start", b"data: 1\n\n", 9.0, "end"), 1.0)
        running = asyncio.ensure_future(app(http_scope(CHAT), _nothing, send))
        await asyncio.sleep(at_s)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert running.cancelled()
        assert (pending_timers(), len(asyncio.all_tasks())) == (0, 1)

    run_virtual(story())


@pytest.mark.parametrize("more", [True, False])
def test_a_send_that_fails_fails_for_the_app(more: bool) -> None:
    """A keepalive to a client that is gone ends the sending, and says so to who sends next."""

    async def story() -> None:
        async def send(message: Any) -> None:
            if message.get("body") == COMMENT:
                raise OSError("gone")

        steps: list[float | bytes | str] = ["start", b"data: 1\n\n", 3.0]
        app = StreamKeepalive(scripted(*steps, *([b"data: 2\n\n"] if more else [])), 1.0)
        if more:
            with pytest.raises(OSError, match="gone"):
                await app(http_scope(CHAT), _nothing, send)
        else:
            await app(http_scope(CHAT), _nothing, send)
        assert pending_timers() == 0

    run_virtual(story())


def early(app: App, scope: dict[str, Any]) -> Answer:
    """The answer where keepalives may come before content."""

    async def story() -> Answer:
        made = await drive(StreamKeepalive(app, 1.0, before_content=True), scope)
        assert (pending_timers(), len(asyncio.all_tasks())) == (0, 1)
        return made

    return run_virtual(story())


def test_before_content_where_it_may() -> None:
    """The status goes out with the first keepalive; the app's own start is then taken back."""
    made = early(scripted(2.5, "start", b"data: 1\n\n", 1.5, "end"), recorded(CHAT))
    assert made.status == 200
    assert (made.header("content-type") or "").startswith("text/event-stream")
    assert made.chunks == [COMMENT, COMMENT, b"data: 1\n\n", COMMENT, b""]


def test_before_content_the_clients_own_deadline_is_met() -> None:
    """It waits for a byte, and has one: the work goes on, while without it is cut."""

    async def story() -> None:
        steps = (2.5, "start", b"data: 1\n\n", "end")
        for before_content in (True, False):
            scope = recorded(CHAT)
            exchange = scope["state"][KEY]
            exchange.deadline = exchange.clock() + 2
            app = Deadline(scripted(*steps), Timeouts(first_byte_s=9))
            made = await drive(StreamKeepalive(app, 1.0, before_content=before_content), scope)
            if before_content:
                assert made.chunks == [COMMENT, COMMENT, b"data: 1\n\n", b""]
            else:
                assert made.status == 504
        assert pending_timers() == 0

    run_virtual(story())


def test_before_content_a_quick_answer_keeps_its_own_start() -> None:
    """Nothing changes for one that begins in time, be it a stream, a body or an error."""
    made = early(scripted(0.5, "start", b"data: 1\n\n", 1.5, "end"), recorded(CHAT))
    assert made.chunks == [b"data: 1\n\n", COMMENT, b""]
    assert made.header("cache-control") is None
    made = early(scripted(0.5, "start", b"{", 3.0, b"}", "end", events=False), recorded(CHAT))
    assert made.chunks == [b"{", b"}", b""]


@pytest.mark.parametrize("scope", ["whole", "unread", "gemini", "alone"])
def test_before_content_only_for_who_asked_for_a_stream(scope: str) -> None:
    """Nobody else can read a comment where an answer was to be."""
    scopes = {
        "whole": lambda: recorded(CHAT, stream=False),
        "unread": lambda: recorded(CHAT, stream=None),
        "gemini": lambda: recorded(GEMINI),
        "alone": lambda: http_scope(CHAT),
    }

    async def story() -> None:
        app = scripted(3.5, "start", b"{}", "end", events=False)
        made = await drive(StreamKeepalive(app, 1.0, before_content=True), scopes[scope]())
        assert made.chunks == [b"{}", b""]
        assert pending_timers() == 0

    run_virtual(story())


def test_a_failure_after_the_status_is_an_error_event() -> None:
    """The code and the words of the answer that came too late to have a status of its own."""

    async def story() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(1.5)
            await answer(scope, send, Refusal("no_provider_available", "All are left alone."))

        for path, prefix in ((CHAT, "data: "), (MESSAGES, "event: error\ndata: ")):
            scope = recorded(path)
            made = await drive(StreamKeepalive(app, 1.0, before_content=True), scope)
            assert (made.status, made.complete, len(made.chunks)) == (200, True, 2)
            event = made.chunks[1].decode()
            assert event.startswith(prefix)
            error = json.loads(event.removeprefix(prefix))["error"]
            assert error["code"] == "no_provider_available"
            assert error["message"] == "All are left alone."
            exchange = scope["state"][KEY]
            assert exchange.interrupted == "no_provider_available"

    run_virtual(story())


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, b'{"error":{"message":"No such tool."}}', "No such tool."),
        (529, b"<html>", "The request failed with status 529."),
        (500, b'{"error":{"message":7}}', "The request failed with status 500."),
    ],
)
def test_a_providers_error_after_the_status(status: int, body: bytes, message: str) -> None:
    """Its words are kept where they can be read, in however many parts they come."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(1.5)
        await send({"type": "http.response.start", "status": status, "headers": []})
        for byte in body:
            await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def story() -> None:
        made = await drive(StreamKeepalive(app, 1.0, before_content=True), recorded(CHAT))
        error = json.loads(made.chunks[1].removeprefix(b"data: "))["error"]
        assert (error["code"], error["message"]) == ("upstream_error", message)

    run_virtual(story())


def test_an_interval_of_no_time_is_a_mistake() -> None:
    """It would send nothing else."""
    with pytest.raises(ValueError, match="interval_s"):
        StreamKeepalive(scripted(), 0)
