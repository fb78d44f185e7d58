"""Real sockets in a test: an app under uvicorn, and a provider that is scripted byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from radgateway.asgi import ASGIApp

LIMIT_S = 10.0


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, lifespan: str = "on", http: Any = "auto") -> AsyncIterator[str]:
    """Serve an app on a free port of this machine for as long as the block runs; gives its URL.

    `http` is the protocol, as uvicorn takes it.
    """
    settings = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        log_config=None,
        access_log=False,
        lifespan=lifespan,  # type: ignore[arg-type]
        http=http,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(settings)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(LIMIT_S):
            while not server.started:
                assert not task.done(), "the server ended before it had started"
                await asyncio.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        async with asyncio.timeout(LIMIT_S):
            await task


@dataclass
class Call:
    """One request as a scripted provider got it, and the way to answer it."""

    head: bytes
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        """Write and flush."""
        self.writer.write(data)
        await self.writer.drain()

    async def until_closed(self) -> None:
        """Wait until the other side has closed the connection."""
        async with asyncio.timeout(LIMIT_S):
            while await self.reader.read(1024):
                pass


Script = Callable[[Call], Awaitable[None]]


@dataclass
class Provider:
    """A scripted provider: what it was asked, and its connections now open."""

    script: Script
    url: str = ""
    calls: list[Call] = field(default_factory=list)
    open: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, request after request, until either side closes it."""
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line[15:])
                call = Call(head, await reader.readexactly(length), reader, writer)
                self.calls.append(call)
                await self.script(call)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


@contextlib.asynccontextmanager
async def provider(script: Script) -> AsyncIterator[Provider]:
    """Run a scripted provider on a free port of this machine."""
    made = Provider(script)
    tasks: set[asyncio.Task[Any]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(made.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A complete response; JSON unless a header says otherwise."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    if not any(line.lower().startswith("content-type") for line in headers):
        lines.append("content-type: application/json")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*parts: bytes) -> bytes:
    """Parts of a chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
