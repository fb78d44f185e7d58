"""HTTP1Client under random trouble: the counts stay right, and all is free in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from upstream_rig import LOOPS, OK, Line, Peer, a_client, eventually, post, read_all, run

from radgateway.upstream import HTTP1Client, Timeouts, UpstreamError

MAX_CONNECTIONS = 3
SERVER = ["ok", "slow", "close", "drop", "stall", "cut", "garbage", "refuse", "excess", "late"]


@dataclass(frozen=True)
class Call:
    """One caller: what the server does to it, and when it gives up."""

    server: str
    starts_ms: int
    cancel_ms: int | None
    timeouts_ms: int | None
    upload: str
    leaves_early: bool


CALLS = st.builds(
    Call,
    server=st.sampled_from(SERVER),
    starts_ms=st.integers(0, 15),
    cancel_ms=st.none() | st.integers(0, 25),
    timeouts_ms=st.none() | st.integers(1, 25),
    upload=st.sampled_from(["small", "large", "iterator"]),
    leaves_early=st.booleans(),
)


async def serve(line: Line) -> None:
    """Do to each request what its header asks for."""
    while True:
        head = await line.head()
        kind = head.split(b"x-do: ")[1].split(b"\r\n")[0].decode()
        if kind == "refuse":
            await line.send(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno")
            return
        line.reader._buffer[:0] = head  # type: ignore[attr-defined]
        line.peer.heads.pop()
        await line.request()
        if kind == "drop":
            return
        if kind == "stall":
            await line.gone()
            return
        if kind == "slow":
            await asyncio.sleep(0.01)
        if kind == "cut":
            await line.send(OK[:-1])
            return
        if kind == "garbage":
            await line.send(b"HTTP/1.1 twohundred\r\n\r\n")
            return
        await line.send(OK + OK if kind == "excess" else OK)
        if kind == "close":
            return
        if kind == "late":
            await asyncio.sleep(0.002)
            await line.send(b"HTTP/1.1 408 Timeout\r\nconnection: close\r\n\r\n")
            return


async def pieces() -> AsyncIterator[bytes]:
    """A body that takes its time."""
    for _ in range(3):
        yield b"p" * 1000
        await asyncio.sleep(0.001)


async def make(client: HTTP1Client, url: str, call: Call) -> None:
    """One caller's life. Whatever comes, comes as an UpstreamError."""
    await asyncio.sleep(call.starts_ms / 1000)
    seconds = None if call.timeouts_ms is None else call.timeouts_ms / 1000
    timeouts = Timeouts(
        connect_s=1.0, pool_s=seconds or 1.0, first_byte_s=seconds, idle_s=seconds, total_s=0.5
    )
    body = {"small": b"hello", "large": b"x" * 300_000, "iterator": None}[call.upload]
    headers = [(b"x-do", call.server.encode())]
    request = post(url, pieces() if body is None else body, headers)
    try:
        answer = await client.send(request, timeouts)
        try:
            if not call.leaves_early:
                data = await read_all(answer)
                # A server's unasked 408 may cross with a request, and then looks like its answer.
                assert data == {413: b"no", 408: b""}.get(answer.status, b"ok")
        finally:
            await answer.aclose()
    except UpstreamError:
        pass


@pytest.mark.parametrize("loop", LOOPS)
@settings(max_examples=25, deadline=None, phases=[Phase.generate])  # timing does not shrink
@given(calls=st.lists(CALLS, min_size=1, max_size=25))
def test_counts_survive_anything(loop: str, calls: list[Call]) -> None:
    """Slots never exceed the limit, come back whatever happened, and the client still works."""

    async def main() -> None:
        async with (
            Peer(serve) as peer,
            a_client(max_connections=MAX_CONNECTIONS, max_waiting=10) as client,
        ):
            tasks = []
            for call in calls:
                task = asyncio.create_task(make(client, peer.url, call))
                if call.cancel_ms is not None:
                    asyncio.get_running_loop().call_later(call.cancel_ms / 1000, task.cancel)
                tasks.append(task)
            while not all(task.done() for task in tasks):
                check(client)
                await asyncio.sleep(0.001)
            for task in tasks:
                assert task.cancelled() or task.exception() is None, task
            check(client)
            (stats,) = client.stats().values() or [(0, 0, 0)]
            assert (stats[0], stats[2]) == (0, 0)
            await eventually(lambda: peer.open <= MAX_CONNECTIONS)
            # A server that closes unannounced may hit the very next call; give it time to close.
            await asyncio.sleep(0.03)
            # Nothing that went before may reach a later caller.
            for _ in range(MAX_CONNECTIONS + 1):
                request = post(peer.url, headers=[(b"x-do", b"ok")])
                assert await read_all(await client.send(request, Timeouts())) == b"ok"

    run(main, loop)


def check(client: HTTP1Client) -> None:
    """The counts are within their limits."""
    for stats in client.stats().values():
        assert stats.active >= 0
        assert 0 <= stats.active + stats.idle <= MAX_CONNECTIONS
        assert stats.waiting <= 10
        assert not stats.waiting or stats.active == MAX_CONNECTIONS
