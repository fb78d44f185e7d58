"""HTTP1Client: the clocks, back-pressure both ways, and uploads that are answered early."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from upstream_rig import (
    LOOPS,
    OK,
    QUICK,
    Line,
    Peer,
    a_client,
    answering,
    eventually,
    get,
    post,
    read_all,
    run,
)

from radgateway.upstream import (
    ConnectTimeout,
    FirstByteTimeout,
    IdleTimeout,
    Timeouts,
    TotalTimeout,
    UpstreamError,
)

HALF = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab"
OFF = {"connect_s": 2.0, "pool_s": 2.0}


async def hang(line: Line) -> None:
    """Read the request and never answer."""
    await line.request()
    await line.gone()


async def stall(line: Line) -> None:
    """Answer half, and stall."""
    await line.request()
    await line.send(HALF)
    await line.gone()


async def drip(line: Line) -> None:
    """A byte of the body every 20 ms."""
    await line.request()
    await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    while True:
        await line.send(b"x")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("loop", LOOPS)
def test_first_byte_clock(loop: str) -> None:
    """No response head in time is FirstByteTimeout; interim responses do not count as one."""

    async def interim(line: Line) -> None:
        await line.request()
        while True:
            await line.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            await asyncio.sleep(0.02)

    async def main() -> None:
        async with Peer(hang, interim) as peer, a_client() as client:
            for _ in range(2):
                with pytest.raises(FirstByteTimeout) as caught:
                    await client.send(post(peer.url), Timeouts(first_byte_s=0.05))
                assert caught.value.sent
                await asyncio.wait_for(peer.seen_closed.wait(), 1)

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_idle_clock_runs_only_while_the_reader_waits(loop: str) -> None:
    """A stalled body is IdleTimeout; a slow reader, or a slow but steady body, is not."""

    async def main() -> None:
        async with Peer(stall, drip) as peer, a_client() as client:
            timeouts = Timeouts(idle_s=0.08)
            answer = await client.send(post(peer.url), timeouts)
            await asyncio.sleep(0.15)
            assert await answer.read() == b"ab"
            with pytest.raises(IdleTimeout):
                await answer.read()
            steady = await client.send(post(peer.url), timeouts)
            for _ in range(8):
                assert await steady.read()
            await steady.aclose()

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("script", [hang, stall, drip])
def test_total_clock(loop: str, script: object) -> None:
    """The whole call ends at total_s, whatever it is doing, and no sooner."""

    async def main() -> None:
        async with Peer(script) as peer, a_client() as client:  # type: ignore[arg-type]
            started = asyncio.get_running_loop().time()
            with pytest.raises(TotalTimeout):
                await read_all(await client.send(post(peer.url), Timeouts(total_s=0.1, idle_s=5.0)))
            assert asyncio.get_running_loop().time() - started >= 0.09

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_total_clock_frees_the_slot_of_an_absent_reader(loop: str) -> None:
    """A reader that never comes back does not hold a connection beyond total_s."""

    async def main() -> None:
        async with Peer(stall) as peer, a_client() as client:
            answer = await client.send(post(peer.url), Timeouts(total_s=0.05))
            await asyncio.wait_for(peer.seen_closed.wait(), 2)
            assert await answer.read() == b"ab"
            with pytest.raises(TotalTimeout):
                await answer.read()

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_clocks_of_one_call_do_not_reach_the_next(loop: str) -> None:
    """Short clocks of an earlier call on the same connection leave a later call alone."""

    async def slow_second(line: Line) -> None:
        await line.request()
        await line.send(OK)
        await line.request()
        await asyncio.sleep(0.15)
        await line.send(OK)
        await line.gone()

    async def main() -> None:
        async with Peer(slow_second) as peer, a_client() as client:
            short = Timeouts(first_byte_s=0.1, idle_s=0.1, total_s=0.1)
            await read_all(await client.send(post(peer.url), short))
            assert await read_all(await client.send(post(peer.url), Timeouts())) == b"ok"

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_connect_clock(loop: str) -> None:
    """A peer that accepts but never finishes the handshake is ConnectTimeout, then TotalTimeout."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
            async with a_client() as client:
                with pytest.raises(ConnectTimeout) as caught:
                    await client.send(get(url), Timeouts(connect_s=0.05))
                assert not caught.value.sent
                with pytest.raises(TotalTimeout) as total:
                    await client.send(get(url), Timeouts(connect_s=5, total_s=0.05))
                assert not total.value.sent

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_slow_reader_holds_the_sender(loop: str) -> None:
    """Unread body is bounded: the sender is held back by TCP, and goes on when we read."""
    size = 64 * 1024 * 1024
    written = 0

    async def flood(line: Line) -> None:
        nonlocal written
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        block = b"x" * 65536
        while written < size:
            await line.send(block)
            written += len(block)
        await line.gone()

    async def main() -> None:
        async with Peer(flood) as peer, a_client() as client:
            answer = await client.send(post(peer.url), QUICK)
            before = -1
            while written != before:
                before = written
                await asyncio.sleep(0.1)
            assert written < size / 2
            assert answer.unread < 1024 * 1024
            total = 0
            while not answer.ended:
                total += len(await answer.read())
            assert total == size

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_slow_peer_holds_the_body(loop: str) -> None:
    """A body's iterator is not pulled faster than the peer reads, and a stalled peer times out."""
    pulled = 0
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        nonlocal pulled
        try:
            while True:
                pulled += 1
                yield b"x" * 65536
        finally:
            closed.set()

    async def deaf(line: Line) -> None:
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(1.0)
        line.writer.transport.abort()

    async def main() -> None:
        async with Peer(deaf) as peer, a_client() as client:
            with pytest.raises(IdleTimeout):
                await client.send(post(peer.url, endless()), Timeouts(idle_s=0.1))
            assert pulled < 300
            await asyncio.wait_for(closed.wait(), 1)
            with pytest.raises(IdleTimeout):
                await client.send(post(peer.url, b"x" * 30_000_000), Timeouts(idle_s=0.1))
            with pytest.raises(TotalTimeout):
                await client.send(post(peer.url, b"x" * 30_000_000), Timeouts(total_s=0.1))

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_first_byte_clock_starts_when_the_body_is_out(loop: str) -> None:
    """A long upload does not count as waiting for the response."""

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(6):
            await asyncio.sleep(0.03)
            yield b"x"

    async def main() -> None:
        async with Peer(answering(OK), hang) as peer, a_client() as client:
            timeouts = Timeouts(first_byte_s=0.1)
            assert await read_all(await client.send(post(peer.url, slowly()), timeouts)) == b"ok"
            await client.aclose()
        async with Peer(hang) as peer, a_client() as client:
            with pytest.raises(FirstByteTimeout):
                await client.send(post(peer.url, slowly()), timeouts)

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["bytes", "iterator"])
def test_early_refusal_of_an_upload(loop: str, kind: str) -> None:
    """A refusal that comes before the body is out is delivered; the rest is not sent."""
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 10_000
                await asyncio.sleep(0)
        finally:
            closed.set()

    async def refuse(line: Line) -> None:
        await line.head()
        await line.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await line.gone()

    async def main() -> None:
        async with Peer(refuse, answering(OK)) as peer, a_client() as client:
            body = endless() if kind == "iterator" else b"x" * 60_000_000
            answer = await client.send(post(peer.url, body), QUICK)
            assert answer.status == 413
            assert await read_all(answer) == b"big"
            await asyncio.wait_for(peer.seen_closed.wait(), 2)
            if kind == "iterator":
                await asyncio.wait_for(closed.wait(), 2)
            assert await read_all(await client.send(post(peer.url), QUICK)) == b"ok"
            assert peer.accepted == 2

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_response_beside_the_upload(loop: str) -> None:
    """A 200 that starts while the body is sent does not stop it: both sides may stream."""

    async def echo(line: Line) -> None:
        await line.head()
        await line.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while size := int(await line.reader.readuntil(b"\r\n"), 16):
            data = (await line.reader.readexactly(size + 2))[:-2]
            await line.send(b"%x\r\n%b\r\n" % (len(data), data))
        await line.reader.readexactly(2)
        await line.send(b"0\r\n\r\n")
        await line.gone()

    async def main() -> None:
        step = asyncio.Event()

        async def stepwise() -> AsyncIterator[bytes]:
            for number in range(5):
                yield b"%d" % number
                await step.wait()
                step.clear()

        async with Peer(echo) as peer, a_client() as client:
            answer = await client.send(post(peer.url, stepwise()), QUICK)
            for number in range(5):
                assert await answer.read() == b"%d" % number
                step.set()
            assert await answer.read() == b""
            await eventually(lambda: next(iter(client.stats().values())).idle == 1)

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_body_iterator_that_fails(loop: str) -> None:
    """The iterator's own exception is what the caller gets, and the peer sees no complete body."""

    class ClientWentAway(Exception):
        pass

    async def broken() -> AsyncIterator[bytes]:
        yield b"abc"
        raise ClientWentAway

    async def cancelled() -> AsyncIterator[bytes]:
        yield b"abc"
        raise asyncio.CancelledError

    async def main() -> None:
        async with Peer(hang) as peer, a_client() as client:
            with pytest.raises(ClientWentAway):
                await client.send(post(peer.url, broken()), QUICK)
            await asyncio.wait_for(peer.seen_closed.wait(), 1)
            with pytest.raises(UpstreamError):
                await client.send(post(peer.url, cancelled()), QUICK)

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_cancelled_upload_closes_its_source(loop: str) -> None:
    """A call that is cancelled while sending closes the connection and the body's iterator."""
    closed = asyncio.Event()

    async def waiting() -> AsyncIterator[bytes]:
        try:
            yield b"abc"
            await asyncio.sleep(60)
        finally:
            closed.set()

    async def main() -> None:
        async with Peer(hang) as peer, a_client() as client:
            task = asyncio.create_task(client.send(post(peer.url, waiting()), QUICK))
            await eventually(lambda: peer.heads)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(closed.wait(), 1)
            await asyncio.wait_for(peer.seen_closed.wait(), 1)

    run(main, loop)
