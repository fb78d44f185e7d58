"""HTTPProvider: a provider's HTTP API as an ASGI app.

One class serves every kind, since a kind is data: how the key is sent, and what is added. It
translates nothing and retries nothing; what goes wrong below HTTP is answered in the caller's
dialect, or, once the response has begun, ended as broken. Closing is the caller's side: a
cancelled request closes its upstream connection at once.
"""

from __future__ import annotations

import copy
import re
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from radgateway.asgi import (
    Clock,
    Headers,
    Receive,
    Scope,
    Send,
    decline,
    header,
    is_event_stream,
    split_keys,
)
from radgateway.body import ClientDisconnected
from radgateway.disconnect import DisconnectWatch
from radgateway.errors import Refusal, answer, end_broken
from radgateway.exchange import Attempt, attempt_of, exchange_of, joined
from radgateway.provider.content_encoding import SUPPORTED, Inflater
from radgateway.shared_timer import SharedTimer
from radgateway.upstream.interface import (
    Timeouts,
    Upstream,
    UpstreamError,
    UpstreamRequest,
    UpstreamResponse,
)

KindName = Literal["openai", "anthropic", "gemini"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What differs between the vendors' APIs below the dialect."""

    key_header: bytes
    key_prefix: bytes = b""
    default_headers: tuple[tuple[bytes, bytes], ...] = ()
    """Sent where the caller's request has none of that name."""


KINDS: Mapping[str, Kind] = {
    "openai": Kind(b"authorization", b"Bearer "),
    "anthropic": Kind(b"x-api-key", b"", ((b"anthropic-version", b"2023-06-01"),)),
    "gemini": Kind(b"x-goog-api-key"),
}

_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)
"""RFC 9110 §7.6.1."""

_NOT_FORWARDED = _HOP_BY_HOP | frozenset(
    # what is the caller's and not the provider's to know, and what we write ourselves
    b"host content-length expect authorization x-api-key x-goog-api-key api-key cookie "
    b"openai-organization openai-project accept-encoding forwarded x-forwarded-for "
    b"x-forwarded-proto x-forwarded-host x-real-ip x-session-id x-request-id x-trace-id "
    b"traceparent tracestate".split()
)
_NOT_RETURNED = _HOP_BY_HOP | frozenset(
    # a provider's cookies are for us, and our server writes its own name and date
    b"set-cookie alt-svc server date x-request-id x-trace-id".split()
)

_TEXTS = {
    "upstream_unreachable": "The provider {0} could not be reached.",
    "connect_timeout": "The provider {0} did not accept a connection in time.",
    "upstream_pool_timeout": "All connections to the provider {0} are in use.",
    "upstream_connection_lost": "The connection to the provider {0} broke off.",
    "upstream_bad_response": "The provider {0} sent what is not a valid HTTP response.",
    "first_byte_timeout": "The provider {0} did not answer in time.",
    "idle_timeout": "The provider {0} stopped sending before its answer was complete.",
    "total_timeout": "The provider {0} took longer than allowed for the whole answer.",
}


_UNREACHABLE = frozenset({"upstream_unreachable", "connect_timeout"})


class HTTPProvider:
    """Sends a request on to one provider and its answer back, bytes as they come.

    `base_url` may end in the API's version (`.../v1`) or not. `api_key` is a function, so that a
    rotated key is used from the next request on; None sends no key. `headers` are added to every
    request and win over the caller's. `timeouts` are the transport's clocks; in a gateway the
    `Deadline` layer keeps the others, and only `connect_s` and `pool_s` are set here.
    `on_unreachable` gets the reason each time that no connection could be made.
    """

    def __init__(
        self,
        name: str,
        upstream: Upstream,
        *,
        base_url: str,
        kind: KindName = "openai",
        api_key: Callable[[], str] | None = None,
        headers: Headers | None = None,
        timeouts: Timeouts | None = None,
        clock: Clock = time.monotonic,
        on_unreachable: Callable[[str], None] | None = None,
    ) -> None:
        if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).hostname:
            raise ValueError(f"base_url must be an absolute http or https URL, not {base_url!r}")
        self.name = name
        self._upstream = upstream
        self._base_url = base_url.rstrip("/")
        self._version = self._base_url.rpartition("/")[2]
        self._kind = KINDS[kind]
        self._api_key = api_key
        self._headers = [(key.lower(), value) for key, value in headers or []]
        self._dropped = _NOT_FORWARDED | {key for key, _ in self._headers}
        self._timeouts = timeouts or Timeouts()
        self._clock = clock
        self._timer = SharedTimer()
        self._on_unreachable = on_unreachable

    def at_origin(self) -> HTTPProvider:
        """The same provider, credentials included, at the root of its host."""
        parts = urlsplit(self._base_url)
        other = copy.copy(self)
        other._base_url, other._version = f"{parts.scheme}://{parts.netloc}", ""
        return other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await decline(scope, receive, send)
            return
        attempt = attempt_of(scope)
        if attempt is not None:
            # Below a router, which owns the real `receive` and cancels this when the client leaves.
            await self._exchange(scope, await _body(receive), send, attempt)
            return
        scope, send, exchange = joined(scope, send)
        attempt = Attempt(self.name, exchange.model or "", exchange.clock())
        try:
            body = await _body(receive)
            whole = isinstance(body, bytes)
            with DisconnectWatch(receive, exchange, self._timer if whole else None) as watch:
                if not isinstance(body, bytes):
                    body = _followed(body, watch.begin)
                await self._exchange(scope, body, send, attempt)
        except ClientDisconnected:
            exchange.disconnected = True

    async def _exchange(
        self, scope: Scope, body: bytes | AsyncIterator[bytes], send: Send, attempt: Attempt
    ) -> None:
        request = UpstreamRequest(
            scope["method"], self._url(scope), self._request_headers(scope, attempt), body
        )
        clock = self._clock
        began = clock()
        attempt.sent = False  # it may take a while to find a connection
        try:
            response = await self._upstream.send(request, self._timeouts)
            attempt.sent = True
        except UpstreamError as error:
            attempt.sent = error.sent
            if self._on_unreachable is not None and error.code in _UNREACHABLE:
                self._on_unreachable(str(error))
            await answer(scope, send, self._refusal(error.code, retry=not error.sent))
            return
        except BaseException:
            attempt.sent = request.sent  # cancelled, mostly
            raise
        finally:
            attempt.waited_s += clock() - began
        attempt.connect_s = response.connect_s
        try:
            await self._relay(scope, response, send, attempt)
        finally:
            await response.aclose()

    async def _relay(
        self, scope: Scope, response: UpstreamResponse, send: Send, attempt: Attempt
    ) -> None:
        inflater, refusal = self._decoder(response)
        if refusal is not None:
            await answer(scope, send, refusal)
            return
        headers = _response_headers(response.headers, decoded=inflater is not None)
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        clock = self._clock
        try:
            while True:
                began = clock()
                try:
                    chunk = await response.read()
                finally:
                    waited_s = clock() - began
                    attempt.waited_s += waited_s
                    attempt.longest_gap_s = max(attempt.longest_gap_s, waited_s)
                ended = response.ended
                if inflater is not None:
                    await _send_inflated(inflater, chunk, send, last=ended)
                else:
                    await send(
                        {"type": "http.response.body", "body": chunk, "more_body": not ended}
                    )
                if ended:
                    return
        except UpstreamError as error:
            code = error.code
        except zlib.error:
            code = "upstream_bad_response"
        await end_broken(scope, send, self._refusal(code), events=is_event_stream(headers))

    def _decoder(self, response: UpstreamResponse) -> tuple[Inflater | None, Refusal | None]:
        coding = (header(response.headers, b"content-encoding") or b"").strip().lower()
        if coding in (b"", b"identity"):
            return None, None
        if coding in SUPPORTED:
            return Inflater(), None
        return None, Refusal(
            "upstream_bad_response",
            f"The provider {self.name} encoded its answer in a way it was not asked for.",
        )

    def _refusal(self, code: str, *, retry: bool = False) -> Refusal:
        text = _TEXTS.get(code, "The provider {0} failed.").format(self.name)
        return Refusal(code, text, retry_after_s=1.0 if retry else None)

    def _url(self, scope: Scope) -> str:
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        if root and path.startswith(root + "/"):
            path = path[len(root) :]
        version = path.split("/", 2)[1]
        if version == self._version:
            path = path[len(version) + 1 :]
        query: bytes = scope.get("query_string", b"")
        if query:
            query, _ = split_keys(query)  # a caller's key, in Gemini's form
            query = _UNSAFE_IN_QUERY.sub(_percent, query)
        url = self._base_url + _escaped(path)
        return f"{url}?{query.decode('latin-1')}" if query else url

    def _request_headers(self, scope: Scope, attempt: Attempt) -> Headers:
        dropped = self._dropped
        headers = [pair for pair in scope["headers"] if pair[0] not in dropped]
        headers += self._headers
        headers.append((b"accept-encoding", b"identity"))
        names = None
        for name, value in self._kind.default_headers:
            names = names or {key for key, _ in headers}
            if name not in names:
                headers.append((name, value))
        if self._api_key is not None:
            key = self._kind.key_prefix + self._api_key().encode("latin-1")
            headers.append((self._kind.key_header, key))
        exchange = exchange_of(scope)
        if exchange is not None and exchange.request_id:
            headers.append((b"x-request-id", exchange.request_id.encode("ascii")))
            if exchange.trace_id and attempt.span_id:
                flags = "01" if exchange.sampled else "00"
                parent = f"00-{exchange.trace_id}-{attempt.span_id}-{flags}"
                headers.append((b"traceparent", parent.encode("ascii")))
                if exchange.tracestate:
                    headers.append((b"tracestate", exchange.tracestate.encode("ascii")))
        return headers


_SMALL_BODY = 64 * 1024
_UNSAFE_IN_QUERY = re.compile(rb"[^!-~]|#")
_UNSAFE = re.compile(r"[^A-Za-z0-9\-._~!$&'()*+,;=:@/%]")


def _percent(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]


def _escaped(path: str) -> str:
    """The path with what may not stand in a request line percent-encoded (RFC 3986 §3.3)."""
    if _UNSAFE.search(path) is None:
        return path
    return _UNSAFE.sub(lambda m: "".join(f"%{byte:02X}" for byte in m[0].encode()), path)


def _response_headers(headers: Headers, *, decoded: bool) -> Headers:
    kept = [
        pair
        for pair in headers
        if pair[0] not in _NOT_RETURNED and not pair[0].startswith(b"x-radgateway-")
    ]
    if decoded:
        kept = [pair for pair in kept if pair[0] not in (b"content-encoding", b"content-length")]
    return kept


async def _send_inflated(inflater: Inflater, chunk: bytes, send: Send, *, last: bool) -> None:
    for piece in inflater.feed(chunk):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    if last:
        if not inflater.complete:
            raise zlib.error("the compressed body is cut short")
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _body(receive: Receive) -> bytes | AsyncIterator[bytes]:
    """A small body as bytes, a larger one as it arrives. Raises `ClientDisconnected`.

    Some servers end every body with an empty message, so a few messages are read before it is
    taken for a large one.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnected
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if not message.get("more_body", False):
            return b"".join(parts)
        if size > _SMALL_BODY:
            return _rest(b"".join(parts), receive)


async def _rest(first: bytes, receive: Receive) -> AsyncIterator[bytes]:
    yield first
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnected
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body", False):
            return


async def _followed(body: AsyncIterator[bytes], then: Callable[[], None]) -> AsyncIterator[bytes]:
    async for part in body:
        yield part
    then()
