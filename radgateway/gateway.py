"""The gateway as one ASGI app: which path goes to which part, and when it starts and ends.

It asks nothing of its host: mounted under a prefix it finds its paths below it, and without a
lifespan it starts with the first request. Where the host has a lifespan, `lifespan()` joins it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from typing import Any

from radgateway.asgi import ASGIApp, Receive, Scope, Send, decline, route_path
from radgateway.inbound.drain import Drain, closing

Closer = Callable[[], Awaitable[object]]


class Gateway:
    """The data plane and the operational paths beside it.

    `app` is the composed data plane; `paths` are the apps served at exact paths beside it, and
    `below` those served at all paths that begin so. `on_start` are called once, in the event loop
    that serves; `closers` are awaited in order.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        paths: Mapping[str, ASGIApp],
        below: Mapping[str, ASGIApp] | None = None,
        drain: Drain,
        on_start: Sequence[Callable[[], object]] = (),
        closers: Sequence[Closer] = (),
    ) -> None:
        self.app = app
        self.drain = drain
        self._paths = dict(paths)
        self._below = dict(below or {})
        self._prefixes = tuple(self._below)
        self._on_start = tuple(on_start)
        self.closers = list(closers)
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] == "http":
            if not self._started:
                self.start()
            app = self._beside(route_path(scope))
            if app is None:
                app = self.app
            elif self.drain.leaving:
                send = closing(scope, send)
            await app(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
        else:
            await decline(scope, receive, send)

    def _beside(self, path: str) -> ASGIApp | None:
        """The app beside the data plane that serves a path, or None."""
        app = self._paths.get(path)
        if app is None and path.startswith(self._prefixes):
            return next(self._below[prefix] for prefix in self._prefixes if path.startswith(prefix))
        return app

    def start(self) -> None:
        """Begin what runs beside the requests, once. The first one calls it where nobody did."""
        if self._started:
            return
        # What runs beside the requests is no part of the one that happens to come first: neither
        # its ids nor what a host has bound for its log lines.
        for begin in self._on_start:
            Context().run(begin)
        self._started = True

    async def aclose(self) -> None:
        """Refuse new work, let what is in flight end, write out what is recorded, and close.

        Where a drain has been, nothing is in flight any more. Where none has, because the server
        had no way to tell, this is it: what the server has left running gets its time, and what
        it has cancelled leaves its usage before the ledger is closed.

        It is the end: a gateway that was closed answers 503, and another one has to be made. One
        part that fails to close keeps none of the others open; its error is raised at the end.
        """
        self.drain.begin()
        await self.drain.finish()
        async with contextlib.AsyncExitStack() as stack:
            for close in reversed(self.closers):
                stack.push_async_callback(close)

    @contextlib.asynccontextmanager
    async def lifespan(self, host: Any = None) -> AsyncIterator[None]:
        """Join a host's lifespan: `FastAPI(lifespan=gateway.lifespan)`, or inside one's own."""
        self.start()
        try:
            yield
        finally:
            await self.aclose()

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            phase: str = message["type"]
            try:
                if phase == "lifespan.startup":
                    self.start()
                else:
                    await self.aclose()
            except Exception as error:
                await send({"type": f"{phase}.failed", "message": repr(error)})
                raise
            await send({"type": f"{phase}.complete"})
            if phase == "lifespan.shutdown":
                return
