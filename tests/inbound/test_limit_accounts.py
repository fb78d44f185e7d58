"""Limiters that take over from one another are as one."""

from __future__ import annotations

import asyncio
from typing import Any

from drive import drive, http_scope
from hypothesis import given, settings
from hypothesis import strategies as st

from radgateway.inbound.limit_accounts import LimitAccounts
from radgateway.inbound.limit_set import LimitSet
from radgateway.inbound.limit_storage import BoundedMemoryStorage
from radgateway.inbound.rate_limit import RateLimiter

LIMITS = LimitSet(requests=("4/minute",), tokens=("900/minute",), max_concurrency=2)

steps = st.lists(
    st.sampled_from(["ask", "ask", "end", "reload", "10", "45"]), min_size=4, max_size=24
)


class World:
    """Requests that end by hand, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        storage = BoundedMemoryStorage(clock=lambda: self.now)
        self.accounts = LimitAccounts(storage, clock=lambda: self.now)
        self.running: list[tuple[asyncio.Future[None], asyncio.Task[Any]]] = []
        self.begun: list[asyncio.Future[None]] = []
        self.seen: list[str] = []
        self.reload()

    def reload(self) -> None:
        """A new limiter goes on with the accounts."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.begun.append(ends)
            await ends
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        self.limiter = RateLimiter(app, LIMITS, key=lambda scope: "me", storage=self.accounts)

    async def step(self, step: str) -> None:
        """One thing happens."""
        if step == "reload":
            self.reload()
        elif step == "end" and self.running:
            ends, task = self.running.pop(0)
            ends.set_result(None)
            self.seen.append(str((await task).headers))
        elif step == "ask":
            self.begun.clear()
            scope = http_scope("/other", headers=[("content-length", "800")])
            task = asyncio.create_task(drive(self.limiter, scope, b"x" * 800))
            while not self.begun and not task.done():
                await asyncio.sleep(0)
            if self.begun:
                self.running.append((self.begun[0], task))
                self.seen.append("begun")
            else:
                answer = await task
                self.seen.append(f"{answer.status} {answer.headers}")
        elif step.isdigit():
            self.now += float(step)


async def lived(happens: list[str]) -> list[str]:
    """What callers see of it."""
    world = World()
    for step in happens:
        await world.step(step)
    while world.running:
        await world.step("end")
    return world.seen


@settings(max_examples=120, deadline=None)
@given(steps)
def test_any_reloads_between_give_the_same_verdicts_as_none(happens: list[str]) -> None:
    """Requests, reserved tokens and places: every answer with its headers is the same."""
    without = [step for step in happens if step != "reload"]
    assert asyncio.run(lived(happens)) == asyncio.run(lived(without))


def test_the_limits_of_that_world_are_reached() -> None:
    """The comparison above is worth something: there are refusals of each kind in it."""
    seen = asyncio.run(
        lived(["ask", "ask", "ask", "end", "end", "ask", "ask", "end", "end", "ask"])
    )
    assert "begun" in seen
    assert sum(each.startswith("429") for each in seen) >= 2


def test_accounts_that_were_given_stay_open() -> None:
    """Closing one limiter closes nothing that another goes on with."""

    async def story() -> None:
        accounts = LimitAccounts()
        await RateLimiter(World().limiter.app, LIMITS, storage=accounts).aclose()
        assert accounts.local.look([]) == []
        await accounts.aclose()

    asyncio.run(story())
