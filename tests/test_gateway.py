from __future__ import annotations

import asyncio
from typing import Any

import pytest
from drive import drive, http_scope

from radgateway.gateway import Gateway
from radgateway.inbound.drain import Drain


async def ok(scope: Any, receive: Any, send: Any) -> None:
    """An app."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


class Part:
    """Something with a life; it may refuse to begin or to end."""

    def __init__(self, *, fails: bool = False) -> None:
        self.begun = self.ended = 0
        self.fails = fails

    def begin(self) -> None:
        self.begun += 1
        if self.fails:
            raise OSError("no room")

    async def end(self) -> None:
        self.ended += 1
        if self.fails:
            raise OSError("stuck")


def gateway(*parts: Part) -> Gateway:
    """A gateway of these parts."""
    return Gateway(
        ok,
        paths={},
        drain=Drain(),
        on_start=[part.begin for part in parts],
        closers=[part.end for part in parts],
    )


async def run_lifespan(app: Gateway, *phases: str) -> list[str]:
    """Send lifespan messages and collect the answers."""
    answers: list[str] = []
    left = list(phases)

    async def receive() -> dict[str, Any]:
        return {"type": f"lifespan.{left.pop(0)}"}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    return answers


def test_it_starts_once_whoever_is_first() -> None:
    """A request before the host's lifespan starts it; the lifespan does not start it again."""

    async def story() -> None:
        part = Part()
        app = gateway(part)
        await drive(app, http_scope("/", method="GET"))
        async with app.lifespan():
            await drive(app, http_scope("/", method="GET"))
        assert (part.begun, part.ended) == (1, 1)

    asyncio.run(story())


def test_a_server_hears_of_its_start_and_end() -> None:
    """Both phases are answered."""
    part = Part()
    answers = asyncio.run(run_lifespan(gateway(part), "startup", "shutdown"))
    assert answers == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert (part.begun, part.ended) == (1, 1)


def test_a_start_that_fails_is_told_and_not_taken_for_one() -> None:
    """The server gets the reason, and a later request does not find it half started."""

    async def story() -> None:
        failing, after = Part(fails=True), Part()
        app = gateway(failing, after)
        with pytest.raises(OSError, match="no room"):
            await run_lifespan(app, "startup")
        with pytest.raises(OSError, match="no room"):
            await drive(app, http_scope("/", method="GET"))
        assert after.begun == 0

    asyncio.run(story())


def test_one_part_that_cannot_close_keeps_none_open() -> None:
    """All are closed in their order; the error is still raised."""

    async def story() -> None:
        first, stuck, last = Part(), Part(fails=True), Part()
        app = gateway(first, last)
        app.closers.insert(1, stuck.end)
        with pytest.raises(OSError, match="stuck"):
            await app.aclose()
        assert (first.ended, stuck.ended, last.ended) == (1, 1, 1)

    asyncio.run(story())
