"""HTTPXUpstream: what it takes, and that every exception of the libraries has a meaning."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import pytest
from upstream_rig import QUICK, eventually, get, post, read_all, run

from radgateway.upstream import (
    BadResponse,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    FirstByteTimeout,
    HTTPXUpstream,
    IdleTimeout,
    PoolTimeout,
    Timeouts,
    UpstreamError,
)
from radgateway.upstream.httpx_failures import FAILURES, failure_of

both = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


def exceptions_of(library: Any) -> list[type[Exception]]:
    """Every exception that a library names."""
    found = [value for name in dir(library) if isinstance(value := getattr(library, name), type)]
    return [cls for cls in found if issubclass(cls, Exception) and not issubclass(cls, Warning)]


def build(library: Any, cls: type[Exception]) -> Exception:
    """One of them."""
    if cls.__name__ == "HTTPStatusError":
        request = library.Request("GET", "http://x/")
        return library.HTTPStatusError(  # type: ignore[no-any-return]
            "x", request=request, response=library.Response(500)
        )
    try:
        return cls("it failed")
    except TypeError:
        return cls()


@both
def test_every_exception_has_a_meaning(library: Any) -> None:
    """No exception of a library reaches a caller as such: each is mapped by its own name."""
    classes = exceptions_of(library)
    assert len(classes) >= 25
    assert {cls.__name__ for cls in classes} <= set(FAILURES)
    for cls in classes:
        for in_body in (False, True):
            assert isinstance(failure_of(build(library, cls), in_body=in_body), UpstreamError)


@both
@pytest.mark.parametrize(
    ("name", "before", "inside"),
    [
        ("ConnectError", ConnectFailed, ConnectFailed),
        ("ConnectTimeout", ConnectTimeout, ConnectTimeout),
        ("PoolTimeout", PoolTimeout, PoolTimeout),
        ("ReadTimeout", FirstByteTimeout, IdleTimeout),
        ("WriteTimeout", IdleTimeout, IdleTimeout),
        ("ReadError", ConnectionLost, ConnectionLost),
        ("RemoteProtocolError", ConnectionLost, ConnectionLost),
        ("DecodingError", BadResponse, BadResponse),
    ],
)
def test_meanings(
    library: Any, name: str, before: type[UpstreamError], inside: type[UpstreamError]
) -> None:
    """The ones that matter mean the same as with our own client, raised in the head or the body."""

    class Broken(library.AsyncByteStream):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"ab"
            raise getattr(library, name)("it failed")

    def fail(request: Any) -> Any:
        if request.method == "GET":
            raise getattr(library, name)("it failed")
        return library.Response(200, stream=Broken())

    async def main() -> None:
        upstream = HTTPXUpstream(library.MockTransport(fail))
        with pytest.raises(before) as caught:
            await upstream.send(get("http://mock/"), QUICK)
        assert type(caught.value) is before
        answer = await upstream.send(post("http://mock/"), QUICK)
        assert await answer.read() == b"ab"
        with pytest.raises(inside) as later:
            await answer.read()
        assert type(later.value) is inside
        assert upstream.in_use == 0
        await upstream.aclose()

    run(main)


@both
@pytest.mark.parametrize("wrapped", [True, False])
def test_mock_transport(library: Any, wrapped: bool) -> None:
    """A mock transport, alone or in a client, is all that a test of somebody's app needs."""

    def handle(request: Any) -> Any:
        assert isinstance(request, library.Request)
        return library.Response(200, headers={"X-A": "b"}, content=request.content + b"!")

    async def main() -> None:
        transport = library.MockTransport(handle)
        client = library.AsyncClient(transport=transport) if wrapped else transport
        upstream = HTTPXUpstream(client)
        answer = await upstream.send(post("http://mock/x", b"hello"), QUICK)
        assert (b"x-a", b"b") in answer.headers
        assert await read_all(answer) == b"hello!"
        await upstream.aclose()

    run(main)


def test_duck_typed_transport() -> None:
    """Anything with handle_async_request fits, and an OSError of its own is a lost connection."""

    class Transport:
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "GET":
                raise ConnectionResetError("gone")
            return httpx.Response(200, content=b"ok")

        async def aclose(self) -> None:
            pass

    async def main() -> None:
        upstream = HTTPXUpstream(Transport())
        assert await read_all(await upstream.send(post("http://mock/"), QUICK)) == b"ok"
        with pytest.raises(ConnectionLost):
            await upstream.send(get("http://mock/"), QUICK)
        await upstream.aclose()

    run(main)


def test_response_of_a_cancelled_call_is_closed() -> None:
    """A transport that answers although it was cancelled does not leak what it answered with."""
    closed = asyncio.Event()

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b""

        async def aclose(self) -> None:
            closed.set()

    class Stubborn(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)
            return httpx.Response(200, stream=Body())

    async def main() -> None:
        upstream = HTTPXUpstream(Stubborn())
        with pytest.raises(FirstByteTimeout):
            await upstream.send(get("http://mock/"), Timeouts(first_byte_s=0.01, connect_s=None))
        await asyncio.wait_for(closed.wait(), 1)
        await eventually(lambda: upstream.in_use == 0)
        await upstream.aclose()

    run(main)


def test_queue_is_bounded() -> None:
    """Only so many calls wait for a slot; the next is refused at once."""

    async def forever(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(60)
        raise AssertionError

    async def main() -> None:
        upstream = HTTPXUpstream(httpx.MockTransport(forever), max_connections=1, max_waiting=1)
        tasks = [asyncio.create_task(upstream.send(get("http://mock/"), QUICK)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(PoolTimeout):
            await upstream.send(get("http://mock/"), QUICK)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert upstream.in_use == 0
        await upstream.aclose()

    run(main)


def test_neither_httpx2_nor_httptools_is_needed() -> None:
    """The seam and the portable client import with the core dependencies alone."""
    code = (
        "import sys; sys.modules['httptools'] = None; sys.modules['httpx2'] = None\n"
        "import radgateway.upstream as u; u.HTTPXUpstream(); assert u.Timeouts\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_unusable_settings() -> None:
    """A limit that makes no sense is refused by its name."""
    with pytest.raises(ValueError, match="max_connections"):
        HTTPXUpstream(max_connections=0)
