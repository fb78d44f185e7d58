from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from circuits import CONFIG, Clock, opened, state_of
from drive import Answer, drive, http_scope

from radgateway.asgi import StreamBroken
from radgateway.errors import Refusal, answer
from radgateway.exchange import ATTEMPT_KEY, KEY, Attempt, Exchange
from radgateway.inbound.request_context import RequestContextMiddleware
from radgateway.provider.breaker import CircuitBreaker
from radgateway.provider.circuit.config import BreakerConfig
from radgateway.provider.circuit.policy import BreakerPolicy
from radgateway.provider.http import HTTPProvider
from radgateway.routing.models import Candidate, Route
from radgateway.routing.router import ProviderRouter
from radgateway.upstream.interface import Timeouts, UpstreamRequest


def answering(status: int, *, attempt_failure: str | None = None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        attempt = scope.get("state", {}).get(ATTEMPT_KEY)
        if attempt is not None:
            attempt.status, attempt.first_byte = status, attempt.started
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})
        if attempt is not None and attempt_failure is not None:
            attempt.failure = attempt_failure

    return app


@pytest.mark.parametrize(
    ("status", "opens"),
    [
        (200, False),
        (400, False),
        (401, False),
        (403, False),
        (404, False),
        (429, False),
        (408, True),
        (500, True),
        (504, True),
        (529, True),
    ],
)
@pytest.mark.parametrize("below_router", [False, True])
def test_statuses_are_judged(status: int, opens: bool, below_router: bool) -> None:
    """5xx and 408 are the provider's failures, other 4xx the caller's; with a router or alone."""
    breaker = CircuitBreaker(answering(status), BreakerConfig(min_calls=1))
    scope = http_scope("/")
    if below_router:
        scope["state"] = {KEY: Exchange("r"), ATTEMPT_KEY: Attempt("p", "m", 0.0)}
    asyncio.run(drive(breaker, scope))
    assert (breaker.state == "open") is opens


@pytest.mark.parametrize(
    ("failure", "opens"),
    [(None, False), ("upstream_stream_error", True), ("bulkhead_full", False)],
)
def test_an_error_inside_a_stream_is_a_failure(failure: str | None, opens: bool) -> None:
    """What the router read in a 200's stream counts by its end; our own refusals never do."""
    breaker = CircuitBreaker(answering(200, attempt_failure=failure), BreakerConfig(min_calls=1))
    scope = http_scope("/")
    scope["state"] = {KEY: Exchange("r"), ATTEMPT_KEY: Attempt("p", "m", 0.0)}
    asyncio.run(drive(breaker, scope))
    assert (breaker.state == "open") is opens


@pytest.mark.parametrize(
    ("error", "opens"),
    [(StreamBroken("cut"), True), (RuntimeError("bug"), True), (OSError("caller gone"), False)],
)
@pytest.mark.parametrize("below_router", [False, True])
def test_exceptions_pass_and_are_judged(error: Exception, opens: bool, below_router: bool) -> None:
    """A broken stream is a failure; a send that fails because the caller left is not."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answering(200)(scope, receive, send)
        raise error

    breaker = CircuitBreaker(app, BreakerConfig(min_calls=1))
    scope = http_scope("/")
    if below_router:
        scope["state"] = {KEY: Exchange("r"), ATTEMPT_KEY: Attempt("p", "m", 0.0)}
    answer = asyncio.run(drive(breaker, scope, raises=True))
    assert answer.error is error
    assert (breaker.state == "open") is opens


@pytest.mark.parametrize("below_router", [False, True])
@pytest.mark.parametrize("error", [None, ConnectionRefusedError("nobody there")])
def test_no_response_at_all_is_a_failure(error: Exception | None, below_router: bool) -> None:
    """Also where it is an OSError: before the response began it can't be the caller's leaving."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if error is not None:
            raise error

    breaker = CircuitBreaker(app, BreakerConfig(min_calls=1))
    scope = http_scope("/")
    if below_router:
        scope["state"] = {KEY: Exchange("r"), ATTEMPT_KEY: Attempt("p", "m", 0.0)}
    asyncio.run(drive(breaker, scope, raises=True))
    assert breaker.state == "open"


@pytest.mark.parametrize(("refusal", "opens"), [("bulkhead_full", False), ("internal_error", True)])
def test_alone_our_own_refusal_below_it_is_no_failure(refusal: str, opens: bool) -> None:
    """A full bulkhead's 503 says nothing of the app behind it; the app's own 500 does."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(scope, send, Refusal(refusal, "no"))

    breaker = CircuitBreaker(app, BreakerConfig(min_calls=1))
    asyncio.run(drive(RequestContextMiddleware(breaker), http_scope("/")))
    assert (breaker.state == "open") is opens


def test_an_open_circuit_answers_with_the_time_of_the_next_probe() -> None:
    """The refusal is a 503 that says when to come back, and the app is not called."""
    clock = Clock()
    breaker = CircuitBreaker(answering(500), BreakerPolicy(CONFIG, clock=clock))
    breaker.policy.breaker.open()
    clock.now += 17.5
    answer = asyncio.run(drive(breaker, http_scope("/v1/chat/completions")))
    assert answer.status == 503
    assert json.loads(answer.body)["error"]["code"] == "breaker_open"
    assert answer.header("retry-after") == "13"
    assert not breaker.available()
    assert breaker.retry_after_s() == 12.5


def test_a_cancelled_call_is_neutral() -> None:
    """A caller that leaves is no failure of the provider, and its probe is returned."""

    async def story() -> None:
        async def stuck(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.Event().wait()

        clock = Clock()
        breaker = CircuitBreaker(stuck, opened(clock))
        clock.now += 30
        for _ in range(5):
            running = asyncio.create_task(drive(breaker, http_scope("/")))
            await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert state_of(breaker) == "half_open"
            assert breaker.available()

    asyncio.run(story())


def test_alone_it_times_the_first_byte() -> None:
    """Without a router's record it keeps the time itself."""
    clock = Clock()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        clock.now += 21
        await send({"type": "http.response.body", "body": b"x"})

    breaker = CircuitBreaker(slow, BreakerPolicy(BreakerConfig(min_calls=1), clock=clock))
    asyncio.run(drive(breaker, http_scope("/")))
    assert state_of(breaker) == "open"


def chat(*breakers: CircuitBreaker, times: int = 1) -> tuple[Answer, Exchange]:
    """Requests through a real router over these providers; the last one's answer and record."""
    records: list[Exchange] = []
    names = [f"p{number}" for number in range(len(breakers))]
    router = ProviderRouter(
        dict(zip(names, breakers, strict=True)), {"m": Route(tuple(map(Candidate, names)))}
    )
    app = RequestContextMiddleware(router, on_end=records.append)

    async def story() -> Answer:
        for _ in range(times):
            answer = await drive(app, http_scope(CHAT), body=b'{"model":"m"}')
        return answer

    return asyncio.run(story()), records[-1]


CHAT = "/v1/chat/completions"
GOOD = b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}'


def provider(
    status: int, headers: dict[str, str] | None = None, body: bytes = GOOD, kind: str = "json"
) -> Any:
    """A provider's API as a bare app."""
    sent = {"content-type": "application/json" if kind == "json" else kind, **(headers or {})}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        pairs = [(key.encode(), value.encode()) for key, value in sent.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})

    return app


def test_a_provider_at_its_quota_is_passed_over_until_it_said() -> None:
    """The first 429 costs an attempt, the next request none, and the circuit stays closed."""
    clock = Clock()
    refused: list[str] = []
    policy = BreakerPolicy(CONFIG, clock=clock, on_refused=refused.append)
    full = CircuitBreaker(provider(429, {"retry-after": "20"}), policy)
    answer, record = chat(full, CircuitBreaker(provider(200)))
    assert (answer.status, len(record.attempts)) == (200, 2)
    assert (full.state, full.available(), full.retry_after_s()) == ("closed", False, 20)
    answer, record = chat(full, CircuitBreaker(provider(200)))
    assert (answer.status, [attempt.provider for attempt in record.attempts]) == (200, ["p1"])
    assert refused == ["resting"]
    answer, record = chat(full)
    assert (answer.status, answer.header("retry-after")) == (503, "20")
    assert not record.attempts
    clock.now += 20
    assert full.available()
    assert policy.snapshot().failures == 0


def test_a_quota_is_told_by_milliseconds_too() -> None:
    """OpenAI's `retry-after-ms` is the finer word."""
    full = CircuitBreaker(
        provider(429, {"retry-after": "1", "retry-after-ms": "250"}),
        BreakerPolicy(CONFIG, clock=Clock()),
    )
    chat(full)
    assert full.retry_after_s() == 0.25


def test_an_overloaded_provider_is_left_alone_for_as_long_as_it_asks() -> None:
    """529 is a failure like 503, and the circuit it opens stays open as the answer says."""
    for status in (503, 529):
        policy = BreakerPolicy(CONFIG, clock=Clock())
        chat(CircuitBreaker(provider(status, {"retry-after": "90"}), policy), times=4)
        assert (policy.state, policy.retry_after_s()) == ("open", 90)
        assert policy.snapshot().last_failure == f"http_{status}"


EVENTS = "text/event-stream"


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b'{"error":{"message":"no"}}', "json", "upstream_stream_error"),
        (b'data: {"error":{"message":"no"}}\n\n', EVENTS, "upstream_stream_error"),
        (b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', EVENTS, "upstream_truncated"),
    ],
)
def test_a_failure_inside_a_200_is_counted(body: bytes, kind: str, reason: str) -> None:
    """An error body, an error event and a stream cut short open the circuit like a 500."""
    breaker = CircuitBreaker(provider(200, body=body, kind=kind), BreakerConfig(min_calls=1))
    chat(breaker)
    assert breaker.state == "open"
    assert breaker.policy.snapshot().last_failure == reason


def test_a_revoked_key_stops_costing_attempts() -> None:
    """After some refusals of our key the provider is passed over, though it is healthy."""
    revoked = CircuitBreaker(provider(401), BreakerPolicy(CONFIG, clock=Clock()))
    _, record = chat(revoked, CircuitBreaker(provider(200)), times=5)
    assert len(record.attempts) == 2
    _, record = chat(revoked, CircuitBreaker(provider(200)))
    assert [attempt.provider for attempt in record.attempts] == ["p1"]
    assert revoked.state == "closed"


def test_alone_a_429_is_the_callers_and_keeps_nobody_else_away() -> None:
    """In front of an app with callers of its own, one caller's limit is not another's."""
    breaker = CircuitBreaker(provider(429, {"retry-after": "60"}), BreakerConfig(min_calls=1))
    asyncio.run(drive(breaker, http_scope("/")))
    assert breaker.available()


def test_alone_it_reads_how_long_an_app_asks_to_be_left_alone() -> None:
    """A 503's Retry-After is the open time there too."""
    policy = BreakerPolicy(CONFIG, clock=Clock())
    breaker = CircuitBreaker(provider(503, {"Retry-After": "120"}), policy)
    for _ in range(4):
        asyncio.run(drive(breaker, http_scope("/")))
    assert (policy.state, policy.retry_after_s()) == ("open", 120)
    assert policy.snapshot().last_failure == "http_503"


def test_alone_it_notices_a_stall() -> None:
    """The app's silence counts, the time its caller takes to read does not."""
    clock = Clock()

    def stalling(app_s: float, caller_s: float) -> CircuitBreaker:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            clock.now += app_s
            await send({"type": "http.response.body", "body": b"y"})

        breaker = CircuitBreaker(app, BreakerPolicy(BreakerConfig(min_calls=1), clock=clock))

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                clock.now += caller_s

        asyncio.run(breaker(http_scope("/"), None, send))  # type: ignore[arg-type]
        return breaker

    assert stalling(25, 0).state == "open"
    assert stalling(0, 25).state == "closed"


def test_below_a_router_a_providers_stall_counts() -> None:
    """The silence that HTTPProvider waited out makes the call slow, well as it ended."""
    clock = Clock()

    class Stalling:
        status, connect_s = 200, 0.01
        headers = ((b"content-type", b"text/event-stream"),)

        def __init__(self) -> None:
            content = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
            self.left = [content, b"data: [DONE]\n\n"]

        async def read(self) -> bytes:
            clock.now += 25.0 if len(self.left) == 1 else 0.1
            return self.left.pop(0)

        @property
        def ended(self) -> bool:
            return not self.left

        async def aclose(self) -> None:
            return

    class Wire:
        async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> Any:
            return Stalling()

        async def aclose(self) -> None:
            return

    http = HTTPProvider("p0", Wire(), base_url="http://a", clock=clock)
    breaker = CircuitBreaker(http, BreakerPolicy(BreakerConfig(min_calls=2), clock=clock))
    answer, _ = chat(breaker)
    assert (answer.status, answer.complete) == (200, True)
    assert (breaker.policy.snapshot().slow, breaker.policy.snapshot().failures) == (1, 0)
    chat(breaker)
    assert breaker.state == "open"


@pytest.mark.parametrize(("mode", "words"), [("isolated", "out of use"), ("auto", "asked")])
def test_the_refusal_says_why(mode: Any, words: str) -> None:
    """A caller that gets it can tell an outage from an operator's decision."""
    policy = BreakerPolicy(CONFIG, clock=Clock())
    admission = policy.acquire()
    assert admission is not None
    policy.release(admission, "limited", retry_after_s=5.0)
    policy.set_mode(mode)
    answer = asyncio.run(drive(CircuitBreaker(provider(200), policy), http_scope("/")))
    error = json.loads(answer.body)["error"]
    assert error["code"] == "breaker_open"
    assert words in error["message"]


def test_of_a_hundred_requests_through_a_router_the_probes_pass() -> None:
    """The others go to the next provider at once, and none of them has cost an attempt."""

    async def story() -> None:
        clock = Clock()
        reached, go = 0, asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            nonlocal reached
            reached += 1
            await go.wait()
            await provider(200)(scope, receive, send)

        breaker = CircuitBreaker(slow, opened(clock))
        clock.now += 30
        records: list[Exchange] = []
        router = ProviderRouter(
            {"a": breaker, "b": provider(200)}, {"m": Route((Candidate("a"), Candidate("b")))}
        )
        app = RequestContextMiddleware(router, on_end=records.append)
        callers = [
            asyncio.create_task(drive(app, http_scope(CHAT), body=b'{"model":"m"}'))
            for _ in range(100)
        ]
        async with asyncio.timeout(5):
            while len(records) < 98:
                await asyncio.sleep(0)
        assert reached == 2
        assert {attempt.provider for record in records for attempt in record.attempts} == {"b"}
        go.set()
        answers = await asyncio.gather(*callers)
        assert {answer.status for answer in answers} == {200}
        assert {len(record.attempts) for record in records} == {1}
        assert state_of(breaker) == "closed"

    asyncio.run(story())


def test_of_a_hundred_concurrent_callers_the_probes_pass() -> None:
    """All at once at a circuit that may be probed: two reach the provider, 98 are refused."""

    async def story() -> None:
        clock = Clock()
        reached, go = 0, asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            nonlocal reached
            reached += 1
            await go.wait()
            await provider(200)(scope, receive, send)

        breaker = CircuitBreaker(slow, opened(clock))
        clock.now += 30
        callers = [asyncio.create_task(drive(breaker, http_scope("/"))) for _ in range(100)]
        while sum(caller.done() for caller in callers) < 98:
            await asyncio.sleep(0)
        assert reached == 2
        go.set()
        answers = await asyncio.gather(*callers)
        assert sorted(answer.status for answer in answers) == [200] * 2 + [503] * 98
        assert state_of(breaker) == "closed"

    asyncio.run(story())
