from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from drive import Answer, drive, http_scope, no_other_tasks

from radgateway.asgi import StreamBroken
from radgateway.exchange import ATTEMPT_KEY, KEY, Attempt, Exchange
from radgateway.provider.http import HTTPProvider
from radgateway.upstream.interface import (
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    FirstByteTimeout,
    PoolTimeout,
    Timeouts,
    UpstreamError,
    UpstreamRequest,
)

CHAT = "/v1/chat/completions"


class Response:
    """A response made of what it is given; an error among the chunks is raised in its turn."""

    connect_s = 0.01

    def __init__(self, *chunks: bytes | UpstreamError, status: int = 200, **headers: str) -> None:
        self.status = status
        self.headers = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
        self._chunks = list(chunks)
        self.closed = False

    async def read(self) -> bytes:
        chunk = self._chunks.pop(0) if self._chunks else b""
        if isinstance(chunk, UpstreamError):
            raise chunk
        return chunk

    @property
    def ended(self) -> bool:
        return not self._chunks

    async def aclose(self) -> None:
        self.closed = True


class Wire:
    """An upstream that remembers what it was asked, and answers as told."""

    def __init__(
        self, response: Response | UpstreamError | None = None, *, writes: bool = True
    ) -> None:
        self.response, self.writes = response, writes
        self.requests: list[UpstreamRequest] = []
        self.bodies: list[bytes] = []
        self.cancelled = 0

    async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> Any:
        self.requests.append(request)
        body = request.body
        self.bodies.append(body if isinstance(body, bytes) else await joined(body))
        if self.response is None:
            request.sent = self.writes
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        if isinstance(self.response, UpstreamError):
            raise self.response
        return self.response

    async def aclose(self) -> None:
        return


async def joined(parts: AsyncIterator[bytes]) -> bytes:
    return b"".join([part async for part in parts])


def ask(
    response: Response | UpstreamError,
    path: str = CHAT,
    body: bytes | list[bytes] = b"{}",
    base_url: str = "https://api.example/v1",
    kind: Any = "openai",
    query: str = "",
    headers: list[tuple[str, str]] | None = None,
    added: list[tuple[bytes, bytes]] | None = None,
    attempt: Attempt | None = None,
) -> tuple[Answer, Wire]:
    """Ask a provider over this upstream."""
    wire = Wire(response)
    provider = HTTPProvider(
        "p", wire, base_url=base_url, kind=kind, api_key=lambda: "sk-upstream", headers=added
    )
    scope = http_scope(path, headers=headers or [], query=query)
    if attempt is not None:
        exchange = Exchange("req-1", "POST")
        exchange.trace_id = "ab" * 16
        scope["state"] = {KEY: exchange, ATTEMPT_KEY: attempt}
    got = asyncio.run(drive(provider, scope, body, raises=True))
    return got, wire


@pytest.mark.parametrize(
    ("kind", "base_url", "path", "url", "key"),
    [
        ("openai", "https://a/v1", CHAT, "https://a/v1/chat/completions", b"authorization"),
        ("openai", "http://a:8000", CHAT, "http://a:8000" + CHAT, b"authorization"),
        ("openai", "https://a/api/v1/", CHAT, "https://a/api" + CHAT, b"authorization"),
        ("anthropic", "https://a", "/v1/messages", "https://a/v1/messages", b"x-api-key"),
        (
            "gemini",
            "https://a/v1beta",
            "/v1beta/models/m:generateContent",
            "https://a/v1beta/models/m:generateContent",
            b"x-goog-api-key",
        ),
    ],
)
def test_each_kind_has_its_own_address_and_key(
    kind: str, base_url: str, path: str, url: str, key: bytes
) -> None:
    """The version is not doubled, and the key goes where that vendor looks for it."""
    _, wire = ask(Response(b"{}"), path, base_url=base_url, kind=kind)
    request = wire.requests[0]
    assert request.url == url
    value = b"Bearer sk-upstream" if key == b"authorization" else b"sk-upstream"
    assert (key, value) in request.headers
    assert ((b"anthropic-version", b"2023-06-01") in request.headers) is (kind == "anthropic")


def test_the_callers_secrets_and_framing_stay_here() -> None:
    """What a caller proves itself with is not the provider's business; the rest passes."""
    sent = [
        ("authorization", "Bearer caller"),
        ("x-api-key", "caller"),
        ("x-goog-api-key", "caller"),
        ("cookie", "caller"),
        ("host", "gateway"),
        ("connection", "keep-alive"),
        ("accept-encoding", "gzip, br"),
        ("x-forwarded-for", "10.0.0.1"),
        ("openai-organization", "theirs"),
        ("content-type", "application/json"),
        ("anthropic-beta", "x"),
        ("x-stainless-retry-count", "1"),
    ]
    path, query = "/v1beta/models/m:generateContent", "key=caller&alt=sse"
    _, wire = ask(Response(b"{}"), path, headers=sent, query=query, kind="gemini")
    request = wire.requests[0]
    assert "caller" not in str(request.headers) + request.url
    assert request.url.endswith("?alt=sse")
    got = dict(request.headers)
    assert set(got) == {
        b"content-type",
        b"anthropic-beta",
        b"x-stainless-retry-count",
        b"accept-encoding",
        b"x-goog-api-key",
    }
    assert got[b"accept-encoding"] == b"identity"


def test_configured_headers_win() -> None:
    """The operator's word counts for more than the caller's."""
    added = [(b"X-Team", b"ours")]
    _, wire = ask(Response(b"{}"), headers=[("x-team", "theirs")], added=added)
    assert [v for k, v in wire.requests[0].headers if k == b"x-team"] == [b"ours"]


def test_a_traced_attempt_names_itself_to_the_provider() -> None:
    """Request id and W3C trace context go out with every attempt."""
    attempt = Attempt("p", "m", 0.0)
    attempt.span_id = "cd" * 8
    _, wire = ask(Response(b"{}"), attempt=attempt)
    headers = dict(wire.requests[0].headers)
    assert headers[b"x-request-id"] == b"req-1"
    assert headers[b"traceparent"] == b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-00"
    assert attempt.connect_s == 0.01
    assert attempt.waited_s >= 0


def test_the_answer_comes_as_it_is_less_what_is_between_servers() -> None:
    """Status, body and the vendor's headers pass; hop-by-hop ones, cookies and spoofs do not."""
    response = Response(
        b"one",
        b"two",
        status=418,
        content_type="text/plain",
        openai_processing_ms="5",
        set_cookie="s",
        transfer_encoding="chunked",
        connection="close",
        x_radgateway_provider="spoof",
        server="theirs",
    )
    got, _ = ask(response)
    assert (got.status, got.chunks, got.complete) == (418, [b"one", b"two"], True)
    assert got.headers == [(b"content-type", b"text/plain"), (b"openai-processing-ms", b"5")]
    assert response.closed


def test_a_body_in_parts_is_passed_on_as_it_arrives() -> None:
    """Alone in somebody's app it is not buffered."""
    large = [b"a" * 70_000, b"b", b"c"]
    _, wire = ask(Response(b"{}"), body=large)
    assert wire.bodies == [b"".join(large)]
    assert not isinstance(wire.requests[0].body, bytes)
    _, wire = ask(Response(b"{}"), body=[b"a", b""])
    assert wire.requests[0].body == b"a"


@pytest.mark.parametrize(
    ("error", "status", "code", "sent"),
    [
        (ConnectFailed("refused"), 502, "upstream_unreachable", False),
        (ConnectionLost("reset"), 502, "upstream_connection_lost", True),
        (FirstByteTimeout("late"), 504, "first_byte_timeout", True),
    ],
)
def test_what_fails_below_http_is_answered(
    error: UpstreamError, status: int, code: str, sent: bool
) -> None:
    """A clear error in the dialect; the record knows if trying again is free."""
    attempt = Attempt("p", "m", 0.0)
    got, _ = ask(error, attempt=attempt)
    assert got.status == status
    assert json.loads(got.body)["error"]["code"] == code
    assert (attempt.failure, attempt.sent) == (code, sent)


@pytest.mark.parametrize("written", [False, True])
def test_a_call_that_is_cancelled_was_sent_once_it_was_written(written: bool) -> None:
    """While it waits for a connection, nobody can charge for it."""
    attempt = Attempt("p", "m", 0.0)
    attempt.sent = True  # the provider has taken the body
    wire = Wire(writes=written)
    scope = http_scope(CHAT)
    scope["state"] = {KEY: Exchange("req-1", "POST"), ATTEMPT_KEY: attempt}

    async def story() -> None:
        asking = asyncio.ensure_future(
            drive(HTTPProvider("p", wire, base_url="https://a"), scope, b"{}")
        )
        await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(story())
    assert (wire.cancelled, attempt.sent) == (1, written)


def test_an_answer_shows_that_it_was_sent() -> None:
    """Whatever its status."""
    attempt = Attempt("p", "m", 0.0)
    ask(Response(b"{}", status=500), attempt=attempt)
    assert attempt.sent


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectFailed("its certificate is not accepted (certificate has expired)"), True),
        (ConnectTimeout("no connection within 2 s"), True),
        (PoolTimeout("none was free"), False),
        (ConnectionLost("reset"), False),
    ],
)
def test_why_no_connection_could_be_made_is_told(error: UpstreamError, told: bool) -> None:
    """To whoever can mend it, in words; the caller is told only that there was none."""
    reasons: list[str] = []
    provider = HTTPProvider("p", Wire(error), base_url="https://a", on_unreachable=reasons.append)
    got = asyncio.run(drive(provider, http_scope(CHAT), b"{}"))
    assert reasons == ([str(error)] if told else [])
    assert str(error).encode() not in got.body


def test_a_stream_that_breaks_ends_in_an_error_event() -> None:
    """In the caller's dialect, after what had come."""
    response = Response(b"data: {}\n\n", ConnectionLost("reset"), content_type="text/event-stream")
    got, _ = ask(response, "/v1/messages", kind="anthropic")
    assert got.chunks[0] == b"data: {}\n\n"
    assert got.chunks[-1].startswith(b"event: error\n")
    assert got.complete
    assert response.closed


def test_any_other_body_that_breaks_is_cut() -> None:
    """A truncated body must look truncated."""
    response = Response(b"{", ConnectionLost("reset"), content_type="application/json")
    got, _ = ask(response)
    assert isinstance(got.error, StreamBroken)
    assert not got.complete
    assert response.closed


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_a_compression_nobody_asked_for_is_undone(compress: Any) -> None:
    """It was asked for identity; what reads the answer in passing must see it."""
    plain = b'{"a":1}' * 30_000
    packed = compress(plain)
    name = "gzip" if compress is gzip.compress else "deflate"
    pieces = [packed[i : i + 7] for i in range(0, len(packed), 7)]
    got, _ = ask(Response(*pieces, content_encoding=name, content_length=str(len(packed))))
    assert (got.body, got.complete) == (plain, True)
    assert got.header("content-encoding") is None
    assert got.header("content-length") is None
    assert max(map(len, got.chunks)) <= 64 * 1024


@pytest.mark.parametrize(
    "body", [b"not gzip", gzip.compress(b"x" * 1000)[:-9]], ids=["no gzip", "cut short"]
)
def test_a_broken_compression_is_a_broken_answer(body: bytes) -> None:
    """Neither garbage nor half a body passes for a whole one."""
    got, _ = ask(Response(body, content_encoding="gzip"))
    assert isinstance(got.error, StreamBroken)


def test_a_coding_we_cannot_undo_is_a_clear_error() -> None:
    """The caller may not read it either."""
    got, _ = ask(Response(b"x", content_encoding="br"))
    assert got.status == 502


@pytest.mark.parametrize("body", [b"{}", [b"{}", b""], [b"a" * 70_000, b"b"]])
def test_a_client_that_leaves_cancels_the_call(body: bytes | list[bytes]) -> None:
    """Alone, without a router, it watches for that itself, however the body came."""

    async def story() -> None:
        wire = Wire(None)
        provider = HTTPProvider("p", wire, base_url="http://a")
        leave = asyncio.Event()
        asyncio.get_running_loop().call_later(0.02, leave.set)
        await drive(provider, http_scope(CHAT), body, leave=leave)
        assert wire.cancelled == 1
        assert not await no_other_tasks()

    asyncio.run(story())


@pytest.mark.parametrize("base_url", ["ftp://a", "a.example/v1", "", "/v1", "http://"])
def test_an_address_that_is_none_fails_at_start(base_url: str) -> None:
    """A wrong base_url is a configuration error, not a failing request."""
    with pytest.raises(ValueError, match="base_url"):
        HTTPProvider("p", Wire(), base_url=base_url)


def test_a_query_cannot_break_the_request_line() -> None:
    """Bytes that may not stand in a URL are escaped; they are no failure of the provider."""
    _, wire = ask(Response(b"{}"), query="x=caf\u00e9 y#z&a=%20")
    assert wire.requests[0].url.endswith("?x=caf%C3%A9%20y%23z&a=%20")


def test_a_path_cannot_break_out_of_the_request_line() -> None:
    """A caller's path is escaped; it never adds a line or another request."""
    _, wire = ask(Response(b"{}"), "/v1/x y\r\nz\u00e9")
    assert wire.requests[0].url == "https://api.example/v1/x%20y%0D%0Az%C3%A9"
