"""StreamKeepalive: a sign of life while a provider thinks, so that nobody takes silence for death.

Balancers and proxies cut a connection on which nothing moves (AWS's after 60 s, nginx's too), and
a reasoning model may write nothing for minutes. A comment line keeps such a stream open: servers
are told to send one every 15 s or so (WHATWG HTML §9.2.7). In the caller's dialect: Anthropic's
has an event for it, and Gemini's clients take none (googleapis/go-genai#903), so get none.

By default it speaks only in a stream that the router has released, so the commit point stays
where it is. `before_content` also covers the wait before it: then the status 200 is committed, but
not the content. Other providers can still be tried, and if all fail the stream ends with an error
event where there would have been a status.

Stands around the router, or around any app that streams events. Answers nothing of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from radgateway.asgi import ASGIApp, Headers, Message, Receive, Scope, Send, is_event_stream
from radgateway.errors import CATALOGUE, Refusal, dialect_of, end_broken
from radgateway.exchange import exchange_of
from radgateway.shared_timer import NEVER, SharedTimer

_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
]
_ERROR_MAX = 64 * 1024
"""Bytes of an error answer that are read for what it says."""
_EVENT_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")


class StreamKeepalive:
    """Sends a keepalive whenever an event stream has been silent for `interval_s` seconds.

    Never while a message is on its way, inside an event that is half sent, or after the end.
    """

    def __init__(
        self, app: ASGIApp, interval_s: float = 15.0, *, before_content: bool = False
    ) -> None:
        if not interval_s > 0:
            raise ValueError(f"interval_s must be over 0, not {interval_s}")
        self.app = app
        self.interval_s = interval_s
        self._before_content = before_content
        self._timer = SharedTimer()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        stream = _Stream(scope, send, self._timer, self.interval_s)
        if self._before_content:
            stream.watch()
        try:
            await self.app(scope, receive, stream.send)
        finally:
            if stream.watched:
                await stream.stop()


class _Stream:
    """One response. `_mark` is when its silence began, or never while something is being sent."""

    __slots__ = (
        "_beat",
        "_error",
        "_interval_s",
        "_mark",
        "_now",
        "_open_event",
        "_scope",
        "_send",
        "_started",
        "_status",
        "_timer",
        "watched",
    )

    def __init__(self, scope: Scope, send: Send, timer: SharedTimer, interval_s: float) -> None:
        self._scope = scope
        self._send = send
        self._timer = timer
        self._interval_s = interval_s
        self._mark = NEVER
        self._open_event = b""
        """The last bytes of an event that is half sent."""
        self._started = False
        """Whether a response has begun, by the app or here."""
        self._status: int | None = None
        """The status of an answer that comes too late to have one."""
        self._error = b""
        self._beat: asyncio.Task[None] | None = None
        self.watched = False

    def watch(self) -> None:
        """From now on silence counts."""
        self._now = asyncio.get_running_loop().time
        self._mark = self._now()
        self.watched = True
        self._timer.add(self, self._mark + self._interval_s)

    async def stop(self) -> None:
        """The request is over: nothing more is sent, and nothing is on its way any longer."""
        self._timer.remove(self)
        beat, self._beat = self._beat, None
        if beat is None:
            return
        if not beat.done():
            beat.cancel()
            await asyncio.wait([beat])
        if not beat.cancelled():
            beat.exception()  # whoever was to be told has gone

    async def send(self, message: Message) -> None:
        """The app's messages, on to the caller."""
        if not self.watched:
            await self._send(message)
            if message["type"] == "http.response.start":
                self._started = True
                if is_event_stream(message.get("headers", ())):
                    self.watch()
            return
        if self._beat is not None:
            await self._after_beat(self._beat)
        if message["type"] != "http.response.body" or self._status is not None:
            await self._send_rest(message)
            return
        body: bytes = message.get("body", b"")
        if body[-2:] == b"\n\n":
            self._open_event = b""
        elif body:
            tail = self._open_event + body[-4:]
            self._open_event = b"" if tail.endswith(_EVENT_ENDS) else tail[-4:]
        if not message.get("more_body", False):
            self._timer.remove(self)
        self._mark = NEVER
        await self._send(message)
        self._mark = self._now()

    async def _send_rest(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            await self._start(message)
        elif kind == "http.response.body":
            await self._keep_error(message)
        else:
            await self._send(message)

    async def _start(self, message: Message) -> None:
        events = is_event_stream(message.get("headers", ()))
        if self._started:
            # The caller has a 200 already. What is not the stream it promised becomes its error.
            if not events or message["status"] >= 300:
                self._status = message["status"]
            return
        self._started = True
        self._mark = NEVER
        await self._send(message)
        self._mark = self._now()
        if not events:
            self._timer.remove(self)

    async def _keep_error(self, message: Message) -> None:
        body: bytes = message.get("body", b"")
        if len(self._error) < _ERROR_MAX:
            self._error += body[:_ERROR_MAX]
        if not message.get("more_body", False):
            self._timer.remove(self)
            refusal = Refusal(self._code(), _message_of(self._error, self._status))
            await end_broken(self._scope, self._send, refusal, events=True)

    def _code(self) -> str:
        if self._status is not None and self._status < 300:
            return "upstream_bad_response"
        exchange = exchange_of(self._scope)
        code = exchange.error_code if exchange is not None else None
        if code is None and exchange is not None and exchange.final is not None:
            code = exchange.final.failure
        return code if code in CATALOGUE else "upstream_error"

    def due(self, now: float) -> float:
        """When a keepalive is due, if the silence goes on."""
        # What begins to be silent now or later will not be due before this.
        since = now if self._mark == NEVER or self._open_event else self._mark
        return since + self._interval_s

    def ring(self, now: float) -> None:
        """It has been silent for long enough."""
        exchange = exchange_of(self._scope)
        keepalive = dialect_of(self._scope).keepalive
        if not keepalive or (exchange is not None and exchange.delivered):
            self._timer.remove(self)
        elif self._started or (exchange is not None and exchange.stream):
            self._mark = NEVER
            self._beat = asyncio.get_running_loop().create_task(self._say(keepalive))
        elif exchange is not None and exchange.ask is not None:
            self._timer.remove(self)  # it does not stream
        else:
            self._mark = now  # nobody has read the request yet

    async def _say(self, keepalive: bytes) -> None:
        try:
            if not self._started:
                self._started = True
                exchange = exchange_of(self._scope)
                if exchange is not None:
                    exchange.deadline = None  # what the client waits for is there
                start = {"type": "http.response.start", "status": 200, "headers": list(_HEADERS)}
                await self._send(start)
            await self._send({"type": "http.response.body", "body": keepalive, "more_body": True})
        except BaseException:
            self._timer.remove(self)
            raise
        self._mark = self._now()

    async def _after_beat(self, beat: asyncio.Task[None]) -> None:
        if not beat.done():
            await asyncio.wait([beat])
        self._beat = None
        beat.result()


def _message_of(body: bytes, status: int | None) -> str:
    """What an error answer says, in any of the dialects; else its status."""
    try:
        payload: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        payload = None
    error = payload.get("error") if isinstance(payload, dict) else None
    text = error.get("message") if isinstance(error, dict) else None
    return text if isinstance(text, str) else f"The request failed with status {status}."
