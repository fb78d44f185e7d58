"""DrainGuard: stop taking work without dropping any.

`lifespan.shutdown` comes too late for this: servers send it when all connections are closed. So
draining has a trigger of its own, a signal or an admin call, which begins it on the policy object.
"""

from __future__ import annotations

import asyncio

from radgateway.asgi import ASGIApp, Receive, Scope, Send
from radgateway.errors import Refusal, answer


class Drain:
    """Counts the work in flight and says whether more may come."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.draining = False
        self._idle: asyncio.Event | None = None

    def begin(self) -> None:
        """Refuse new work from now on. Calling it again changes nothing."""
        self.draining = True

    def enter(self) -> bool:
        """Count a piece of work in; False where it must be refused."""
        if self.draining:
            return False
        self.in_flight += 1
        return True

    def leave(self) -> None:
        """Count a piece of work out."""
        self.in_flight -= 1
        if self.in_flight == 0 and self._idle is not None:
            self._idle.set()

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is in flight; False if `timeout_s` seconds were not enough."""
        if self.in_flight == 0:
            return True
        self._idle = asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        finally:
            self._idle = None
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
        if not self.drain.enter():
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
            self.drain.leave()
