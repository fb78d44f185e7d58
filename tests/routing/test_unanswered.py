"""What an attempt used whose answer never came: it is told by what went out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from drive import http_scope
from virtual_time import now, run_virtual

from radgateway.asgi import ASGIApp, StreamBroken
from radgateway.errors import Refusal, answer
from radgateway.exchange import Attempt, Exchange, Usage
from radgateway.inbound.request_context import RequestContextMiddleware
from radgateway.provider.breaker import CircuitBreaker
from radgateway.provider.bulkhead import Bulkhead
from radgateway.provider.deadline import Deadline
from radgateway.provider.faults import FaultInjector, Faults
from radgateway.provider.http import HTTPProvider
from radgateway.provider.slots import Slots
from radgateway.routing.models import Candidate, Route
from radgateway.routing.router import ProviderRouter
from radgateway.upstream.interface import Timeouts, UpstreamRequest, UpstreamResponse
from radgateway.usage.estimate import OUTPUT_TOKENS, TOKENS_PER_S
from radgateway.usage.prices import Price, request_cost_usd
from radgateway.usage.row import row_of

CHAT = "/v1/chat/completions"
PRICE = Price(Decimal(1), Decimal(2))
JSON = [(b"content-type", b"application/json")]
SSE = [(b"content-type", b"text/event-stream")]
LATE_S = 60.0
"""When a client has left for certain."""
FORM = (
    b"--x\r\ncontent-disposition: form-data; name=model\r\n\r\nm\r\n"
    b'--x\r\ncontent-disposition: form-data; name="file"; filename=a\r\n\r\n'
    + b"\0" * 900
    + b"\r\n--x--\r\n"
)


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """Takes the request and says nothing."""
    await receive()
    await asyncio.Event().wait()


def saying(status: int, headers: Any, *parts: bytes, ends: bool = True) -> ASGIApp:
    """Takes the request, says so much, and ends or breaks off."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if not ends:
            raise StreamBroken("upstream_connection_lost")
        await send({"type": "http.response.body", "body": b""})

    return app


def starting(headers: Any) -> ASGIApp:
    """Begins an answer, and says nothing more."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await asyncio.Event().wait()

    return app


GOOD = saying(200, JSON, b'{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}')


def asked(
    *apps: ASGIApp,
    body: Any = None,
    path: str = CHAT,
    content_type: str = "application/json",
    leave_after_s: float = LATE_S,
    cancelled: bool = False,
    patience_s: float | None = None,
) -> Exchange:
    """One request to providers of these apps, by a client that leaves: its record."""
    names = "abc"[: len(apps)]
    route = Route(tuple(Candidate(name, "m", 100 - n, PRICE) for n, name in enumerate(names)))
    data = body if isinstance(body, bytes) else json.dumps({"model": "m"} | (body or {})).encode()
    headers = [("content-type", content_type)]
    if patience_s is not None:
        headers.append(("x-stainless-read-timeout", str(patience_s)))
    records: list[Exchange] = []

    async def story() -> None:
        router = ProviderRouter(dict(zip(names, apps, strict=True)), {"m": route})
        app = RequestContextMiddleware(router, on_end=records.append, clock=now)
        parts = [data]

        async def receive() -> dict[str, Any]:
            if parts:
                return {"type": "http.request", "body": parts.pop(), "more_body": False}
            await asyncio.sleep(2 * LATE_S if cancelled else leave_after_s)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            pass

        serving = asyncio.ensure_future(app(http_scope(path, headers=headers), receive, send))
        if cancelled:
            await asyncio.sleep(leave_after_s)
            serving.cancel()
        with contextlib.suppress(asyncio.CancelledError, StreamBroken):
            await serving

    run_virtual(story())
    records[0].clock = lambda: 3 * LATE_S  # the loop that was its clock is closed
    return records[0]


def prompt(body: Any = None) -> int:
    """Tokens of the prompt of a request that nothing is known of."""
    data = body if isinstance(body, bytes) else json.dumps({"model": "m"} | (body or {})).encode()
    return math.ceil(len(data) / 4)


@pytest.mark.parametrize(
    ("body", "leave_after_s", "output"),
    [
        ({}, 1.0, OUTPUT_TOKENS),
        ({}, 30.0, 30 * TOKENS_PER_S),
        ({"max_tokens": 20}, 30.0, 20),
        ({"max_tokens": 10**9}, 30.0, 30 * TOKENS_PER_S),
        ({"stream": True}, 1.0, 0),
        ({"stream": True}, 30.0, 0),
    ],
)
@pytest.mark.parametrize("cancelled", [False, True])
def test_whoever_leaves_before_an_answer_has_used_it(
    body: Any, leave_after_s: float, output: int, cancelled: bool
) -> None:
    """A whole answer goes on without its reader, a stream ends with its connection; it is the same
    where the gateway ends the request, as a drain does."""
    made = asked(silent, body=body, leave_after_s=leave_after_s, cancelled=cancelled)
    (attempt,) = made.attempts
    assert made.disconnected is not cancelled
    assert attempt.usage is not None
    assert attempt.usage.output_tokens == pytest.approx(output, abs=0.05 * TOKENS_PER_S)
    output = attempt.usage.output_tokens or 0
    assert (attempt.sent, attempt.status) == (True, None)
    assert attempt.usage == Usage(prompt(body), output, source="estimated")
    assert attempt.cost_usd == Decimal(prompt(body) + 2 * output) / 10**6
    row = row_of(made)
    assert (row.usage_source, row.output_tokens) == ("estimated", output)
    assert row.cost_usd == f"{attempt.cost_usd:f}"


@pytest.mark.parametrize(
    ("path", "body", "content_type", "usage"),
    [
        ("/v1/embeddings", {"input": "hi"}, "application/json", (prompt({"input": "hi"}), 0)),
        ("/v1/audio/speech", {"input": "hi"}, "application/json", (prompt({"input": "hi"}), None)),
        ("/v1/audio/transcriptions", FORM, "multipart/form-data; boundary=x", (None, None)),
    ],
)
def test_what_nothing_tells_stays_unknown(
    path: str, body: Any, content_type: str, usage: tuple[int | None, int | None]
) -> None:
    """An embedding has no answer to count; the length of sound nobody knows, so its cost is none
    that could be summed."""
    made = asked(silent, path=path, body=body, content_type=content_type)
    (attempt,) = made.attempts
    assert attempt.usage is not None
    assert (attempt.usage.input_tokens, attempt.usage.output_tokens) == usage
    assert attempt.usage.source == ("absent" if usage == (None, None) else "estimated")
    assert (attempt.cost_usd is None) == (None in usage)
    assert (request_cost_usd(made.attempts) is None) == (None in usage)


@pytest.mark.parametrize("done", [False, True])
def test_whoever_leaves_at_the_last_word_has_used_the_answer(done: bool) -> None:
    """Its usage would have come after it: only a stream that ends without one leaves it unknown."""
    choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
    events = [{"choices": [choice]}, {"choices": [choice | {"finish_reason": "stop"}]}]
    said = [b"data: %b\n\n" % json.dumps(each).encode() for each in events]

    async def hanging(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": SSE})
        for part in said:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await asyncio.Event().wait()

    app = saying(200, SSE, *said, b"data: [DONE]\n\n") if done else hanging
    made = asked(app, body={"stream": True})
    (attempt,) = made.attempts
    estimated = Usage(prompt({"stream": True}), 2, source="estimated")
    assert attempt.usage == (Usage(source="absent") if done else estimated)
    assert (attempt.cost_usd is None) == done


def limited(**clocks: float) -> ASGIApp:
    return Deadline(silent, Timeouts(**clocks))


async def reset(scope: Any, receive: Any, send: Any) -> None:
    """The connection is lost after the request went out: HTTPProvider answers so."""
    await receive()
    await answer(scope, send, Refusal("upstream_connection_lost", "reset"))


@pytest.mark.parametrize(
    ("app", "failure", "output"),
    [
        (limited(first_byte_s=10), "first_byte_timeout", 10 * TOKENS_PER_S),
        (limited(total_s=20), "total_timeout", 20 * TOKENS_PER_S),
        (reset, "upstream_connection_lost", OUTPUT_TOKENS),
        (saying(200, JSON, b'{"choi', ends=False), "upstream_connection_lost", OUTPUT_TOKENS),
        (Deadline(starting(JSON), Timeouts(idle_s=10)), "idle_timeout", 10 * TOKENS_PER_S),
        (FaultInjector(silent, Faults(reset_ratio=1)), "upstream_connection_lost", OUTPUT_TOKENS),
    ],
)
def test_an_attempt_that_was_given_up_is_charged_beside_the_one_that_answered(
    app: ASGIApp, failure: str, output: int
) -> None:
    """A request costs what its attempts do: the sum is known, and has both."""
    made = asked(app, GOOD)
    given_up, answered = made.attempts
    assert (given_up.failure, given_up.sent) == (failure, True)
    assert given_up.usage == Usage(prompt(), output, source="estimated")
    assert answered.usage == Usage(7, 3)
    total = Decimal(prompt() + 2 * output + 7 + 2 * 3) / 10**6
    assert request_cost_usd(made.attempts) == total
    assert (row_of(made).output_tokens, row_of(made).usage_source) == (3, "reported")


@pytest.mark.parametrize("app", [limited(first_byte_s=10), starting(SSE)])
def test_a_stream_of_which_nothing_came_has_written_nothing(app: ASGIApp) -> None:
    """Whether its headers had come or not."""
    made = asked(app, body={"stream": True})
    assert made.attempts[0].usage == Usage(prompt({"stream": True}), 0, source="estimated")


def test_a_client_that_says_when_it_leaves_is_charged_as_if_it_had() -> None:
    """Its own deadline ends the wait, and not what the provider does."""
    made = asked(limited(first_byte_s=60), patience_s=10)
    (attempt,) = made.attempts
    assert (attempt.failure, attempt.sent) == ("deadline_exceeded", True)
    assert attempt.usage is not None
    assert attempt.usage.output_tokens == pytest.approx(10 * TOKENS_PER_S, abs=TOKENS_PER_S)


@pytest.mark.parametrize(
    "app",
    [
        saying(400, JSON, b"{}"),
        saying(404, JSON, ends=False),
        saying(429, JSON, b"{}"),
        saying(503, JSON, b"{}"),
        saying(302, []),
        saying(200, JSON, b'{"error":{"message":"overloaded"}}'),
        saying(200, SSE, b'data: {"error":{"message":"overloaded"}}\n\n'),
    ],
)
def test_a_provider_that_declines_charges_nothing(app: ASGIApp) -> None:
    """An error is no answer, whatever its status."""
    made = asked(app, body={"stream": True})
    (attempt,) = made.attempts
    assert attempt.sent
    assert (attempt.usage, attempt.cost_usd) == (None, None)
    assert request_cost_usd(made.attempts) is None
    assert row_of(made).usage_source == "absent"


def opened() -> ASGIApp:
    """A breaker that opens just after the router has seen it closed."""
    breaker = CircuitBreaker(silent)
    breaker.policy.set_mode("isolated")
    return as_if_open(breaker)


def full() -> ASGIApp:
    slots = Slots(1)
    assert slots.take()
    return as_if_open(Bulkhead(silent, slots))


def as_if_open(app: ASGIApp) -> ASGIApp:
    """Without the word by which a router passes a layer over."""

    async def passed(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return passed


async def refused(scope: Any, receive: Any, send: Any) -> None:
    """The connection was refused: HTTPProvider answers so."""
    await receive()
    attempt: Attempt = scope["state"]["radgateway.attempt"]
    attempt.sent = False
    await answer(scope, send, Refusal("upstream_unreachable", "refused"))


class Connecting:
    """An upstream that never answers, and has written the request by then or not."""

    def __init__(self, *, writes: bool) -> None:
        self._writes = writes

    async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> UpstreamResponse:
        await asyncio.sleep(0.5)
        request.sent = self._writes
        await asyncio.Event().wait()
        raise AssertionError

    async def aclose(self) -> None:
        pass


def over(upstream: Any) -> ASGIApp:
    return HTTPProvider("a", upstream, base_url="https://a", clock=now)


async def never_takes_it(scope: Any, receive: Any, send: Any) -> None:
    """A layer that keeps the request waiting."""
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    "make",
    [opened, full, lambda: refused, lambda: over(Connecting(writes=False)), lambda: never_takes_it],
)
def test_what_was_never_sent_used_nothing(make: Callable[[], ASGIApp]) -> None:
    """However long its client waited."""
    made = asked(make())
    (attempt,) = made.attempts
    assert not attempt.sent
    assert (attempt.usage, attempt.cost_usd) == (None, None)
    assert row_of(made).usage_source == "absent"


def test_a_request_that_was_written_was_sent_though_nothing_came_back() -> None:
    """A call that is cancelled can only say so by its request."""
    (attempt,) = asked(over(Connecting(writes=True))).attempts
    assert attempt.sent
    assert attempt.usage is not None
    assert attempt.usage.source == "estimated"
