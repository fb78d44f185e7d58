"""A response under way: what has arrived and was not yet read, and the task that waits for more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from radgateway.asgi import Headers
from radgateway.upstream.interface import ConnectionLost, Timeouts

if TYPE_CHECKING:
    from radgateway.upstream.http1.connection import Connection


class HTTP1Response:
    """One exchange on a connection, as its caller sees it (`UpstreamResponse`).

    The connection goes back to its pool when the body's last byte has arrived, not when it has
    been read: a slow reader of a short body holds no connection.
    """

    __slots__ = (
        "chunks",
        "complete",
        "connect_s",
        "connection",
        "error",
        "headers",
        "is_head",
        "status",
        "timeouts",
        "total_at",
        "unread",
        "waiter",
    )

    def __init__(
        self,
        connection: Connection,
        timeouts: Timeouts,
        *,
        total_at: float,
        connect_s: float | None,
        is_head: bool,
    ) -> None:
        self.status = 0
        self.headers: Headers = []
        self.connect_s = connect_s
        self.timeouts = timeouts
        self.total_at = total_at
        self.is_head = is_head
        self.connection: Connection | None = connection
        """None once the exchange is over."""
        self.chunks: list[bytes] = []
        self.unread = 0
        self.complete = False
        self.error: Exception | None = None
        self.waiter: asyncio.Future[None] | None = None

    async def until_head(self) -> None:
        """Wait for the status and headers of the final response."""
        if self.status == 0 and self.error is None:
            await self._wait()
        # What came before the break is handed out first, so a body error waits for `read`.
        if self.error is not None and self.status == 0:
            raise self.error

    async def read(self) -> bytes:
        """The next bytes of the body as they came, b"" once at its end.

        Raises what broke the body off, after everything that had arrived was handed out. A read
        that is cancelled ends the call: its connection is closed.
        """
        if not self.chunks:
            if self.complete:
                return b""
            if self.error is None and self.connection is not None:
                self.connection.watch_body(self)
                await self._wait()
            if not self.chunks:
                if self.error is not None:
                    raise self.error
                return b""
        chunks = self.chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self.unread = 0
        if self.connection is not None:
            self.connection.resume()
        return data

    @property
    def ended(self) -> bool:
        """True when all of the body has been handed out, so a further read would be empty."""
        return self.complete and not self.chunks

    async def aclose(self) -> None:
        """Let go: before the body's end this closes the connection at once."""
        self.abandon("the response was closed by its reader")

    def abandon(self, reason: str) -> None:
        """End the exchange from our side. What was not read is lost, and a later read says so."""
        if self.connection is not None:
            self.connection.fail(ConnectionLost(reason))
        elif self.chunks:
            self.complete = False
            self.error = self.error or ConnectionLost(reason)
        self.chunks.clear()

    def wake(self) -> None:
        """Let the waiting task look again."""
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _wait(self) -> None:
        if self.waiter is not None:
            raise RuntimeError("two tasks are reading one response")
        self.waiter = asyncio.get_running_loop().create_future()
        try:
            await self.waiter
        except BaseException:
            self.abandon("the call was cancelled")
            raise
        finally:
            self.waiter = None
