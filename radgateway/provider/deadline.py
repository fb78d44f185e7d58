"""Deadline: no wait without an end, and no stream cut for being long.

Three clocks of their own instead of one, since a generation may rightly take minutes while a
silence of one may not: to the first byte, between two chunks, and in all. The fourth,
`connect_s`, is kept by the upstream client, the only one to know when a connection stands. Where
the client said how long it will wait, that is a bound too: nobody is worked for who has gone.

Stands around one provider, or around any app. Answers 504 `first_byte_timeout`, `total_timeout`
or `deadline_exceeded`; a response that had begun ends with `idle_timeout` or `total_timeout`.
"""

from __future__ import annotations

import asyncio

from radgateway.asgi import ASGIApp, Message, Receive, Scope, Send, StreamBroken, is_event_stream
from radgateway.errors import Refusal, answer, end_broken
from radgateway.exchange import ATTEMPT_KEY, KEY, Exchange
from radgateway.shared_timer import NEVER, SharedTimer
from radgateway.upstream.interface import Timeouts

_FAREWELL_S = 5.0
"""Seconds a caller gets to take the last words of a stream before it is cut."""


class Deadline:
    """Ends a request that is later than `timeouts` allows. A None there turns its clock off.

    `first_byte_s` runs from the request's last byte to the response's start, for an event stream
    to its first event; `answer_s` stands in for it where the request is known not to stream, as
    then the first byte comes with the last token. `idle_s` runs from one chunk to the next. None
    of them counts the time in which the caller is slow to read or to send; `total_s` counts
    everything. A client's own deadline, where the record has one, ends the wait for the start.
    """

    def __init__(self, app: ASGIApp, timeouts: Timeouts) -> None:
        for name in ("first_byte_s", "answer_s", "idle_s", "total_s"):
            value = getattr(timeouts, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be over 0 or None, not {value}")
        self.app = app
        self.timeouts = timeouts
        first_byte_s = _or_never(timeouts.first_byte_s)
        self._first_byte_s = first_byte_s
        self._answer_s = timeouts.answer_s if timeouts.answer_s is not None else first_byte_s
        self._idle_s = _or_never(timeouts.idle_s)
        self._total_s = _or_never(timeouts.total_s)
        self._timer = SharedTimer()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request within its time."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        watch = self._watch(scope, send)
        if watch.late:
            await answer(scope, send, _refusal("deadline_exceeded", watch))
            return
        if not watch.uploaded:
            receive = watch.receiving(receive)
        task = watch.task
        cancelling = task.cancelling()
        watch.begin()
        try:
            await self.app(scope, receive, watch.send)
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
            watch.end()
        if not watch.complete:
            await self._cut(scope, send, watch, watch.ran_out)

    def _watch(self, scope: Scope, send: Send) -> _Watch:
        watch = _Watch(self._timer, self._first_byte_s, self._idle_s, self._total_s, send)
        state = scope.get("state")
        if state is None:
            return watch
        # Below a router the whole body is there; anywhere else it may still be coming.
        watch.uploaded = ATTEMPT_KEY in state
        exchange = state.get(KEY)
        if exchange is not None:
            if exchange.ask is not None and not exchange.stream:
                watch.limit_s = self._answer_s
            if exchange.deadline is not None:
                watch.bound(exchange)
        return watch

    async def _cut(self, scope: Scope, send: Send, watch: _Watch, code: str) -> None:
        refusal = _refusal(code, watch)
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
    """The clocks of one request.

    `_mark` is when the silence began that is being timed, or never while it is the caller who
    keeps us waiting. A chunk costs two assignments and a look at the clock.
    """

    __slots__ = (
        "_began",
        "_client_at",
        "_exchange",
        "_flowing",
        "_idle_s",
        "_mark",
        "_now",
        "_send",
        "_timer",
        "_total_at",
        "_total_s",
        "complete",
        "events",
        "limit_s",
        "ran_out",
        "started",
        "task",
        "uploaded",
    )

    def __init__(
        self, timer: SharedTimer, first_byte_s: float, idle_s: float, total_s: float, send: Send
    ) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)  # which costs half where it need not find the loop
        assert task is not None
        self.task = task
        self._now = loop.time
        self._began = self._mark = now = self._now()
        self._total_s = total_s
        self._total_at = now + total_s
        self._client_at = NEVER
        self._idle_s = idle_s
        self.limit_s = first_byte_s
        """How long a silence may be now."""
        self.started = self.events = self.complete = self.uploaded = self._flowing = False
        self.ran_out: str | None = None
        """The code of the clock that ended the request."""
        self._timer = timer
        self._send = send

    def bound(self, exchange: Exchange) -> None:
        """The client waits no longer than its deadline for the start; that may be over."""
        assert exchange.deadline is not None
        self._exchange = exchange
        self._client_at = self._began + exchange.deadline - exchange.clock()

    @property
    def late(self) -> bool:
        """Whether the client has given up before anything was done."""
        return self._client_at <= self._began

    def begin(self) -> None:
        """Start the clocks."""
        self._timer.add(self, min(self._began + self.limit_s, self._total_at, self._client_at))

    def end(self) -> None:
        """Stop the clocks."""
        self._timer.remove(self)

    @property
    def sending(self) -> bool:
        """Whether the last message was still on its way to the caller."""
        return self.started and self._mark == NEVER

    def receiving(self, receive: Receive) -> Receive:
        """The caller's messages; time it takes to send its body is not ours."""

        async def receive_untimed() -> Message:
            if self.uploaded or self.started:
                late: Message = await receive()
                return late
            self._mark = NEVER
            try:
                message: Message = await receive()
            finally:
                if not self.started:
                    self._began = self._mark = self._now()
            self.uploaded = not message.get("more_body", False)
            return message

        return receive_untimed

    async def send(self, message: Message) -> None:
        """The app's messages, on to the caller."""
        kind = message["type"]
        if kind == "http.response.body":
            self._mark = NEVER
            await self._send(message)
            self._mark = self._now()
            if not message.get("more_body", False):
                self.complete = True
                self._timer.remove(self)
            elif not self._flowing and message.get("body"):
                self._flow()
        elif kind == "http.response.start":
            self.started = True
            self.events = is_event_stream(message.get("headers", ()))
            self._mark = NEVER
            await self._send(message)
            if self.events:
                self._mark = self._began
            else:
                self._mark = self._now()
                self._flow()
        else:
            await self._send(message)

    def _flow(self) -> None:
        """The first byte is out: from here on it is the silences that are timed."""
        self._flowing = True
        self._client_at = NEVER
        self.limit_s = self._idle_s
        self._timer.sooner(self._mark + self._idle_s)

    def due(self, now: float) -> float:
        """When the first of the clocks runs out, if nothing moves meanwhile."""
        # A silence that begins now or later can't last too long before this.
        since = self._mark if self._mark != NEVER else now
        return min(since + self.limit_s, self._total_at, self._client_at)

    def ring(self, now: float) -> None:
        """A clock ran out: end the request."""
        if now >= self._total_at:
            self.ran_out = "total_timeout"
        elif now >= self._client_at:
            if self._exchange.deadline is None:
                self._client_at = NEVER  # it has been given a sign of life meanwhile
                return
            self.ran_out = "deadline_exceeded"
        else:
            self.ran_out = "idle_timeout" if self._flowing else "first_byte_timeout"
        self._timer.remove(self)
        self.task.cancel()

    def message(self, code: str) -> str:
        """What the caller is told of the clock that ran out."""
        if code == "deadline_exceeded":
            return "No answer began within the time that the client allows."
        if code == "first_byte_timeout":
            return f"No answer began within {self.limit_s:g} s."
        if code == "idle_timeout":
            return f"The answer stalled for {self.limit_s:g} s."
        return f"The answer took longer than {self._total_s:g} s."


def _refusal(code: str, watch: _Watch) -> Refusal:
    return Refusal(code, watch.message(code))


def _or_never(seconds: float | None) -> float:
    return seconds if seconds is not None else NEVER
