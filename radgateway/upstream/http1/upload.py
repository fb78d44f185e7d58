"""Request bodies too large for one write: sent as fast as the peer reads, while the call waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

from radgateway.upstream.interface import ConnectionLost

if TYPE_CHECKING:
    from radgateway.upstream.http1.connection import Connection

SLICE_BYTES = 64 * 1024
"""One write: the transports' own high watermark, so at most two slices wait in a buffer."""

_SLICES_PER_TURN = 16
"""A peer on a fast link may never push back; after 1 MiB other calls get their turn."""


class Upload(Protocol):
    """The rest of a request, being sent."""

    def resume(self) -> None:
        """The peer reads again: go on writing."""

    def stop(self) -> None:
        """Write nothing more, and let go of the body."""


class BytesUpload:
    """The rest of a body that is all here. It needs no task: the transport's pushes drive it."""

    __slots__ = ("_connection", "_offset", "_view")

    def __init__(self, connection: Connection, body: bytes, offset: int) -> None:
        self._connection: Connection | None = connection
        self._view = memoryview(body)
        self._offset = offset

    def resume(self) -> None:
        """Write until the transport pauses us or the body ends."""
        connection = self._connection
        if connection is None:
            return
        for _ in range(_SLICES_PER_TURN):
            if connection.write_paused:
                return
            connection.transport.write(self._view[self._offset : self._offset + SLICE_BYTES])
            self._offset += SLICE_BYTES
            if self._offset >= len(self._view):
                self._connection = None
                connection.upload_done()
                return
        connection.loop.call_soon(self.resume)

    def stop(self) -> None:
        """Write nothing more."""
        self._connection = None


class StreamUpload:
    """A body that is still arriving, sent in chunks (RFC 9112 §7.1) by a task of its own."""

    __slots__ = ("_body", "_connection", "_drained", "_task")

    def __init__(self, connection: Connection, body: AsyncIterator[bytes]) -> None:
        self._connection = connection
        self._body = body
        self._drained: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = connection.loop.create_task(self._run())

    def resume(self) -> None:
        """Let the task write again."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def stop(self) -> None:
        """Cancel the task, which closes the iterator."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def _run(self) -> None:
        try:
            async for chunk in self._body:
                if chunk:  # an empty chunk would end the body
                    await self._send_chunk(chunk)
            if self._task is not None:
                self._connection.transport.write(b"0\r\n\r\n")
                self._task = None
                self._connection.upload_done()
        except BaseException as error:
            # The source of the body failed: the call ends with its error, not with one of ours.
            # A cancellation that `stop` did not ask for must not leave the call waiting.
            if self._task is not None:
                self._task = None
                cancelled = ConnectionLost("Sending the request's body was cancelled.")
                self._connection.fail(error if isinstance(error, Exception) else cancelled)
            if not isinstance(error, Exception):
                raise
        finally:
            close = getattr(self._body, "aclose", None)
            if close is not None:
                await close()

    async def _send_chunk(self, chunk: bytes) -> None:
        write = self._connection.transport.write
        await self._until_drained()
        if len(chunk) <= SLICE_BYTES:
            write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            return
        write(b"%x\r\n" % len(chunk))
        view = memoryview(chunk)
        for offset in range(0, len(chunk), SLICE_BYTES):
            await self._until_drained()
            write(view[offset : offset + SLICE_BYTES])
        write(b"\r\n")

    async def _until_drained(self) -> None:
        if self._connection.write_paused:
            self._drained = self._connection.loop.create_future()
            try:
                await self._drained
            finally:
                self._drained = None
