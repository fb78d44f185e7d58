"""HTTP1Client: reuse, limits, queues, cancellation and closing, with slots counted throughout."""

from __future__ import annotations

import asyncio
import socket
import time

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
    ConnectFailed,
    ConnectionLost,
    HTTP1Client,
    PoolTimeout,
    Timeouts,
    TotalTimeout,
)
from radgateway.upstream.http1.alarm import NEVER
from radgateway.upstream.http1.pool import PoolStats


def only_stats(client: HTTP1Client) -> PoolStats:
    """The one pool's counts."""
    (stats,) = client.stats().values()
    return stats


async def hang(line: Line) -> None:
    """Read the request and never answer."""
    await line.request()
    await line.gone()


@pytest.mark.parametrize("loop", LOOPS)
def test_dead_idle_connection_is_replaced(loop: str) -> None:
    """A connection whose peer closed it at rest costs no error and sends nothing twice."""

    async def once(line: Line) -> None:
        await line.request()
        await line.send(OK)

    async def main() -> None:
        async with Peer(once) as peer, a_client() as client:
            for number in range(3):
                assert await read_all(await client.send(post(peer.url), QUICK)) == b"ok"
                await eventually(lambda: only_stats(client).idle == 0)
                assert len(peer.heads) == number + 1

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_death_the_loop_has_not_seen(loop: str) -> None:
    """A peer's close that waits in the socket is found by asking it, before anything is written."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(5)
            url = f"http://127.0.0.1:{server.getsockname()[1]}/"
            async with a_client() as client:
                for _ in range(2):
                    call = asyncio.create_task(client.send(get(url), QUICK))
                    accepted, _ = await asyncio.to_thread(server.accept)
                    await asyncio.to_thread(accepted.recv, 4096)
                    accepted.sendall(OK)
                    await read_all(await call)
                    # The loop sleeps from here to the next send, so no callback tells the client.
                    accepted.close()
                    time.sleep(0.06)

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_reused_connection_that_dies_is_not_resent(loop: str) -> None:
    """Once the request was written, a dead connection is an error that says so; nothing repeats."""

    async def dies_on_second(line: Line) -> None:
        await line.request()
        await line.send(OK)
        await line.request()

    async def main() -> None:
        async with Peer(dies_on_second) as peer, a_client() as client:
            await read_all(await client.send(post(peer.url), QUICK))
            with pytest.raises(ConnectionLost) as caught:
                await client.send(post(peer.url), QUICK)
            assert caught.value.sent
            await asyncio.sleep(0.02)
            assert len(peer.heads) == 2
            assert peer.accepted == 1

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_keepalive_expiry(loop: str) -> None:
    """A connection rests for the configured time at most, without traffic to remind anybody."""

    async def main() -> None:
        async with Peer(answering(OK)) as peer, a_client(keepalive_expiry_s=0.05) as client:
            await read_all(await client.send(post(peer.url), QUICK))
            assert only_stats(client) == (0, 1, 0)
            await eventually(lambda: peer.open == 0)
            assert only_stats(client) == (0, 0, 0)

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_busy_connection_does_not_expire(loop: str) -> None:
    """The expiry of its last rest does not end a connection in use."""

    async def slow_second(line: Line) -> None:
        await line.request()
        await line.send(OK)
        await line.request()
        await asyncio.sleep(0.2)
        await line.send(OK)
        await line.gone()

    async def main() -> None:
        async with Peer(slow_second) as peer, a_client(keepalive_expiry_s=0.1) as client:
            await read_all(await client.send(post(peer.url), QUICK))
            assert await read_all(await client.send(post(peer.url), QUICK)) == b"ok"
            assert peer.accepted == 1

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_limit_and_fifo(loop: str) -> None:
    """No more connections than allowed; those who wait are served in order."""
    order: list[int] = []

    async def main() -> None:
        async with Peer(answering(OK)) as peer, a_client(max_connections=2) as client:

            async def call(number: int) -> None:
                await read_all(await client.send(post(peer.url), QUICK))
                order.append(number)

            await asyncio.gather(*(call(number) for number in range(40)))
            assert order == sorted(order)
            assert peer.accepted == 2
            assert only_stats(client) == (0, 2, 0)

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_waiting_has_limits(loop: str) -> None:
    """Waiting ends after pool_s or total_s, and only so many may wait at all."""

    async def main() -> None:
        async with Peer(hang) as peer, a_client(max_connections=1, max_waiting=1) as client:
            holder = asyncio.create_task(client.send(post(peer.url), QUICK))
            await eventually(lambda: peer.heads)
            with pytest.raises(PoolTimeout) as caught:
                await client.send(post(peer.url), Timeouts(pool_s=0.02))
            assert not caught.value.sent
            with pytest.raises(TotalTimeout) as total:
                await client.send(post(peer.url), Timeouts(pool_s=None, total_s=0.02))
            assert not total.value.sent
            waiter = asyncio.create_task(client.send(post(peer.url), QUICK))
            await eventually(lambda: only_stats(client).waiting == 1)
            with pytest.raises(PoolTimeout):
                await client.send(post(peer.url), QUICK)
            for task in (waiter, holder):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert only_stats(client) == (0, 0, 0)

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_cancelled_while_a_slot_is_handed_over(loop: str) -> None:
    """A waiter that is cancelled in the very turn it is served passes the slot on."""

    async def main() -> None:
        async with Peer(hang, answering(OK)) as peer, a_client(max_connections=1) as client:
            holder = asyncio.create_task(client.send(post(peer.url), QUICK))
            await eventually(lambda: peer.heads)
            first = asyncio.create_task(client.send(post(peer.url), QUICK))
            second = asyncio.create_task(client.send(post(peer.url), QUICK))
            await eventually(lambda: only_stats(client).waiting == 2)
            holder.cancel()
            await asyncio.sleep(0)  # the holder's slot is handed to `first` in this turn
            first.cancel()
            assert await read_all(await second) == b"ok"
            with pytest.raises(asyncio.CancelledError):
                await first
            assert only_stats(client).active == 0

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("phase", ["head", "body", "between"])
def test_cancellation_closes_at_once(loop: str, phase: str) -> None:
    """A cancelled call's connection is closed and its slot free when the cancellation arrives."""

    async def script(line: Line) -> None:
        await line.request()
        if phase != "head":
            await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")
        await line.gone()

    async def main() -> None:
        async with Peer(script) as peer, a_client() as client:
            reading = asyncio.Event()

            async def call() -> None:
                answer = await client.send(post(peer.url), QUICK)
                try:
                    while phase == "body":
                        await answer.read()
                        reading.set()
                    reading.set()
                    await asyncio.sleep(60)
                finally:
                    await answer.aclose()

            task = asyncio.create_task(call())
            await eventually(lambda: peer.heads if phase == "head" else reading.is_set())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert only_stats(client) == (0, 0, 0)
            await asyncio.wait_for(peer.seen_closed.wait(), 1)

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_refused(loop: str) -> None:
    """A closed port or an unknown host is ConnectFailed, with nothing sent and no slot kept."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        async with a_client() as client:
            for host in (f"127.0.0.1:{port}", "no-such-host.invalid", "a" * 70 + ".invalid"):
                with pytest.raises(ConnectFailed) as caught:
                    await client.send(get(f"http://{host}/"), QUICK)
                assert not caught.value.sent

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_closed_as_soon_as_accepted(loop: str) -> None:
    """A server that hangs up on every connection is an error of the call, at whatever moment."""

    async def hang_up(line: Line) -> None:
        line.writer.transport.abort()

    async def main() -> None:
        async with Peer(hang_up) as peer, a_client(max_connections=4) as client:
            outcomes = await asyncio.gather(
                *(client.send(post(peer.url), QUICK) for _ in range(100)), return_exceptions=True
            )
            assert {type(outcome) for outcome in outcomes} <= {ConnectFailed, ConnectionLost}
            # The worst moment: the peer's close is seen before the caller hears it is connected.
            pool = client._pools[next(iter(client._pools))]
            opening = asyncio.create_task(pool.acquire(QUICK, NEVER))
            while not pool._open:
                await asyncio.sleep(0)
            for connection in tuple(pool._open):
                connection.transport.abort()
            with pytest.raises(ConnectFailed):
                await opening

    run(main, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_aclose_ends_everything(loop: str) -> None:
    """Closing the client fails calls in every phase with ConnectionLost, and later ones too."""

    async def streaming(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")
        await line.gone()

    async def main() -> None:
        silent = socket.create_server(("127.0.0.1", 0))
        async with Peer(hang, streaming) as peer:
            client = HTTP1Client(max_connections=2)
            head = asyncio.create_task(client.send(post(peer.url), QUICK))
            await eventually(lambda: len(peer.heads) == 1)
            answer = await client.send(post(peer.url), QUICK)
            assert await answer.read() == b"ab"
            body = asyncio.create_task(answer.read())
            waiting = asyncio.create_task(client.send(post(peer.url), QUICK))
            # A TLS handshake that nobody answers: a connection being opened.
            url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
            opening = asyncio.create_task(client.send(get(url), QUICK))
            await asyncio.sleep(0.02)
            await client.aclose()
            for task, sent in ((head, True), (body, True), (waiting, False), (opening, False)):
                with pytest.raises(ConnectionLost) as caught:
                    await task
                assert caught.value.sent is sent
            assert all(stats == (0, 0, 0) for stats in client.stats().values())
            with pytest.raises(ConnectionLost):
                await client.send(post(peer.url), QUICK)
            await client.aclose()
        silent.close()

    run(main, loop)


def test_many_urls_keep_the_caches_bounded() -> None:
    """Neither URLs nor origins are remembered without end."""

    async def main() -> None:
        async with a_client() as client:
            for number in range(3000):
                client._resolve("GET", f"http://127.0.0.1:{1 + number}/{number}")
            assert len(client._targets) <= 1024
            assert len(client._pools) <= 256

    run(main)


@pytest.mark.parametrize(
    "options",
    [{"max_connections": 0}, {"max_waiting": -1}, {"keepalive_expiry_s": -1.0}],
)
def test_unusable_settings(options: dict[str, float]) -> None:
    """A limit that makes no sense is refused where it is set, by its name."""
    (name,) = options
    with pytest.raises(ValueError, match=name):
        HTTP1Client(**options)  # type: ignore[arg-type]
