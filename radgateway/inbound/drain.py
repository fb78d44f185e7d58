"""DrainGuard: stop taking work without dropping any.

`lifespan.shutdown` comes too late for this: servers send it when all connections are closed. So
draining has a trigger of its own, a signal or an admin call, which begins it on the policy object.
What is in flight gets a limited time; what takes longer is told so in the caller's dialect.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from radgateway.asgi import (
    ASGIApp,
    Message,
    Receive,
    Scope,
    Send,
    StreamBroken,
    header,
    is_event_stream,
)
from radgateway.errors import Refusal, answer, end_broken
from radgateway.exchange import Exchange, joined

Phase = Literal["leaving", "draining", "drained", "overdue"]
OnPhase = Callable[[Phase, int], object]
"""Told of each phase once, with the number of requests in flight."""

_CLOSE = (b"connection", b"close")
_FAREWELL_S = 5.0
"""Seconds a caller gets to take the last words before its connection is cut."""
_SLACK_S = 0.001
"""A timer may fire this much early: uvloop's clock counts in milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainLimits:
    """How long the parts of a drain take at most, in seconds from its beginning."""

    timeout_s: float = 30.0
    """For plain requests."""
    stream_timeout_s: float = 120.0
    """For streams: a generation runs for minutes and was begun in good faith."""
    delay_s: float = 0.0
    """Before work is refused, while readiness says no already: for balancers that poll."""

    def __post_init__(self) -> None:
        for name in ("timeout_s", "stream_timeout_s", "delay_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)!r}")


class Drain:
    """Knows the work in flight, says whether more may come, and ends what takes too long."""

    def __init__(self, limits: DrainLimits | None = None, on_phase: OnPhase | None = None) -> None:
        self.limits = limits or DrainLimits()
        self.leaving = False
        """Nobody should send work here any more; what comes all the same may still be served."""
        self.draining = False
        """New work is refused."""
        self._on_phase = on_phase
        self._work: dict[Exchange, tuple[asyncio.Task[Any], Scope]] = {}
        self._overdue: set[Exchange] = set()
        self._news = asyncio.Event()
        self._hurried = False
        self._finishing: asyncio.Task[bool] | None = None

    @property
    def in_flight(self) -> int:
        """How many requests are being served."""
        return len(self._work)

    @property
    def streams(self) -> int:
        """How many of them are streams, which may take minutes."""
        return sum(exchange.stream for exchange in self._work)

    def present(self) -> frozenset[Exchange]:
        """The requests that are being served."""
        return frozenset(self._work)

    def serves_any(self, exchanges: frozenset[Exchange]) -> bool:
        """Whether any of some requests is still being served."""
        return not exchanges.isdisjoint(self._work)

    def begin(self) -> None:
        """Refuse new work from now on. Calling it again changes nothing."""
        self._leave()
        if not self.draining:
            self.draining = True
            self._tell("draining")

    def hurry(self) -> None:
        """Give what is in flight no more time."""
        self._hurried = True
        self._news.set()

    def start(self) -> asyncio.Task[bool]:
        """Begin to drain on the running loop, once; the task is what `finish` waits for."""
        if self._finishing is None:
            self._finishing = asyncio.get_running_loop().create_task(self._finish())
        return self._finishing

    async def finish(self) -> bool:
        """Begin, let what is in flight finish, and end what is over its time.

        True where all of it finished by itself. Several callers share one drain, and it goes on
        where one of them is cancelled.
        """
        return await asyncio.shield(self.start())

    def enter(self, exchange: Exchange, task: asyncio.Task[Any], scope: Scope) -> bool:
        """Count a request in, served by `task`; False where it must be refused."""
        if self.leaving:
            _close_after(exchange, scope)
            if self.draining:
                return False
        self._work[exchange] = (task, scope)
        return True

    def leave(self, exchange: Exchange) -> None:
        """Count a request out."""
        del self._work[exchange]
        if self.draining and not self._work:
            self._news.set()

    def ended(self, exchange: Exchange) -> bool:
        """Whether it was the drain that cancelled a request."""
        return exchange in self._overdue

    def _leave(self) -> None:
        if self.leaving:
            return
        self.leaving = True
        for exchange, (_, scope) in self._work.items():
            _close_after(exchange, scope)
        self._tell("leaving")

    async def _finish(self) -> bool:
        loop = asyncio.get_running_loop()
        limits = self.limits
        if not self.draining and limits.delay_s > 0:
            self._leave()
            if not self._hurried:
                await self._news_until(loop.time() + limits.delay_s)
        self.begin()
        began = loop.time()
        plain_at, streams_at = began + limits.timeout_s, began + limits.stream_timeout_s
        gone_at = began
        while self._work:
            now = loop.time()
            if self._hurried:
                plain_at = streams_at = now
            wake_at = gone_at
            for exchange in self._work.keys() - self._overdue:
                at = streams_at if exchange.stream else plain_at
                if now + _SLACK_S >= at:
                    self._end(exchange)
                    gone_at = at = now + _FAREWELL_S + 1.0
                wake_at = at if wake_at <= now else min(wake_at, at)
            if wake_at <= now:
                break  # what was ended and did not go: the server cuts it
            await self._news_until(wake_at)
        self._tell("overdue" if self._overdue else "drained")
        return not self._overdue

    async def _news_until(self, at: float) -> None:
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(at):
                await self._news.wait()

    def _end(self, exchange: Exchange) -> None:
        """Cancel a request. Its record says why at once, for those who read it on the way out."""
        self._overdue.add(exchange)
        if exchange.status is None:
            exchange.error_code = "draining"
        else:
            exchange.interrupted = "draining"
        self._work[exchange][0].cancel()

    def _tell(self, phase: Phase) -> None:
        if self._on_phase is not None:
            self._on_phase(phase, len(self._work))


class DrainGuard:
    """Answers 503 `draining` once work is refused, and ends a request that the drain cancels.

    Inside a gateway `Gateway` passes the drain on; alone, whoever hears of the signal does.
    """

    def __init__(self, app: ASGIApp, drain: Drain, *, retry_after_s: float = 5.0) -> None:
        self.app = app
        self.drain = drain
        self._retry_after_s = retry_after_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope, send, exchange = joined(scope, send)
        drain = self.drain
        task = asyncio.current_task()
        assert task is not None
        if not drain.enter(exchange, task, scope):
            await answer(scope, send, self._refusal("another one will answer"))
            return
        cancelling = task.cancelling()
        try:
            await self.app(scope, receive, send)
            if drain.draining and drain.ended(exchange):
                task.uncancel()  # the app swallowed it
                await self._end(scope, send, exchange)
        except BaseException as error:
            if not drain.ended(exchange):
                raise
            # As asyncio.timeout does: only the drain's own cancellation ends here.
            if task.uncancel() > cancelling or not isinstance(error, asyncio.CancelledError):
                raise
            await self._end(scope, send, exchange)
        finally:
            drain.leave(exchange)

    async def _end(self, scope: Scope, send: Send, exchange: Exchange) -> None:
        if exchange.ended is not None:
            return
        refusal = self._refusal("this took longer than it may; ask again")
        try:
            async with asyncio.timeout(_FAREWELL_S):
                if exchange.status is None:
                    await answer(scope, send, refusal)
                else:
                    events = is_event_stream(exchange.response_headers)
                    await end_broken(scope, send, refusal, events=events)
        except TimeoutError:
            raise StreamBroken(refusal.code) from None

    def _refusal(self, advice: str) -> Refusal:
        return Refusal(
            "draining",
            f"This instance is shutting down; {advice}.",
            retry_after_s=self._retry_after_s,
        )


def closing(scope: Scope, send: Send) -> Send:
    """A send that has the client open another connection for its next request."""
    if not _persistent(scope):
        return send

    async def send_closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            if header(headers, b"connection") is None:
                message = {**message, "headers": [*headers, _CLOSE]}
        await send(message)

    return send_closing


def _close_after(exchange: Exchange, scope: Scope) -> None:
    if exchange.status is None and _persistent(scope):
        exchange.own_headers.append(_CLOSE)


def _persistent(scope: Scope) -> bool:
    # HTTP/2 and later have no such header (RFC 9113 §8.2.2).
    version: str = scope.get("http_version", "1.1")
    return version.startswith("1")
