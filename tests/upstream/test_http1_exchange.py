"""HTTP1Client: every way a response may be framed or broken, and the requests that go out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from upstream_rig import LOOPS, OK, QUICK, Line, Peer, a_client, answering, get, post, read_all, run

from radgateway.upstream import BadResponse, ConnectionLost, UpstreamError
from radgateway.upstream.http1.upload import SLICE_BYTES

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("response", "body", "reused"),
    [
        (OK, b"ok", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", True),
        (CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", b"abcde", True),
        (CHUNKED + b"1\r\na\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n", b"a", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK, b"ok", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 2\r\n\r\nok", b"ok", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", b"ok", False),
        (OK + b"HTTP/1.1 200 OK\r\n", b"ok", False),
        (OK + b"garbage", b"ok", False),
        (OK + OK, b"ok", False),
    ],
)
def test_framings(loop: str, response: bytes, body: bytes, reused: bool) -> None:
    """Each framing gives its body, and only a response without oddities keeps its connection."""

    async def main() -> None:
        async with Peer(answering(response)) as peer, a_client() as client:
            for _ in range(3):
                answer = await client.send(post(peer.url), QUICK)
                assert await read_all(answer) == body
                assert all(name == name.lower() for name, _ in answer.headers)
                assert not any(name in {b"link", b"x-sum", b"y"} for name, _ in answer.headers)
                await answer.aclose()
                await asyncio.sleep(0.01)
            assert peer.accepted == (1 if reused else 3)

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_body_that_ends_with_the_connection(loop: str) -> None:
    """Without a length or chunks, the end of the connection is the end of the body."""

    async def main() -> None:
        script = answering(b"HTTP/1.1 200 OK\r\nx: y\r\n\r\nall of it", close=True)
        async with Peer(script) as peer, a_client() as client:
            answer = await client.send(post(peer.url), QUICK)
            assert await read_all(answer) == b"all of it"
            assert client.stats()[f"http://127.0.0.1:{peer.port}"] == (0, 0, 0)

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_head_has_no_body(loop: str) -> None:
    """A HEAD response ends with its headers, whatever length they speak of."""

    async def main() -> None:
        response = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"
        async with Peer(answering(response)) as peer, a_client() as client:
            answer = await client.send(get(peer.url, "HEAD"), QUICK)
            assert answer.ended
            assert await answer.read() == b""

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\r\n folded\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\x00b\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 000 Odd\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"RTSP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 257 + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
        b"HTTP/1.1 200 " + b"y" * 100_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
    ],
)
def test_bad_heads(loop: str, response: bytes) -> None:
    """What is not one clear HTTP/1 response within the bounds is refused, and not waited out."""

    async def script(line: Line) -> None:
        await line.request()
        await line.send(response)
        await line.gone()

    async def main() -> None:
        async with Peer(script) as peer, a_client() as client:
            with pytest.raises(BadResponse):
                await client.send(post(peer.url), QUICK)

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("response", "before", "failure"),
    [
        (b"", None, ConnectionLost),
        (b"HTTP/1.1 200 OK\r\ncontent-le", None, ConnectionLost),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", b"ab", ConnectionLost),
        (CHUNKED + b"5\r\nab", b"ab", ConnectionLost),
        (CHUNKED + b"2\r\nab\r\n", b"ab", ConnectionLost),
        (CHUNKED + b"2\r\nab\r\n0\r\n", b"ab", ConnectionLost),
        (CHUNKED + b"2\r\nab\r\nzz\r\n", b"ab", BadResponse),
        (CHUNKED + b"2\r\nabX", b"ab", BadResponse),
        (CHUNKED + b"0\r\nx: " + b"y" * 100_000, b"", BadResponse),
        (CHUNKED + b"0\r\n" + b"x: y\r\n" * 300, b"", BadResponse),
    ],
)
def test_broken_off(
    loop: str, response: bytes, before: bytes | None, failure: type[UpstreamError]
) -> None:
    """A response that breaks off gives what had come, and then its error, again and again."""

    async def main() -> None:
        async with Peer(answering(response, close=True)) as peer, a_client() as client:
            if before is None:
                with pytest.raises(failure) as caught:
                    await client.send(post(peer.url), QUICK)
                assert caught.value.sent
                return
            answer = await client.send(post(peer.url), QUICK)
            if before:
                assert await answer.read() == before
            for _ in range(2):
                assert not answer.ended
                with pytest.raises(failure):
                    await answer.read()

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_request_on_the_wire(loop: str) -> None:
    """The head is what was given plus Host and framing; bodies arrive whole at every size."""

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"ab", b"", b"c" * 200_000, b"d"):
            yield piece

    async def main() -> None:
        async with a_client() as client:
            received: list[tuple[bytes, bytes]] = []

            async def script(line: Line) -> None:
                while True:
                    received.append(await line.request())
                    await line.send(OK)

            async with Peer(script) as peer:
                bodies = [b"", b"x", b"y" * SLICE_BYTES, b"z" * (SLICE_BYTES + 1), b"w" * 5_000_000]
                for body in bodies:
                    answer = await client.send(post(peer.url + "?q=1", body), QUICK)
                    assert await read_all(answer) == b"ok"
                await read_all(await client.send(post(peer.url, pieces()), QUICK))
                await read_all(await client.send(get(peer.url), QUICK))
                assert [body for _, body in received[:5]] == bodies
                assert received[5][1] == b"ab" + b"c" * 200_000 + b"d"
                host = b"127.0.0.1:%d" % peer.port
                assert received[1][0] == (
                    b"POST /v1/x?q=1 HTTP/1.1\r\nhost: " + host + b"\r\n"
                    b"content-type: text/plain\r\ncontent-length: 1\r\n\r\n"
                )
                assert b"content-length: 0\r\n" in received[0][0]
                assert received[6][0] == b"GET /v1/x HTTP/1.1\r\nhost: " + host + b"\r\n\r\n"
                assert peer.accepted == 1
                await client.aclose()

    run(main, loop)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x", b"a\r\nevil: 1"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x", b"a\0b"),
        (b"x\r\nevil", b"a"),
        (b"x y", b"a"),
        (b"x:", b"a"),
        (b"", b"a"),
        (b"Content-Length", b"3"),
        (b"transfer-encoding", b"chunked"),
        (b"HOST", b"evil"),
    ],
)
def test_header_injection(name: bytes, value: bytes) -> None:
    """No header can add a line, a framing or a host; the refusal comes before any connection."""

    async def main() -> None:
        async with Peer(answering(OK)) as peer, a_client() as client:
            with pytest.raises(ValueError, match="header"):
                await client.send(post(peer.url, headers=[(b"ok", b"ok"), (name, value)]), QUICK)
            assert peer.accepted == 0

    run(main)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/a b",
        "http://127.0.0.1:1/a\r\nevil: 1",
        "http://127.0.0.1:1/a\tb",
        "http://127.0.0.1:1/\u00e9",
        "http://user:secret@127.0.0.1:1/",
        "ftp://127.0.0.1:1/",
        "/v1/x",
        "http://",
        "http://127.0.0.1:99999/",
    ],
)
def test_unusable_urls(url: str) -> None:
    """A URL that could not be written as it is, is refused."""

    async def main() -> None:
        async with a_client() as client:
            with pytest.raises(ValueError, match=r"url|Port"):
                await client.send(post(url), QUICK)
            with pytest.raises(ValueError, match="method"):
                await client.send(get("http://127.0.0.1:1/", "GET /x"), QUICK)

    run(main)


@pytest.mark.parametrize("loop", LOOPS)
def test_bytes_on_an_idle_connection(loop: str) -> None:
    """A late or unasked response closes its connection and never answers the next request."""

    async def late(line: Line) -> None:
        await line.request()
        await line.send(OK)
        await asyncio.sleep(0.02)
        await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        await line.gone()

    async def main() -> None:
        async with Peer(late, answering(OK)) as peer, a_client() as client:
            for _ in range(2):
                assert await read_all(await client.send(post(peer.url), QUICK)) == b"ok"
                await asyncio.sleep(0.05)
            assert peer.accepted == 2

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_closed_response_reads_no_more(loop: str) -> None:
    """After aclose, a read fails unless everything had been read before."""

    async def main() -> None:
        half = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"
        async with Peer(answering(half), answering(OK)) as peer, a_client() as client:
            answer = await client.send(post(peer.url), QUICK)
            await answer.aclose()
            await answer.aclose()
            await asyncio.wait_for(peer.seen_closed.wait(), 2)
            with pytest.raises(ConnectionLost):
                await answer.read()
            unread = await client.send(post(peer.url), QUICK)
            await unread.aclose()
            assert not unread.ended
            with pytest.raises(ConnectionLost):
                await unread.read()
            whole = await client.send(post(peer.url), QUICK)
            assert await read_all(whole) == b"ok"
            await whole.aclose()
            assert await whole.read() == b""
            # Complete when they were closed, so both used the one connection.
            assert peer.accepted == 2

    run(main, loop)
