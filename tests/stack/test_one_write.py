"""What leaves the server for a response, seen from the wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from serving import LIMIT_S

from radgateway.asgi import ASGIApp
from radgateway.one_write import OneWriteProtocol

Reader = asyncio.StreamReader


class Noting(OneWriteProtocol):
    """Notes every write that reaches a connection's real transport."""

    writes: list[bytes]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        real = transport.write
        notes = type(self).writes

        class Noted:
            def write(self, data: bytes) -> None:
                notes.append(bytes(data))
                real(data)

            def __getattr__(self, name: str) -> Any:
                return getattr(transport, name)

        super().connection_made(Noted())  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Serve an app; gives its port and the writes as they happen."""
    Noting.writes = []
    settings = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_config=None, lifespan="off", http=Noting
    )
    server = uvicorn.Server(settings)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(LIMIT_S):
            while not server.started:
                await asyncio.sleep(0.005)
        yield server.servers[0].sockets[0].getsockname()[1], Noting.writes
    finally:
        server.should_exit = True
        await task


async def exchange(port: int, request: bytes) -> bytes:
    """Send bytes on a new connection and read all that comes until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(LIMIT_S):
            return await reader.read()
    finally:
        writer.close()


def get(method: str = "GET", more: str = "connection: close\r\n") -> bytes:
    """A request without a body."""
    return f"{method} / HTTP/1.1\r\nhost: x\r\n{more}\r\n".encode()


def start(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    """A 200."""
    return {"type": "http.response.start", "status": 200, "headers": list(headers)}


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    """A part of its body."""
    return {"type": "http.response.body", "body": data, "more_body": more}


async def small(scope: Any, receive: Any, send: Any) -> None:
    """A short answer."""
    await send(start((b"content-length", b"5")))
    await send(body(b"hello"))


def test_a_small_answer_is_one_write() -> None:
    """Head and body leave together, complete."""

    async def main() -> None:
        async with served(small) as (port, writes):
            answer = await exchange(port, get())
        assert len(writes) == 1
        assert answer == writes[0]
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nhello")

    asyncio.run(main())


def test_a_stream_leaves_part_by_part_the_head_with_the_first() -> None:
    """Only the head is ever kept back; an empty first part flushes it (as ASGI apps rely on)."""

    async def main() -> None:
        arrived = asyncio.Event()

        async def stream(scope: Any, receive: Any, send: Any) -> None:
            await send(start((b"content-type", b"text/event-stream")))
            await send(body(b"", more=True))
            async with asyncio.timeout(LIMIT_S):
                await arrived.wait()
            for part in (b"one", b"two"):
                await send(body(part, more=True))
            await send(body(b""))

        async with served(stream) as (port, writes):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(get())
            async with asyncio.timeout(LIMIT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                arrived.set()
                rest = await reader.read()
            writer.close()
        assert head.startswith(b"HTTP/1.1 200")
        assert rest == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        assert len([write for write in writes if write]) == 4

    asyncio.run(main())


def test_head_gets_its_head() -> None:
    """The answer to a HEAD has no body, and does not wait for one."""

    async def main() -> None:
        async with served(small) as (port, _):
            answer = await exchange(port, get("HEAD"))
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"content-length: 5\r\nconnection: close\r\n\r\n")

    asyncio.run(main())


@pytest.mark.parametrize("fails", ["raises", "returns"])
def test_an_app_that_fails_after_its_head_has_not_answered(fails: str) -> None:
    """Nothing has left yet, and the connection ends: to the caller it broke off."""

    async def main() -> None:
        async def broken(scope: Any, receive: Any, send: Any) -> None:
            await send(start((b"content-length", b"5")))
            if fails == "raises":
                raise RuntimeError("in between")

        async with served(broken) as (port, _):
            answer = await exchange(port, get(more=""))
        assert answer == b""

    asyncio.run(main())


@pytest.mark.parametrize(
    "header",
    [
        (b"x-a", b"1\r\nx-b: 2"),
        (b"x-a", b"1\nx-b: 2"),
        (b"x-a", b"1\rx-b: 2"),
        (b"x-a", b"1\0"),
        (b"x a", b"1"),
        (b"x:a", b"1"),
        (b"", b"1"),
        (b"x-a\r\n", b"1"),
    ],
)
def test_no_header_can_add_a_line_to_the_head(header: tuple[bytes, bytes]) -> None:
    """The app hears of it, and nothing of that response leaves."""
    errors: list[str] = []

    async def injecting(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send(start((b"content-length", b"0"), header))
        except RuntimeError as error:
            errors.append(str(error))

    async def main() -> None:
        async with served(injecting) as (port, writes):
            assert await exchange(port, get(more="")) == b""
            assert writes == []

    asyncio.run(main())
    assert errors in (["Invalid HTTP header name."], ["Invalid HTTP header value."])


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([start((b"content-length", b"2")), body(b"abc")], "longer"),
        ([start((b"content-length", b"4")), body(b"abc")], "shorter"),
        ([body(b"abc")], "Expected ASGI message 'http.response.start'"),
        ([start(), start()], "Expected ASGI message 'http.response.body'"),
        ([start((b"content-length", b"3")), body(b"abc"), body(b"d")], "after the response's end"),
        ([{**start(), "status": 204}, body(b"abc")], "has none"),
    ],
)
def test_what_is_out_of_order_is_an_error_of_the_app(
    messages: list[dict[str, Any]], words: str
) -> None:
    """As with uvicorn itself: a body has the length it was given, and messages have an order."""
    errors: list[str] = []

    async def odd(scope: Any, receive: Any, send: Any) -> None:
        try:
            for message in messages:
                await send(message)
        except RuntimeError as error:
            errors.append(str(error))

    async def main() -> None:
        async with served(odd) as (port, _):
            await exchange(port, get())

    asyncio.run(main())
    assert len(errors) == 1
    assert words in errors[0]


@pytest.mark.parametrize(
    ("headers", "status", "ends"),
    [
        ([(b"Content-Length", b"0")], 200, b"content-length: 0\r\nconnection: close\r\n\r\n"),
        ([], 204, b"\r\n\r\n"),
        ([(b"connection", b"Keep-Alive, Close"), (b"content-length", b"0")], 200, b"\r\n\r\n"),
        ([], 200, b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
)
def test_an_empty_answer_is_framed(
    headers: list[tuple[bytes, bytes]], status: int, ends: bytes
) -> None:
    """By a length, by a status that has none, or by an empty last chunk; closing where asked to."""

    async def empty(scope: Any, receive: Any, send: Any) -> None:
        await send({**start(*headers), "status": status})
        await send(body(b""))

    async def main() -> None:
        closes = any(name == b"connection" for name, _ in headers)
        async with served(empty) as (port, writes):
            answer = await exchange(port, get(more="" if closes else "connection: close\r\n"))
        assert answer.endswith(ends)
        assert len(writes) == 1

    asyncio.run(main())


def test_an_interim_response_is_not_kept_back() -> None:
    """A client that waits for 100 Continue gets it before it has sent its body."""

    async def main() -> None:
        async def echo(scope: Any, receive: Any, send: Any) -> None:
            message = await receive()
            await send(start((b"content-length", b"%d" % len(message["body"]))))
            await send(body(message["body"]))

        async with served(echo) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n"
                b"connection: close\r\n\r\n"
            )
            async with asyncio.timeout(LIMIT_S):
                interim = await reader.readuntil(b"\r\n\r\n")
                writer.write(b"abc")
                answer = await reader.read()
            writer.close()
        assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert answer.endswith(b"\r\n\r\nabc")

    asyncio.run(main())


def test_pipelined_requests_are_answered_in_order() -> None:
    """Each request has a keeper of its own."""

    async def main() -> None:
        async def path(scope: Any, receive: Any, send: Any) -> None:
            said = scope["path"].encode()
            await send(start((b"content-length", b"%d" % len(said))))
            await asyncio.sleep(0)
            await send(body(said))

        requests = (
            b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n" + b"GET /b HTTP/1.1\r\nhost: x\r\n\r\n" + get()
        )
        async with served(path) as (port, _):
            answer = await exchange(port, requests)
        assert answer.index(b"\r\n\r\n/a") < answer.index(b"\r\n\r\n/b")
        assert answer.count(b"HTTP/1.1 200") == 3

    asyncio.run(main())
