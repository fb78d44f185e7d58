from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from drive import Answer, drive, http_scope, no_other_tasks
from hypothesis import given
from hypothesis import strategies as st

from radgateway.asgi import ASGIApp, StreamBroken
from radgateway.errors import Refusal, answer, end_broken
from radgateway.exchange import Exchange, Usage, attempt_of
from radgateway.inbound.request_context import RequestContextMiddleware
from radgateway.routing.models import Candidate, Provider, Route
from radgateway.routing.router import ProviderRouter

CHAT = "/v1/chat/completions"
SSE = [(b"content-type", b"text/event-stream")]
JSON = [(b"content-type", b"application/json")]
GOOD = b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}'


def chunk(content: str | None = None, finish: str | None = None) -> bytes:
    """A chat chunk; without content the role's preamble."""
    delta = {"role": "assistant", "content": ""} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = [chunk(), chunk("a"), chunk("b"), chunk("", "stop"), USAGE, DONE]


class Scripted:
    """A provider that does as told and remembers what it was asked."""

    def __init__(
        self,
        *chunks: bytes,
        status: int = 200,
        headers: list[tuple[bytes, bytes]] | None = None,
        then: Callable[..., Any] | None = None,
    ) -> None:
        self.chunks, self.status, self.then = list(chunks), status, then
        self.headers = headers if headers is not None else JSON
        self.asked: list[tuple[str, bytes, dict[bytes, bytes]]] = []
        self.cancelled = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        self.asked.append((scope["path"], body, dict(scope["headers"])))
        try:
            start = {"type": "http.response.start", "status": self.status, "headers": self.headers}
            await send(start)
            for number, part in enumerate(self.chunks):
                more = self.then is not None or number < len(self.chunks) - 1
                await send({"type": "http.response.body", "body": part, "more_body": more})
            if self.then is not None:
                await self.then(scope, send)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def refusing(code: str) -> ASGIApp:
    """A provider whose connection fails: HTTPProvider answers so."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        attempt = attempt_of(scope)
        assert attempt is not None
        attempt.sent = False
        await answer(scope, send, Refusal(code, "no"))

    return app


async def breaks(scope: Any, send: Any) -> None:
    """The upstream's connection is lost."""
    refusal = Refusal("upstream_connection_lost", "lost")
    await end_broken(scope, send, refusal, events=True)


async def cut(scope: Any, send: Any) -> None:
    """The upstream's connection is lost in a body that can't say so."""
    raise StreamBroken("upstream_connection_lost")


async def pause_then_end(scope: Any, send: Any) -> None:
    """The upstream closes its body a while after the last event."""
    await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def hangs(scope: Any, send: Any) -> None:
    """The upstream says no more."""
    await asyncio.Event().wait()


def ask(
    *providers: ASGIApp | Provider,
    body: Any = None,
    path: str = CHAT,
    method: str = "POST",
    models: dict[str, Route] | None = None,
    leave: asyncio.Event | None = None,
    **options: Any,
) -> tuple[Answer, Exchange]:
    """Ask a router over these providers, a then b then c, and return answer and record."""
    named = dict(zip("abc", providers, strict=False))
    route = Route(tuple(Candidate(name, "m", 100 - n) for n, name in enumerate(named)))
    router = ProviderRouter(named, models or {"m": route})
    records: list[Exchange] = []
    app = RequestContextMiddleware(router, on_end=records.append)
    raw = body if isinstance(body, (bytes, list)) else json.dumps(body or {"model": "m"}).encode()

    async def story() -> Answer:
        scope = http_scope(path, method=method, headers=[("content-type", "application/json")])
        got = await drive(app, scope, raw, raises=True, leave=leave, **options)
        assert not await no_other_tasks()
        return got

    return asyncio.run(story()), records[0]


def code_of(got: Answer) -> str:
    """The error code of an OpenAI-shaped answer."""
    return str(json.loads(got.body)["error"]["code"])


def test_same_model_and_dialect_pass_byte_for_byte() -> None:
    """The body goes and the answer comes as they are, unknown fields and number forms included."""
    provider = Scripted(GOOD[:9], GOOD[9:])
    sent = b'{ "model" : "m",\n "temperature": 1.0, "tools": [{"x": 1e2}], "new": "\\u00e9" }'
    got, record = ask(provider, body=sent)
    assert provider.asked[0][:2] == (CHAT, sent)
    assert (got.status, got.body, got.complete) == (200, GOOD, True)
    assert got.header("x-radgateway-provider") == "a"
    assert got.header("x-radgateway-attempts") == "1"
    assert record.attempts[0].usage == Usage(1, 2)
    assert record.outcome == "success"


@given(
    request_cuts=st.lists(st.integers(0, 80), max_size=6),
    cuts=st.lists(st.integers(0, 600), max_size=20),
    stream=st.booleans(),
)
def test_boundaries_do_not_matter(request_cuts: list[int], cuts: list[int], stream: bool) -> None:
    """However the network cuts request and answer, the same bytes and usage come out."""
    raw = json.dumps({"model": "m", "stream": stream, "messages": [{"content": "é\n\n"}]}).encode()
    whole = b"".join(STREAM) if stream else GOOD

    def split(data: bytes, at: list[int]) -> list[bytes]:
        edges = [0, *sorted({min(cut, len(data)) for cut in at}), len(data)]
        return [data[a:b] for a, b in itertools.pairwise(edges)]

    provider = Scripted(*split(whole, cuts), headers=SSE if stream else JSON)
    entry = Provider(provider, include_usage=False)
    got, record = ask(entry, body=split(raw, request_cuts))
    assert provider.asked[0][1] == raw
    assert (got.body, got.complete) == (whole, True)
    assert record.attempts[0].usage == Usage(1, 2)


def test_the_candidates_model_replaces_the_callers() -> None:
    """Only the name differs; the length is that of the new body."""
    provider = Scripted(GOOD)
    models = {"m": Route((Candidate("a", "vendor/long-name"),))}
    ask(provider, models=models, body=b'{"model":"m","n":1.0}')
    _, body, headers = provider.asked[0]
    assert body == b'{"model":"vendor/long-name","n":1.0}'
    assert headers[b"content-length"] == b"%d" % len(body)


def test_a_streams_usage_is_asked_for_and_hidden() -> None:
    """The gateway learns what a stream cost; a caller that did not ask sees no more for it."""
    provider = Scripted(*STREAM, headers=SSE)
    got, record = ask(provider, body={"model": "m", "stream": True})
    assert json.loads(provider.asked[0][1])["stream_options"] == {"include_usage": True}
    assert got.body == b"".join(STREAM).replace(USAGE, b"")
    assert record.attempts[0].usage == Usage(1, 2)


def test_a_caller_that_asked_for_usage_gets_it() -> None:
    """Its own request passes untouched and its chunk too."""
    provider = Scripted(*STREAM, headers=SSE)
    body = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
    got, _ = ask(provider, body=body)
    assert json.loads(provider.asked[0][1]) == body
    assert got.body == b"".join(STREAM)


ERROR_EVENT = b'data: {"error":{"message":"overloaded"}}\n\n'
FAILING: dict[str, tuple[Any, str]] = {
    "500": (Scripted(b"<html>", status=500, headers=[]), "http_500"),
    "599": (Scripted(b"", status=599), "http_5xx"),
    "429": (Scripted(b"{}", status=429), "http_429"),
    "bad credential": (Scripted(b"{}", status=401), "http_401"),
    "unreachable": (refusing("upstream_unreachable"), "upstream_unreachable"),
    "error in a 200": (Scripted(b'{"error":{"message":"x"}}'), "upstream_stream_error"),
    "cut body": (Scripted(GOOD[:20], then=cut), "upstream_connection_lost"),
    "error event": (Scripted(chunk(), ERROR_EVENT, headers=SSE), "upstream_stream_error"),
    "empty stream": (Scripted(b"", headers=SSE), "upstream_truncated"),
    "preamble only": (Scripted(chunk(), headers=SSE), "upstream_truncated"),
    "broken preamble": (Scripted(chunk(), headers=SSE, then=breaks), "upstream_connection_lost"),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_failure_before_the_commit_point_fails_over(name: str) -> None:
    """The caller gets the second provider's answer and not a byte of the first's."""
    failing, reason = FAILING[name]
    got, record = ask(failing, Scripted(GOOD))
    assert (got.status, got.body) == (200, GOOD)
    assert got.header("x-radgateway-provider") == "b"
    assert got.header("x-radgateway-attempts") == "2"
    assert [a.failure for a in record.attempts] == [reason, None]


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
def test_the_callers_own_mistake_does_not_fail_over(status: int) -> None:
    """Another provider would say the same; status, body and origin are kept."""
    second = Scripted(GOOD)
    got, record = ask(Scripted(b'{"error":1}', status=status), second)
    assert (got.status, got.body) == (status, b'{"error":1}')
    assert got.header("x-radgateway-error-source") == "upstream"
    assert not second.asked
    assert record.attempts[0].failure is None


def test_the_last_failure_is_delivered_as_it_came() -> None:
    """Status, body and Retry-After of the provider are worth more than a word of ours."""
    limited = Scripted(
        b'{"error":{"message":"slow down"}}', status=429, headers=[*JSON, (b"retry-after", b"7")]
    )
    got, record = ask(Scripted(b"", status=500), limited)
    assert (got.status, got.body) == (429, b'{"error":{"message":"slow down"}}')
    assert got.header("retry-after") == "7"
    assert got.header("x-radgateway-error-source") == "upstream"
    assert record.error_code is None


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("unreachable", 502, "upstream_unreachable"),
        ("cut body", 502, "upstream_connection_lost"),
        ("error event", 502, "upstream_stream_error"),
        ("empty stream", 502, "upstream_truncated"),
        ("broken preamble", 502, "upstream_connection_lost"),
    ],
)
def test_a_broken_attempt_with_no_other_is_an_error_of_ours(
    name: str, status: int, code: str
) -> None:
    """Nothing was released, so the caller gets a status that says so, and not half an answer."""
    got, record = ask(FAILING[name][0], body={"model": "m", "stream": True})
    assert (got.status, code_of(got)) == (status, code)
    assert got.header("x-radgateway-provider") == "a"
    assert record.error_code == code


def test_an_error_under_a_200_becomes_a_502_with_the_providers_words() -> None:
    """A client must not take it for an answer."""
    got, _ = ask(Scripted(b'{"error":{"message":"no capacity"}}'))
    assert (got.status, got.body) == (502, b'{"error":{"message":"no capacity"}}')


def test_an_error_event_before_any_content_is_told_in_the_providers_words() -> None:
    """Where no other attempt is left; the caller's log should not need ours."""
    got, _ = ask(Scripted(chunk(), ERROR_EVENT, headers=SSE))
    error = json.loads(ERROR_EVENT.removeprefix(b"data: "))["error"]
    assert (got.status, code_of(got)) == (502, "upstream_stream_error")
    assert error["message"] in json.loads(got.body)["error"]["message"]


def test_half_an_error_answer_is_not_passed_on_as_one() -> None:
    """Nobody could read it; the caller gets a whole one of ours."""
    got, record = ask(Scripted(b'{"error":{"mess', status=500, then=cut))
    assert (got.status, code_of(got)) == (502, "upstream_error")
    assert record.attempts[0].failure == "http_500"


def test_a_stream_that_breaks_after_content_ends_in_an_error_event() -> None:
    """No second start, no other provider spliced in, no polite end."""
    second = Scripted(GOOD)
    first = Scripted(chunk(), chunk("a"), headers=SSE, then=breaks)
    got, record = ask(first, second)
    assert got.status == 200
    assert got.body.startswith(chunk() + chunk("a"))
    last = json.loads(got.chunks[-1].removeprefix(b"data: "))
    assert last["error"]["code"] == "upstream_connection_lost"
    assert not second.asked
    assert record.interrupted == "upstream_connection_lost"
    assert record.outcome == "interrupted"


def test_a_stream_that_ends_politely_but_early_gets_an_error_event() -> None:
    """A missing end mark is a truncation, even where the transport saw none."""
    got, record = ask(Scripted(chunk(), chunk("a"), b"", headers=SSE))
    assert json.loads(got.chunks[-1].removeprefix(b"data: "))["error"]["code"] == (
        "upstream_truncated"
    )
    assert b"[DONE]" not in got.body
    assert record.interrupted == "upstream_truncated"


def test_a_client_that_leaves_after_the_last_mark_has_its_answer() -> None:
    """Clients close at `[DONE]`; that the provider takes its time to close is not their failure."""
    provider = Scripted(*STREAM, headers=SSE, then=pause_then_end)
    leave = asyncio.Event()

    def after_done(got: Answer) -> None:
        if got.chunks[-1] == DONE:
            leave.set()

    got, record = ask(provider, leave=leave, on_chunk=after_done)
    assert got.body == b"".join(STREAM)
    assert provider.cancelled == 0
    assert record.outcome == "success"
    assert record.attempts[0].failure is None
    assert record.attempts[0].usage == Usage(1, 2)


def test_a_break_after_the_last_mark_is_no_failure() -> None:
    """The caller got everything; what the connection did then is between servers."""
    got, record = ask(Scripted(*STREAM, headers=SSE, then=breaks))
    assert (got.body, got.complete) == (b"".join(STREAM), True)
    assert record.outcome == "success"
    assert record.attempts[0].failure is None


def test_a_provider_that_just_returns_is_a_broken_one() -> None:
    """An app that ends without completing its response has not succeeded."""

    async def nothing(scope: Any, send: Any) -> None:
        return

    got, record = ask(Scripted(b"x" * 70_000, then=nothing))
    assert isinstance(got.error, StreamBroken)
    assert not got.complete
    assert record.interrupted == "upstream_truncated"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("content", [False, True])
def test_a_client_that_leaves_cancels_the_provider(streaming: bool, content: bool) -> None:
    """On every path: streaming or not, before the first byte or after."""
    parts = [chunk(), chunk("a")] if content else [chunk()]
    provider = Scripted(*parts, headers=SSE if streaming else JSON, then=hangs)
    leave = asyncio.Event()
    second = Scripted(GOOD)

    async def story() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(0.02, leave.set)
        await drive(app, http_scope(CHAT), b'{"model":"m","stream":true}', leave=leave)
        assert task.cancelling() == 0
        assert not await no_other_tasks()

    records: list[Exchange] = []
    route = Route((Candidate("a", "m"), Candidate("b", "m", 1)))
    router = ProviderRouter({"a": provider, "b": second}, {"m": route})
    app = RequestContextMiddleware(router, on_end=records.append)
    asyncio.run(story())
    assert provider.cancelled == 1
    assert not second.asked
    assert records[0].outcome == "client_disconnected"
    assert records[0].reported_status == 499
    assert records[0].attempts[0].failure is None


def test_a_cancellation_from_outside_passes_through() -> None:
    """A server that cancels its request sees it cancelled, and the provider too."""
    provider = Scripted(chunk("a"), headers=SSE, then=hangs)
    router = ProviderRouter({"a": provider}, {"m": Route((Candidate("a"),))})

    async def story() -> None:
        task = asyncio.create_task(drive(router, http_scope(CHAT), b'{"model":"m"}'))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not await no_other_tasks()

    asyncio.run(story())
    assert provider.cancelled == 1


def test_a_client_that_leaves_half_way_through_its_body_costs_no_attempt() -> None:
    """There was no request to serve."""
    provider = Scripted(GOOD)
    leave = asyncio.Event()
    leave.set()
    router = ProviderRouter({"a": provider}, {"m": Route((Candidate("a"),))})
    records: list[Exchange] = []
    app = RequestContextMiddleware(router, on_end=records.append)

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        raise AssertionError("nobody is there to answer")

    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b'{"mod', "more_body": True},
        {"type": "http.disconnect"},
    ]
    asyncio.run(app(http_scope(CHAT), receive, send))
    assert not provider.asked
    assert records[0].outcome == "client_disconnected"


class Closed:
    """A layer whose door is shut."""

    def __init__(self, app: Any, retry_after_s: float) -> None:
        self.app, self._retry_after_s = app, retry_after_s

    def available(self) -> bool:
        return False

    def retry_after_s(self) -> float:
        return self._retry_after_s

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("passed over means not called")


def test_a_closed_candidate_is_passed_over_without_an_attempt() -> None:
    """An open breaker costs neither a call nor a try."""
    got, record = ask(Closed(None, 9), Scripted(GOOD))
    assert got.status == 200
    assert [a.provider for a in record.attempts] == ["b"]


def test_when_all_are_closed_the_caller_learns_when_to_come_back() -> None:
    """503 with the earliest time that one may open."""
    got, record = ask(Closed(None, 9), Closed(None, 3.2))
    assert (got.status, code_of(got)) == (503, "no_provider_available")
    assert got.header("retry-after") == "4"
    assert not record.attempts
    assert record.outcome == "refused"


@pytest.mark.parametrize(
    ("path", "method", "body", "status", "code"),
    [
        ("/v1/nothing", "POST", b"{}", 404, "unknown_path"),
        (CHAT, "GET", b"", 405, "method_not_allowed"),
        (CHAT, "POST", b'{"model":"unheard-of"}', 404, "unknown_model"),
        (CHAT, "POST", b"{", 400, "invalid_json"),
    ],
)
def test_what_cannot_be_served_is_named(
    path: str, method: str, body: bytes, status: int, code: str
) -> None:
    """Unknown models are an error, never somebody's guess."""
    provider = Scripted(GOOD)
    got, _ = ask(provider, path=path, method=method, body=body)
    assert (got.status, code_of(got)) == (status, code)
    assert not provider.asked


def test_a_dialect_the_providers_do_not_speak_is_a_400_that_names_both() -> None:
    """Until translation comes, the caller is told which API to use."""
    provider = Provider(Scripted(GOOD), dialects=frozenset({"openai-chat"}))
    got, _ = ask(provider, path="/v1/messages")
    error = json.loads(got.body)["error"]
    assert (got.status, error["code"]) == (400, "dialect_mismatch")
    assert "anthropic-messages" in error["message"]
    assert "openai-chat" in error["message"]


def test_the_prefix_of_a_mount_is_not_the_providers_business() -> None:
    """Mounted under a prefix, the provider still gets the API's own path."""
    provider = Scripted(GOOD)
    router = ProviderRouter({"a": provider}, {"m": Route((Candidate("a"),))})
    scope = http_scope(CHAT, root_path="/ai")
    got = asyncio.run(drive(router, scope, b'{"model":"m"}'))
    assert got.status == 200
    assert provider.asked[0][0] == CHAT


def test_a_model_whose_provider_does_not_exist_fails_at_start() -> None:
    """A configuration that can't work is refused before the first request."""
    with pytest.raises(ValueError, match="nowhere"):
        ProviderRouter({"a": Scripted()}, {"m": Route((Candidate("nowhere"),))})


def test_a_hundred_interleaved_requests_do_not_see_each_other() -> None:
    """Nothing of a request lives on the router."""

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": JSON})
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": body})

    router = ProviderRouter({"a": echo}, {"m": Route((Candidate("a"),))})

    async def story() -> None:
        bodies = [json.dumps({"model": "m", "n": n}).encode() for n in range(100)]
        got = await asyncio.gather(*(drive(router, http_scope(CHAT), b) for b in bodies))
        assert [g.body for g in got] == bodies
        assert not await no_other_tasks()

    asyncio.run(story())


def test_a_client_that_leaves_during_the_second_attempt_is_noticed() -> None:
    """A failed attempt that was discarded has delivered nothing."""
    failing = Scripted(b'{"error":{"message":"x"}}')
    second = Scripted(GOOD[:5], then=hangs)
    leave = asyncio.Event()

    async def story() -> None:
        asyncio.get_running_loop().call_later(0.05, leave.set)
        await drive(app, http_scope(CHAT), b'{"model":"m"}', leave=leave)

    records: list[Exchange] = []
    route = Route((Candidate("a", "m"), Candidate("b", "m", 1)))
    router = ProviderRouter({"a": failing, "b": second}, {"m": route})
    app = RequestContextMiddleware(router, on_end=records.append)
    asyncio.run(story())
    assert second.cancelled == 1
    assert records[0].outcome == "client_disconnected"


def test_an_error_event_before_content_is_not_waited_out() -> None:
    """Nothing after it is held or waited for; the next candidate is tried at once."""
    talkative = Scripted(chunk(), ERROR_EVENT, headers=SSE, then=hangs)
    got, record = ask(talkative, Scripted(GOOD))
    assert got.body == GOOD
    assert record.attempts[0].failure == "upstream_stream_error"


def test_a_redirect_is_a_failure_and_is_not_passed_on() -> None:
    """It would send the caller's body to an address nobody configured."""
    redirect = Scripted(b"", status=307, headers=[(b"location", b"https://elsewhere/v1")])
    got, record = ask(redirect, Scripted(GOOD))
    assert (got.status, got.body) == (200, GOOD)
    assert record.attempts[0].failure == "upstream_bad_response"
    got, _ = ask(redirect)
    assert (got.status, code_of(got), got.header("location")) == (
        502,
        "upstream_bad_response",
        None,
    )


def test_a_bug_in_a_providers_app_is_raised_and_recorded() -> None:
    """A bug is for the server's log; the record says which attempt had it."""

    async def buggy(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("bug")

    got, record = ask(buggy)
    assert isinstance(got.error, KeyError)
    assert got.status == 500
    assert record.attempts[0].failure == "internal_error"


def test_an_event_stream_has_no_length() -> None:
    """An event may be hidden or added, so the provider's own length does not hold."""
    headers = [*SSE, (b"content-length", b"1000")]
    got, _ = ask(Scripted(*STREAM, headers=headers))
    assert got.header("content-length") is None


@pytest.mark.parametrize("name", ["gemini-x/../../corpora/c", "a%2f..%2fb", "a//b", ".", "%2e%2e"])
def test_a_model_in_the_path_cannot_climb_out_of_it(name: str) -> None:
    """Under a wildcard the caller writes part of the provider's path, and no more than that."""
    provider = Scripted(GOOD)
    models = {"*": Route((Candidate("a"),))}
    got, _ = ask(provider, path=f"/v1beta/models/{name}:generateContent", models=models)
    assert got.status == 400
    assert not provider.asked
