from __future__ import annotations

import asyncio
from typing import Any

import pytest
from drive import no_other_tasks
from hypothesis import given
from hypothesis import strategies as st

from radgateway.inbound.held_receive import HeldReceive

DISCONNECT = {"type": "http.disconnect"}


def part(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


class Server:
    """A `receive` that hands out what is put in, and complains of a second consumer."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.asked = 0
        self._busy = False

    async def receive(self) -> dict[str, Any]:
        assert not self._busy, "two consumers at once"
        self._busy = True
        self.asked += 1
        try:
            return await self.messages.get()
        finally:
            self._busy = False


async def ticks(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@given(
    st.lists(st.binary(max_size=8), min_size=1, max_size=6), st.integers(0, 8), st.integers(0, 8)
)
def test_nothing_is_lost_whenever_the_wait_ends(
    bodies: list[bytes], before: int, read_at: int
) -> None:
    """The app gets every message, once and in order, however many came while it waited."""

    async def story() -> None:
        server, left = Server(), []
        messages = [part(body, more=n < len(bodies) - 1) for n, body in enumerate(bodies)]
        messages.append(DISCONNECT)
        held = HeldReceive(server.receive, lambda: left.append(True))
        got: list[Any] = []

        async def app() -> None:
            while len(got) < len(messages):
                got.append(await held.receive())

        task: asyncio.Task[None] | None = None
        for number, message in enumerate(messages):
            if number == min(read_at, len(messages) - 1):
                task = asyncio.create_task(app())
            if number >= before:
                await ticks()
            server.messages.put_nowait(message)
        assert task is not None
        await task
        assert all(one is other for one, other in zip(got, messages, strict=True))
        held.close()
        assert not await no_other_tasks()

    asyncio.run(story())


def test_a_client_that_leaves_is_noticed() -> None:
    """With the body read or not, the disconnect is told at once."""

    async def story() -> None:
        server, left = Server(), []
        HeldReceive(server.receive, lambda: left.append(True))
        server.messages.put_nowait(part(b"{}", more=False))
        await ticks()
        assert not left
        server.messages.put_nowait(DISCONNECT)
        await ticks()
        assert left == [True]
        assert not await no_other_tasks()

    asyncio.run(story())


def test_a_large_body_is_not_taken_into_memory() -> None:
    """Beyond a bound no more is asked for until the app reads."""

    async def story() -> None:
        server = Server()
        held = HeldReceive(server.receive, lambda: None)
        for _ in range(10):
            server.messages.put_nowait(part(b"x" * 30_000, more=True))
        await ticks(30)
        assert server.messages.qsize() == 7
        server.messages.put_nowait(part(b"end", more=False))
        size = 0
        while True:
            message = await held.receive()
            size += len(message["body"])
            if not message["more_body"]:
                break
        assert size == 300_003
        held.close()

    asyncio.run(story())


def test_a_read_under_way_is_handed_on_and_not_cancelled() -> None:
    """A server may lose what a cancelled read would have brought (granian's is Rust's)."""

    async def story() -> None:
        server = Server()
        held = HeldReceive(server.receive, lambda: None)
        await ticks()
        impatient = asyncio.create_task(held.receive())
        await ticks()
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
        server.messages.put_nowait(part(b"kept", more=False))
        assert (await held.receive())["body"] == b"kept"
        assert server.asked == 1
        held.close()
        assert not await no_other_tasks()

    asyncio.run(story())


def test_a_receive_that_fails_fails_for_the_app() -> None:
    """What goes wrong in reading ahead is raised where it is read, and by nobody's task."""

    async def broken() -> Any:
        raise RuntimeError("a bug")

    async def story() -> None:
        held = HeldReceive(broken, lambda: None)
        await ticks()
        with pytest.raises(RuntimeError, match="a bug"):
            await held.receive()
        held.close()
        unread = HeldReceive(broken, lambda: None)
        await ticks()
        unread.close()

    asyncio.run(story())
