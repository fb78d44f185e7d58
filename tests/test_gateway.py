from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest
from drive import drive, http_scope
from virtual_time import run_virtual

from radgateway.gateway import Gateway
from radgateway.inbound.drain import Drain, DrainGuard, DrainLimits


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


def test_what_it_starts_is_no_part_of_the_first_request() -> None:
    """Where a host gives no lifespan, and has bound its own ids to the request's context."""
    bound: ContextVar[str] = ContextVar("bound", default="nothing")
    seen: list[str] = []

    async def beside() -> None:
        seen.append(bound.get())

    async def run() -> None:
        tasks: list[asyncio.Task[None]] = []
        app = Gateway(
            ok,
            paths={},
            drain=Drain(),
            on_start=[lambda: tasks.append(asyncio.create_task(beside()))],
        )
        bound.set("a request")
        await drive(app, http_scope("/"))
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert seen == ["nothing"]


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


def test_a_server_that_gives_no_warning_still_lets_work_end() -> None:
    """`lifespan.shutdown` with requests in flight: they get their time, then the parts close."""

    async def story() -> None:
        part = Part()
        drain = Drain(DrainLimits(timeout_s=1, stream_timeout_s=1))

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(scope["seconds"])
            assert part.ended == 0
            await ok(scope, receive, send)

        app = Gateway(DrainGuard(slow, drain), paths={}, drain=drain, closers=[part.end])
        tasks = [
            asyncio.create_task(drive(app, {**http_scope("/"), "seconds": seconds}))
            for seconds in (0.5, 4.0)
        ]
        await asyncio.sleep(0.1)
        assert await run_lifespan(app, "shutdown") == ["lifespan.shutdown.complete"]
        assert [(await task).status for task in tasks] == [200, 503]
        assert part.ended == 1

    run_virtual(story())


def test_a_prefix_is_served_beside_the_data_plane() -> None:
    """Below it, everything is one app's; elsewhere nothing changes, also under a mount."""

    async def story() -> None:
        async def below(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 202, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        app = Gateway(ok, paths={"/health": ok}, below={"/v0/x/": below}, drain=Drain())
        paths = {
            "/v0/x/a": 202,
            "/v0/x/a/b/": 202,
            "/v0/x/": 200,
            "/v0/x": 200,
            "/v0/y": 200,
            "/health": 200,
        }
        for path, status in paths.items():
            for root_path in ("", "/ai"):
                scope = http_scope(path, root_path=root_path)
                assert (await drive(app, scope)).status == status

    asyncio.run(story())


def test_what_is_beside_the_data_plane_asks_to_close_while_draining() -> None:
    """A probe or a scraper that keeps its connection is not what a process waits for."""

    async def story() -> None:
        app = Gateway(ok, paths={"/health": ok}, drain=Drain())
        assert (await drive(app, http_scope("/health"))).header("connection") is None
        app.drain.begin()
        assert (await drive(app, http_scope("/health"))).header("connection") == "close"

    asyncio.run(story())
