"""The gateway as one ASGI app: which path goes to which part, and when it starts and ends.

It asks nothing of its host: mounted under a prefix it finds its paths below it, and without a
lifespan it starts with the first request. Where the host has a lifespan, `lifespan()` joins it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from radgateway.asgi import ASGIApp, Receive, Scope, Send, decline, route_path
from radgateway.config.load import Source, load_config
from radgateway.config.schema import GatewayConfig
from radgateway.inbound.drain import Drain, closing
from radgateway.reload.refusals import ReloadFailed

if TYPE_CHECKING:
    from radgateway.config.changes import Diff
    from radgateway.reload.reloader import Reloader

Closer = Callable[[], Awaitable[object]]


class Served:
    """The apps of one generation, by path."""

    __slots__ = ("_prefixes", "app", "below", "paths")

    def __init__(
        self, app: ASGIApp, paths: Mapping[str, ASGIApp], below: Mapping[str, ASGIApp]
    ) -> None:
        self.app = app
        self.paths = dict(paths)
        self.below = dict(below)
        self._prefixes = tuple(self.below)

    def beside(self, path: str) -> ASGIApp | None:
        """The app beside the data plane that serves a path, or None."""
        app = self.paths.get(path)
        if app is None and path.startswith(self._prefixes):
            return next(self.below[prefix] for prefix in self._prefixes if path.startswith(prefix))
        return app


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
        self.drain = drain
        self.reloader: Reloader | None = None
        """Who puts another configuration in force; None for a gateway that was put together by
        hand."""
        self.served = Served(app, paths, below or {})
        self._on_start = tuple(on_start)
        self.closers = list(closers)
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        if scope["type"] == "http":
            if not self._started:
                self.start()
            served = self.served
            app = served.beside(route_path(scope))
            if app is None:
                app = served.app
            elif self.drain.leaving:
                send = closing(scope, send)
            await app(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
        else:
            await decline(scope, receive, send)

    @property
    def app(self) -> ASGIApp:
        """The composed data plane."""
        return self.served.app

    def serve(
        self,
        app: ASGIApp,
        *,
        paths: Mapping[str, ASGIApp],
        below: Mapping[str, ASGIApp] | None = None,
    ) -> None:
        """Serve these from the next request on. Those under way end where they began."""
        self.served = Served(app, paths, below or {})

    async def reload(self, config: Source = None) -> Diff:
        """Put another configuration in force: a finished one, a mapping or a file's path.

        Without one, what this gateway was made from is read again. Gives what has changed. Raises
        `ConfigError` for what is not valid, `NeedsRestart` for what a running process can't
        follow, and `ReloadFailed` where it could not be done; nothing has changed then.
        """
        if self.reloader is None:
            raise ReloadFailed("this gateway was not made from a configuration")
        self.start()
        if config is None:
            return await self.reloader.reload("host")
        if not isinstance(config, GatewayConfig):
            config = await asyncio.to_thread(load_config, config)
        return await self.reloader.apply(config, "host")

    def start(self) -> None:
        """Begin what runs beside the requests, once. The first one calls it where nobody did."""
        if self._started:
            return
        for begin in self._on_start:
            begin()
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
