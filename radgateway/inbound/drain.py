"""DrainGuard: stop taking work without dropping any.

`lifespan.shutdown` comes too late for this: servers send it when all connections are closed. So
draining has a trigger of its own, a signal or an admin call, which begins it on the policy object.
"""

from __future__ import annotations

import asyncio

from radgateway.asgi import ASGIApp, Receive, Scope, Send
from radgateway.errors import Refusal, answer
from radgateway.exchange import Exchange, joined


class Drain:
    """Knows the work in flight and says whether more may come."""

    def __init__(self) -> None:
        self.draining = False
        self._work: set[Exchange] = set()
        self._left = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """How many requests are being served."""
        return len(self._work)

    @property
    def streams(self) -> int:
        """How many of them are streams, which may take minutes."""
        return sum(exchange.stream for exchange in self._work)

    def begin(self) -> None:
        """Refuse new work from now on. Calling it again changes nothing."""
        self.draining = True

    def enter(self, exchange: Exchange) -> bool:
        """Count a request in; False where it must be refused."""
        if self.draining:
            return False
        self._work.add(exchange)
        return True

    def leave(self, exchange: Exchange) -> None:
        """Count a request out."""
        self._work.discard(exchange)
        self._left.set()

    async def wait_idle(self, timeout_s: float, stream_timeout_s: float | None = None) -> bool:
        """Wait until nothing is in flight; False if the time was not enough.

        Plain requests get `timeout_s` seconds, streams `stream_timeout_s` (the same where None).
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        streams_until = until if stream_timeout_s is None else loop.time() + stream_timeout_s
        while self._work:
            limit = max(until, streams_until) if self.streams else until
            self._left.clear()
            try:
                async with asyncio.timeout_at(limit):
                    await self._left.wait()
            except TimeoutError:
                if not self.streams or loop.time() >= max(until, streams_until):
                    return False
        return True


class DrainGuard:
    """Answers 503 `draining` once the drain has begun; requests under way are left alone."""

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
        if not self.drain.enter(exchange):
            refusal = Refusal(
                "draining",
                "This instance is shutting down; another one will answer.",
                retry_after_s=self._retry_after_s,
                headers=[(b"connection", b"close")],
            )
            await answer(scope, send, refusal)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            self.drain.leave(exchange)
