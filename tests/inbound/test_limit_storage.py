from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter, SlidingWindowCounterRateLimiter

from radgateway.inbound.limit_storage import (
    BoundedMemoryStorage,
    SlidingWindows,
    Window,
    storage_of,
)


class Clock:
    def __init__(self, now: float = 600.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_the_previous_window_counts_as_far_as_it_overlaps() -> None:
    """Both counts roll on with the clock, and what is older than two windows is gone."""
    clock = Clock(600)
    windows = SlidingWindows(clock=clock)
    windows.add("k", 60, 6)
    assert windows.read("k", 60) == Window(0, 6, 60)
    clock.now = 675
    windows.add("k", 60)
    assert windows.read("k", 60) == Window(6, 1, 45)
    clock.now = 800
    assert windows.read("k", 60) == Window(0, 0, 40)
    assert windows.read("other", 60) == Window(0, 0, 40)


def test_the_number_of_keys_is_bounded_and_the_idle_ones_go_first() -> None:
    """However many callers come, so many are remembered; one who keeps coming stays."""
    windows = SlidingWindows(100, clock=Clock())
    windows.add("regular", 60)
    for number in range(1000):
        windows.add(f"passer-by {number}", 60)
        windows.add("regular", 60)
        assert len(windows) <= 100
    assert windows.read("regular", 60).current == 1001


def test_stale_keys_go_as_new_ones_come() -> None:
    """What has expired is dropped a little at a time, without a sweep and without a bound hit."""
    clock = Clock()
    windows = SlidingWindows(clock=clock)
    for number in range(50):
        windows.add(f"old {number}", 60)
    clock.now += 121
    for number in range(50):
        windows.add(f"new {number}", 60)
    assert len(windows) == 50


def test_a_hit_costs_the_same_with_many_keys() -> None:
    """No work is done per key held: the reason why this exists.

    Counted in steps of the dictionary, not in seconds, so that a busy machine can't fail it.
    """
    windows = SlidingWindows(clock=Clock())
    for number in range(20_000):
        windows.add(f"k{number}", 60)
    looked_at = 0

    class Counting(type(windows._counts)):  # type: ignore[misc]
        def __iter__(self):  # type: ignore[no-untyped-def]
            nonlocal looked_at
            for key in super().__iter__():
                looked_at += 1
                yield key

    windows._counts = Counting(windows._counts)
    looked_at = 0
    for number in range(100):
        windows.add(f"k{number}", 60)
        windows.add(f"new {number}", 60)
    assert looked_at <= 200


@given(
    st.integers(1, 8),
    st.lists(st.tuples(st.floats(0, 40), st.integers(1, 3)), max_size=80),
)
def test_a_limit_is_never_exceeded(limit: int, hits: list[tuple[float, int]]) -> None:
    """In no fixed window is more let in than the limit, and the weighted count stays within it."""

    async def story() -> None:
        clock = Clock()
        storage = BoundedMemoryStorage(clock=clock)
        strategy = SlidingWindowCounterRateLimiter(storage)
        item = parse(f"{limit}/minute")
        passed: dict[int, int] = {}
        for wait_s, cost in hits:
            clock.now += wait_s
            expected = await strategy.test(item, "bob", cost=cost)
            admitted = await strategy.hit(item, "bob", cost=cost)
            assert admitted == expected
            if admitted:
                window = int(clock.now // 60)
                passed[window] = passed.get(window, 0) + cost
                assert passed[window] <= limit
                stats = await strategy.get_window_stats(item, "bob")
                assert 0 <= stats.remaining < limit

    asyncio.run(story())


def test_it_agrees_with_the_librarys_own_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same hits at the same times are judged alike by both."""
    clock = Clock(6000)
    monkeypatch.setattr(time, "time", clock)

    async def story() -> None:
        ours = SlidingWindowCounterRateLimiter(BoundedMemoryStorage(clock=clock))
        theirs = SlidingWindowCounterRateLimiter(MemoryStorage())
        item = parse("5/minute")
        for step in range(200):
            clock.now += (step * 7919 % 23) / 2 + 0.0137
            assert await ours.hit(item, "a") == await theirs.hit(item, "a"), step

    asyncio.run(story())


def test_fixed_windows_work_too() -> None:
    """The plain counters behind the interface count, expire, clear and are bounded."""

    async def story() -> None:
        clock = Clock()
        storage = BoundedMemoryStorage(2, clock=clock)
        strategy = FixedWindowRateLimiter(storage)
        item = parse("2/minute")
        assert [await strategy.hit(item, "a") for _ in range(3)] == [True, True, False]
        assert (await strategy.get_window_stats(item, "a")).remaining == 0
        clock.now += 61
        assert await strategy.hit(item, "a")
        assert await strategy.hit(item, "b")
        assert await strategy.hit(item, "c")
        assert await storage.get(item.key_for("a")) == 0
        await strategy.clear(item, "c")
        assert await storage.get(item.key_for("c")) == 0
        assert await storage.check()
        assert await storage.reset() == 1

    asyncio.run(story())


def test_sliding_windows_can_be_cleared() -> None:
    """A limit can be lifted by forgetting what was counted."""

    async def story() -> None:
        strategy = SlidingWindowCounterRateLimiter(BoundedMemoryStorage(clock=Clock()))
        item = parse("1/minute")
        assert await strategy.hit(item, "a")
        assert not await strategy.hit(item, "a")
        await strategy.clear(item, "a")
        assert await strategy.hit(item, "a")

    asyncio.run(story())


def test_storages_are_named_by_uri() -> None:
    """`memory://` is ours, a Redis is reached through redis-py; what is not known is an error."""
    assert isinstance(storage_of("memory://"), BoundedMemoryStorage)
    assert type(storage_of("redis://127.0.0.1:1/0")).__name__ == "RedisStorage"
    with pytest.raises(Exception, match="nonsense"):
        storage_of("nonsense://x")
    with pytest.raises(ValueError, match="max_keys"):
        SlidingWindows(0)


def test_a_redis_is_waited_for_within_bounds_and_asked_once() -> None:
    """The library leaves its sockets unbounded, and its client would send a charge again whose
    answer was lost: that counts twice."""
    storage: Any = storage_of("redis://127.0.0.1:1/0", timeout_s=0.3)
    options = storage.bridge.get_connection().connection_pool.connection_kwargs
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (0.3, 0.3)
    tries: list[None] = []

    async def charge() -> None:
        tries.append(None)
        raise ConnectionError("no route")

    async def ignore(error: Exception) -> None:
        """Nothing to close."""

    with pytest.raises(ConnectionError):
        asyncio.run(options["retry"].call_with_retry(charge, ignore))
    assert len(tries) == 1
