"""Deadline: no wait without an end, and no stream cut for being long.

Three clocks of their own instead of one, since a generation may rightly take minutes while a
silence of one may not: to the first byte, between two chunks, and in all. The fourth,
`connect_s`, is kept by the upstream client, the only one to know when a connection stands.

Stands around one provider, or around any app. Answers 504 `first_byte_timeout` or
`total_timeout`; a response that had begun ends with `idle_timeout` or `total_timeout`.
"""

from __future__ import annotations

import asyncio
import math

from radgateway.asgi import ASGIApp, Message, Receive, Scope, Send, StreamBroken, is_event_stream
from radgateway.errors import Refusal, answer, end_broken
from radgateway.upstream.interface import Timeouts

_NEVER = math.inf
_SLACK_S = 0.001
"""A timer may fire this much early: uvloop's clock counts in milliseconds."""
_FAREWELL_S = 5.0
"""Seconds a caller gets to take the last words of a stream before it is cut."""


class Deadline:
    """Ends a request that is later than `timeouts` allows. A None there turns its clock off.

    `first_byte_s` runs from the request's last byte to the response's start, for an event stream
    to its first event; `idle_s` from one chunk to the next. Neither counts the time in which the
    caller is slow to read or to send; `total_s` counts everything.
    """

    def __init__(self, app: ASGIApp, timeouts: Timeouts) -> None:
        for name in ("first_byte_s", "idle_s", "total_s"):
            value = getattr(timeouts, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be over 0 or None, not {value}")
        self.app = app
        self.timeouts = timeouts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request within its time."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        watch = _Watch(self.timeouts, receive, send)
        task = watch.task
        cancelling = task.cancelling()
        watch.arm()
        try:
            await self.app(scope, watch.receive, watch.send)
        except asyncio.CancelledError:
            # As asyncio.timeout does: only our own cancellation ends here.
            if watch.ran_out is None or task.uncancel() > cancelling:
                raise
        except BaseException:
            if watch.ran_out is not None:
                task.uncancel()
            raise
        else:
            if watch.ran_out is None:
                return
            # The app swallowed the cancellation.
            task.uncancel()
        finally:
            watch.disarm()
        if not watch.complete:
            await self._end(scope, send, watch)

    async def _end(self, scope: Scope, send: Send, watch: _Watch) -> None:
        code = watch.ran_out or "total_timeout"
        refusal = Refusal(code, _message(code, self.timeouts))
        if not watch.started:
            await answer(scope, send, refusal)
            return
        # A caller that does not read gets no last words: what it has of the message under way
        # is not known.
        events = watch.events and not watch.sending
        try:
            async with asyncio.timeout(_FAREWELL_S):
                await end_broken(scope, send, refusal, events=events)
        except TimeoutError:
            raise StreamBroken(code) from None


class _Watch:
    """The clocks of one request: one timer, re-armed only when it fires too early.

    `_mark` is when the silence began that is being timed, or never while it is the caller who
    keeps us waiting. A chunk costs two assignments and a look at the clock.
    """

    __slots__ = (
        "_began",
        "_first_byte_s",
        "_flowing",
        "_handle",
        "_idle_s",
        "_limit_s",
        "_loop",
        "_mark",
        "_now",
        "_receive",
        "_send",
        "_total_at",
        "_uploaded",
        "complete",
        "events",
        "ran_out",
        "started",
        "task",
    )

    def __init__(self, timeouts: Timeouts, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.started = self.events = self.complete = False
        self.ran_out: str | None = None
        """The code of the clock that ended the request."""
        self._loop = loop
        self._now = loop.time
        self._began = self._mark = now = loop.time()
        self._idle_s = timeouts.idle_s if timeouts.idle_s is not None else _NEVER
        first_byte_s = timeouts.first_byte_s
        self._first_byte_s = self._limit_s = first_byte_s if first_byte_s is not None else _NEVER
        self._total_at = now + timeouts.total_s if timeouts.total_s is not None else _NEVER
        self._flowing = self._uploaded = False
        self._handle: asyncio.TimerHandle | None = None
        self._receive = receive
        self._send = send

    @property
    def sending(self) -> bool:
        """Whether the last message was still on its way to the caller."""
        return self.started and self._mark == _NEVER

    async def receive(self) -> Message:
        """The caller's messages; time it takes to send its body is not ours."""
        if self._uploaded:
            message: Message = await self._receive()
            return message
        self._mark = _NEVER
        try:
            message = await self._receive()
        finally:
            if not self.started:
                self._began = self._mark = self._now()
        self._uploaded = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """The app's messages, on to the caller."""
        kind = message["type"]
        if kind == "http.response.body":
            self._mark = _NEVER
            await self._send(message)
            self._mark = self._now()
            if not message.get("more_body", False):
                self.complete = True
                self.disarm()
            elif not self._flowing and message.get("body"):
                self._flow()
        elif kind == "http.response.start":
            self.started = True
            self._uploaded = True
            self.events = is_event_stream(message.get("headers", ()))
            self._mark = _NEVER
            await self._send(message)
            if self.events:
                self._mark = self._began
            else:
                self._mark = self._now()
                self._flow()
        else:
            await self._send(message)

    def arm(self) -> None:
        """Set the timer for what is due first, unless it will fire before that anyway."""
        due = min(self._mark + self._limit_s, self._total_at)
        handle = self._handle
        if due == _NEVER or (handle is not None and handle.when() <= due):
            return
        if handle is not None:
            handle.cancel()
        self._handle = self._loop.call_at(due, self._fire)

    def disarm(self) -> None:
        """Put the timer away."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _flow(self) -> None:
        """The first byte is out: from here on it is the silences that are timed."""
        self._flowing = True
        self._limit_s = self._idle_s
        self.arm()

    def _fire(self) -> None:
        self._handle = None
        now = self._now() + _SLACK_S
        if now >= self._total_at:
            self.ran_out = "total_timeout"
        elif now >= self._mark + self._limit_s:
            self.ran_out = "idle_timeout" if self._flowing else "first_byte_timeout"
        elif self._mark == _NEVER and self._limit_s != _NEVER:
            # A silence that begins now or later can't last too long before this.
            again_at = min(now + self._limit_s, self._total_at)
            self._handle = self._loop.call_at(again_at, self._fire)
            return
        else:
            self.arm()
            return
        self.task.cancel()


def _message(code: str, timeouts: Timeouts) -> str:
    if code == "first_byte_timeout":
        return f"No answer began within {timeouts.first_byte_s:g} s."
    if code == "idle_timeout":
        return f"The answer stalled for {timeouts.idle_s:g} s."
    return f"The answer took longer than {timeouts.total_s:g} s."
