"""What the upstream tests share: raw servers that follow a script, and runs that must end clean."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import uvloop

from radgateway.asgi import Headers
from radgateway.upstream import HTTP1Client, Timeouts, UpstreamRequest, UpstreamResponse

LIMIT_S = 15.0
LOOPS = ["asyncio", "uvloop"]
QUICK = Timeouts(connect_s=2.0, pool_s=2.0, first_byte_s=5.0, idle_s=5.0, total_s=10.0)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def run(main: Callable[[], Coroutine[Any, Any, None]], loop: str = "asyncio") -> None:
    """Run on the named event loop, within a time, and leave no task behind."""

    async def bounded() -> None:
        async with asyncio.timeout(LIMIT_S):
            await main()
        for _ in range(20):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left behind: {left}"
        gc.collect(1)  # what was dropped without being closed warns now, in the test that did it

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(bounded())


class Line:
    """The server's end of one connection."""

    def __init__(
        self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.peer = peer
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        """Read a request's head."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.peer.heads.append(head)
        return head

    async def request(self) -> tuple[bytes, bytes]:
        """Read a whole request: its head and its body, chunks joined."""
        head = await self.head()
        if b"transfer-encoding: chunked" in head.lower():
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
            return head, body
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return head, await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        """Write, as far as the client reads."""
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> bool:
        """Wait until the client closes."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass
        self.peer.seen_closed.set()
        return True


Script = Callable[[Line], Awaitable[None]]


def answering(*responses: bytes, close: bool = False) -> Script:
    """A script: each request gets the next response, the last one again and again."""

    async def script(line: Line) -> None:
        left = list(responses)
        while True:
            await line.request()
            await line.send(left.pop(0) if len(left) > 1 else left[0])
            if close:
                return

    return script


class Peer:
    """A server on loopback: connection number n follows script n, the last one for all later."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self.scripts = scripts
        self.tls = tls
        self.accepted = 0
        self.heads: list[bytes] = []
        self.open = 0
        self.seen_closed = asyncio.Event()
        self.failures: list[BaseException] = []

    async def __aenter__(self) -> Peer:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self.tls, limit=2**20
        )
        self.port = self._server.sockets[0].getsockname()[1]
        scheme = "https" if self.tls else "http"
        self.url = f"{scheme}://localhost:{self.port}/v1/x"
        if not self.tls:
            self.url = self.url.replace("localhost", "127.0.0.1")
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for _ in range(200):
            if not self.open:
                break
            await asyncio.sleep(0.01)
        assert self.open == 0, "connections left open"
        if exc[0] is None:
            assert not self.failures, self.failures

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.accepted
        self.accepted += 1
        self.open += 1
        line = Line(self, reader, writer)
        try:
            await self.scripts[min(number, len(self.scripts) - 1)](line)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            self.seen_closed.set()
        except AssertionError as failure:
            self.failures.append(failure)
        finally:
            writer.transport.abort() if reader.at_eof() else writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()
            self.open -= 1


@contextlib.asynccontextmanager
async def a_client(**options: Any) -> AsyncIterator[HTTP1Client]:
    """A client that must have no slot in use when the test ends."""
    client = HTTP1Client(**options)
    try:
        yield client
        for origin, stats in client.stats().items():
            assert stats.active == 0, f"{origin}: {stats}"
            assert stats.waiting == 0, f"{origin}: {stats}"
    finally:
        await client.aclose()
    assert all(stats == (0, 0, 0) for stats in client.stats().values()), client.stats()


def post(url: str, body: Any = b"hello", headers: Headers | None = None) -> UpstreamRequest:
    """A POST."""
    return UpstreamRequest("POST", url, headers or [(b"content-type", b"text/plain")], body)


def get(url: str, method: str = "GET") -> UpstreamRequest:
    """A request without a body."""
    return UpstreamRequest(method, url, [], b"")


async def read_all(response: UpstreamResponse) -> bytes:
    """The whole body, and one read more, which must be empty."""
    parts = []
    while not response.ended:
        parts.append(await response.read())
    assert await response.read() == b""
    return b"".join(parts)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for something that another task brings about."""
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come about")
