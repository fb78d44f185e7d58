from __future__ import annotations

import asyncio

import pytest
from virtual_time import run_virtual

from radgateway.exchange import Exchange
from radgateway.inbound.drain import Drain
from radgateway.reload.retirement import Retirement


class Rig:
    """A drain whose requests come and go by hand, and the names of what was closed."""

    def __init__(self, *, most: int = 16) -> None:
        self.drain = Drain()
        self.retirement = Retirement(self.drain, most=most)
        self.closed: list[str] = []

    def enter(self) -> Exchange:
        """A request begins."""
        exchange = Exchange("r")
        task = asyncio.current_task()
        assert task is not None
        self.drain.enter(exchange, task, {"type": "http"})
        return exchange

    def retire(self, name: str, limit_s: float = 60.0) -> None:
        """A configuration is replaced."""

        async def close() -> None:
            self.closed.append(name)
            if name == "broken":
                raise OSError("stuck")

        self.retirement.retire([close], limit_s)


def test_it_waits_for_the_requests_of_that_moment_and_for_no_later_one() -> None:
    """Those that came after the swap use nothing of what is closed."""

    async def story() -> None:
        rig = Rig()
        first, second = rig.enter(), rig.enter()
        rig.retire("one")
        await asyncio.sleep(0)
        rig.enter()
        rig.drain.leave(first)
        await asyncio.sleep(5)
        assert rig.closed == []
        rig.drain.leave(second)
        await asyncio.sleep(1)
        assert rig.closed == ["one"]
        assert len(rig.retirement) == 0

    run_virtual(story())


def test_it_waits_no_longer_than_its_limit() -> None:
    """A request without an end keeps nothing for ever."""

    async def story() -> None:
        rig = Rig()
        rig.enter()
        rig.retire("one", 60)
        await asyncio.sleep(59)
        assert rig.closed == []
        await asyncio.sleep(2)
        assert rig.closed == ["one"]

    run_virtual(story())


def test_the_oldest_makes_room() -> None:
    """However many reloads there are, so many wait at most."""

    async def story() -> None:
        rig = Rig(most=2)
        rig.enter()
        for name in ("one", "two", "three"):
            rig.retire(name)
            await asyncio.sleep(1)
        assert rig.closed == ["one"]
        assert len(rig.retirement) == 2
        await rig.retirement.aclose()

    run_virtual(story())


def test_the_end_closes_all_of_them(caplog: pytest.LogCaptureFixture) -> None:
    """Without waiting for requests; one that fails to close keeps no other open, and is logged."""

    async def story() -> None:
        rig = Rig()
        rig.enter()
        for name in ("broken", "two"):
            rig.retire(name)
        await rig.retirement.aclose()
        assert rig.closed == ["broken", "two"]

    run_virtual(story())
    assert [r.getMessage() for r in caplog.records] == ["radgateway.config.leftover_not_closed"]
