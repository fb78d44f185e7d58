"""What every `Upstream` promises, held against our own client and both httpx libraries."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest
from upstream_rig import OK, QUICK, Line, Peer, answering, eventually, get, post, read_all, run

from radgateway.upstream import (
    BadResponse,
    ConnectFailed,
    ConnectionLost,
    FirstByteTimeout,
    HTTP1Client,
    HTTPXUpstream,
    IdleTimeout,
    PoolTimeout,
    Timeouts,
    TotalTimeout,
    Upstream,
    UpstreamError,
)

Make = Callable[[int], Upstream]


def own(limit: int) -> Upstream:
    """Our client."""
    return HTTP1Client(max_connections=limit)


def over_client(library: Any) -> Make:
    """Over a library's client."""
    return lambda limit: HTTPXUpstream(
        library.AsyncClient(limits=library.Limits(max_connections=limit), trust_env=False),
        max_connections=limit,
    )


def over_transport(library: Any) -> Make:
    """Over a library's transport."""
    return lambda limit: HTTPXUpstream(library.AsyncHTTPTransport(), max_connections=limit)


MAKERS: dict[str, Make] = {
    "http1": own,
    "httpx-client": over_client(httpx),
    "httpx-transport": over_transport(httpx),
    "httpx2-client": over_client(httpx2),
    "httpx2-transport": over_transport(httpx2),
}
every_upstream = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def in_use(upstream: Upstream) -> int:
    """Slots in use, whichever implementation."""
    if isinstance(upstream, HTTPXUpstream):
        return upstream.in_use
    assert isinstance(upstream, HTTP1Client)
    return sum(stats.active for stats in upstream.stats().values())


@contextlib.asynccontextmanager
async def an_upstream(make: Make, limit: int = 10) -> AsyncIterator[Upstream]:
    """An upstream that must have no slot in use when the test ends."""
    upstream = make(limit)
    try:
        yield upstream
        assert in_use(upstream) == 0
    finally:
        await upstream.aclose()


@contextlib.contextmanager
def full_server() -> Iterator[str]:
    """A server that takes no more connections: to connect to its URL takes for ever."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


async def hang(line: Line) -> None:
    """Read the request and never answer."""
    await line.request()
    await line.gone()


async def stall(line: Line) -> None:
    """Answer half, and stall."""
    await line.request()
    await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")
    await line.gone()


@every_upstream
def test_how_long_it_took_to_connect_is_known(make: Make) -> None:
    """Of a connection that was opened for the call; of one that was there already, nothing."""

    async def script(line: Line) -> None:
        while True:
            await line.request()
            await asyncio.sleep(0.1)
            await line.send(OK)

    async def main() -> None:
        async with Peer(script) as peer, an_upstream(make) as upstream:
            began = asyncio.get_running_loop().time()
            opened = await upstream.send(get(peer.url), QUICK)
            all_s = asyncio.get_running_loop().time() - began
            await read_all(opened)
            assert opened.connect_s is not None
            assert 0 < opened.connect_s < all_s - 0.09  # the answer's own time is not in it
            reused = await upstream.send(get(peer.url), QUICK)
            await read_all(reused)
            assert reused.connect_s is None
            assert peer.accepted == 1

    run(main)


@every_upstream
def test_exchange(make: Make) -> None:
    """Method, target, headers and bodies of both kinds go out; status, headers and body come in."""
    received: list[tuple[bytes, bytes]] = []

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"ab", b"", b"cd"):
            yield piece

    async def script(line: Line) -> None:
        while True:
            received.append(await line.request())
            await line.send(b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nX-A: 1\r\nx-a: 2\r\n")
            await line.send(b"content-length: 4\r\n\r\nbody")

    async def main() -> None:
        async with Peer(script) as peer, an_upstream(make) as upstream:
            for body in (b"hello", b"", b"x" * 300_000, pieces()):
                request = post(peer.url + "?a=%20b", body, [(b"X-Key", b"v"), (b"x-key", b"w")])
                answer = await upstream.send(request, QUICK)
                assert answer.status == 429
                assert [h for h in answer.headers if h[0] in {b"x-a", b"retry-after"}] == [
                    (b"retry-after", b"7"),
                    (b"x-a", b"1"),
                    (b"x-a", b"2"),
                ]
                assert await read_all(answer) == b"body"
                await answer.aclose()
            assert peer.accepted == 1
        heads = [head for head, _ in received]
        assert [body for _, body in received] == [b"hello", b"", b"x" * 300_000, b"abcd"]
        for head in heads:
            assert head.startswith(b"POST /v1/x?a=%20b HTTP/1.1\r\n")
            names = [line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:-2]]
            assert names.count(b"x-key") == 2
            assert names.count(b"host") == 1
            # Nothing of a library's own: what it adds, a provider would see as the caller's.
            assert set(names) <= {b"host", b"x-key", b"content-length", b"transfer-encoding"}

    run(main)


@every_upstream
def test_no_redirect_no_decoding_no_cookies(make: Make) -> None:
    """A redirect is a response, a compressed body stays as it came, a cookie is not kept."""
    compressed = b"\x1f\x8b not really gzip"
    response = (
        b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\nset-cookie: who=principal-1\r\n"
        b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b" % (len(compressed), compressed)
    )

    async def main() -> None:
        async with Peer(answering(response)) as peer, an_upstream(make) as upstream:
            for _ in range(2):
                answer = await upstream.send(get(peer.url), QUICK)
                assert answer.status == 302
                assert await read_all(answer) == compressed
            assert not any(b"cookie" in head.lower() for head in peer.heads)

    run(main)


@every_upstream
def test_environment_names_no_proxy(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment gets none of the provider's traffic."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def main() -> None:
        async with Peer(answering(OK)) as peer, an_upstream(make) as upstream:
            assert await read_all(await upstream.send(get(peer.url), QUICK)) == b"ok"

    run(main)


@every_upstream
@pytest.mark.parametrize(
    ("response", "failure"),
    [
        (b"", ConnectionLost),
        (b"SSH-2.0-OpenSSH\r\n\r\n", BadResponse),
        (b"HTTP/1.1 200 OK\r\nx : y\r\n\r\n", BadResponse),
    ],
)
def test_broken_before_the_head(make: Make, response: bytes, failure: type[UpstreamError]) -> None:
    """No response is ConnectionLost, one that is not HTTP is BadResponse; both were sent."""

    async def main() -> None:
        async with (
            Peer(answering(response, close=True)) as peer,
            an_upstream(make) as upstream,
        ):
            with pytest.raises(failure) as caught:
                await upstream.send(post(peer.url), QUICK)
            assert type(caught.value) is failure
            assert caught.value.sent

    run(main)


@every_upstream
def test_broken_inside_the_body(make: Make) -> None:
    """A body that is cut gives what came, then ConnectionLost; never a clean end."""

    async def main() -> None:
        cut = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab"
        async with Peer(answering(cut, close=True)) as peer, an_upstream(make) as upstream:
            answer = await upstream.send(post(peer.url), QUICK)
            assert await answer.read() == b"ab"
            for _ in range(2):
                with pytest.raises(ConnectionLost):
                    await answer.read()
            assert not answer.ended

    run(main)


@every_upstream
def test_refused_connection(make: Make) -> None:
    """A closed port is ConnectFailed, and nothing was sent."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        async with an_upstream(make) as upstream:
            with pytest.raises(ConnectFailed) as caught:
                await upstream.send(get(f"http://127.0.0.1:{port}/"), QUICK)
            assert not caught.value.sent

    run(main)


@every_upstream
def test_injection(make: Make) -> None:
    """A line end in a header or URL is a ValueError, in every implementation."""

    async def main() -> None:
        async with Peer(answering(OK)) as peer, an_upstream(make) as upstream:
            for request in (
                post(peer.url, headers=[(b"x", b"a\r\nb: c")]),
                post(peer.url, headers=[(b"content-length", b"0")]),
                post(peer.url + "\r\nx: y"),
            ):
                with pytest.raises(ValueError, match=r"header|url"):
                    await upstream.send(request, QUICK)
            assert peer.accepted == 0

    run(main)


@every_upstream
def test_clocks(make: Make) -> None:
    """Each clock ends the call with its own error, and closes the connection."""

    async def main() -> None:
        async with Peer(hang, stall, hang, stall) as peer, an_upstream(make) as upstream:
            with pytest.raises(FirstByteTimeout):
                await upstream.send(post(peer.url), Timeouts(first_byte_s=0.1))
            answer = await upstream.send(post(peer.url), Timeouts(idle_s=0.1))
            assert await answer.read() == b"ab"
            with pytest.raises(IdleTimeout):
                await answer.read()
            with pytest.raises(TotalTimeout):
                await upstream.send(post(peer.url), Timeouts(total_s=0.1))
            answer = await upstream.send(post(peer.url), Timeouts(total_s=0.1, idle_s=5))
            assert await answer.read() == b"ab"
            with pytest.raises(TotalTimeout):
                await answer.read()
            await eventually(lambda: peer.open == 0)

    run(main)


@every_upstream
def test_pool_clock(make: Make) -> None:
    """A call that finds no free connection in time fails, and leaves its place in the queue."""

    async def main() -> None:
        async with Peer(stall, answering(OK)) as peer, an_upstream(make, limit=1) as upstream:
            holder = await upstream.send(post(peer.url), QUICK)
            with pytest.raises(PoolTimeout) as caught:
                await upstream.send(post(peer.url), Timeouts(pool_s=0.05))
            assert not caught.value.sent
            waiting = asyncio.create_task(upstream.send(post(peer.url), QUICK))
            await asyncio.sleep(0.02)
            await holder.aclose()
            assert await read_all(await waiting) == b"ok"

    run(main)


@every_upstream
def test_cancellation_closes_the_connection(make: Make) -> None:
    """A call cancelled before its head or inside its body closes its connection at once."""

    async def main() -> None:
        async with Peer(hang, stall) as peer, an_upstream(make) as upstream:
            task = asyncio.create_task(upstream.send(post(peer.url), QUICK))
            await eventually(lambda: len(peer.heads) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually(lambda: peer.open == 0)
            answer = await upstream.send(post(peer.url), QUICK)
            assert await answer.read() == b"ab"
            reading = asyncio.create_task(answer.read())
            await asyncio.sleep(0.01)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await eventually(lambda: peer.open == 0)
            assert in_use(upstream) == 0

    run(main)


@every_upstream
def test_a_cancelled_call_says_by_its_request_whether_it_was_sent(make: Make) -> None:
    """Not while it connects or waits for a connection; from the first byte on it was."""

    async def main() -> None:
        async def give_up(upstream: Upstream, url: str, until: Callable[[], bool]) -> bool:
            request = post(url)
            task = asyncio.create_task(upstream.send(request, QUICK))
            await eventually(until)
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return request.sent

        with full_server() as url:
            async with an_upstream(make) as upstream:
                assert not await give_up(upstream, url, lambda: True)
        async with Peer(stall, hang) as peer, an_upstream(make, limit=1) as upstream:
            request = post(peer.url)
            holder = await upstream.send(request, QUICK)
            assert request.sent
            assert not await give_up(upstream, peer.url, lambda: True)
            await holder.aclose()
            assert await give_up(upstream, peer.url, lambda: len(peer.heads) == 2)

    run(main)


@every_upstream
def test_cancellation_under_contention_loses_nothing(make: Make) -> None:
    """Many callers that give up while others wait: every slot and connection comes back."""

    async def script(line: Line) -> None:
        while True:
            await line.request()
            await asyncio.sleep(0.005)
            await line.send(OK)

    async def main() -> None:
        async with Peer(script) as peer, an_upstream(make, limit=3) as upstream:

            async def caller(number: int) -> None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.002 * (number % 7)):
                        await read_all(await upstream.send(post(peer.url), QUICK))

            for _ in range(3):
                await asyncio.gather(*(caller(number) for number in range(30)))
            await eventually(lambda: in_use(upstream) == 0)
            answers = await asyncio.gather(
                *(upstream.send(post(peer.url), QUICK) for _ in range(3))
            )
            for answer in answers:
                assert await read_all(answer) == b"ok"

    run(main)


@every_upstream
def test_closing_early(make: Make) -> None:
    """Closing before the body's end closes the connection; closing twice is no error."""

    async def main() -> None:
        async with Peer(stall) as peer, an_upstream(make) as upstream:
            answer = await upstream.send(post(peer.url), QUICK)
            await answer.aclose()
            await answer.aclose()
            await eventually(lambda: peer.open == 0)
            assert in_use(upstream) == 0
            with pytest.raises(ConnectionLost):
                await answer.read()

    run(main)


@every_upstream
def test_body_iterator_that_fails(make: Make) -> None:
    """The iterator's own exception comes through as it is."""

    class ClientWentAway(Exception):
        pass

    async def broken() -> AsyncIterator[bytes]:
        yield b"abc"
        raise ClientWentAway

    async def main() -> None:
        async with Peer(hang) as peer, an_upstream(make) as upstream:
            with pytest.raises(ClientWentAway):
                await upstream.send(post(peer.url, broken()), QUICK)
            await eventually(lambda: peer.open == 0)

    run(main)


@every_upstream
def test_aclose(make: Make) -> None:
    """Closing the upstream fails calls under way, and later ones, with ConnectionLost."""

    async def main() -> None:
        async with Peer(hang, stall) as peer:
            upstream = make(10)
            head = asyncio.create_task(upstream.send(post(peer.url), QUICK))
            await eventually(lambda: len(peer.heads) == 1)
            answer = await upstream.send(post(peer.url), QUICK)
            assert await answer.read() == b"ab"
            body = asyncio.create_task(answer.read())
            await asyncio.sleep(0.01)
            await upstream.aclose()
            for task in (head, body):
                with pytest.raises(ConnectionLost):
                    await task
            with pytest.raises(ConnectionLost):
                await upstream.send(post(peer.url), QUICK)
            assert in_use(upstream) == 0

    run(main)
