"""What happens beside the requests: renewing, settling, and waiting for a store that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from virtual_time import now, run_virtual

from radgateway.inbound import limit_leases
from radgateway.inbound.limit_leases import BATCH, LeaseKeeper, Settlement
from radgateway.inbound.limit_ledger import NOTHING, Hold


class Store:
    """Notes what is written to it and when; can be away."""

    def __init__(self) -> None:
        self.away = self.hangs = False
        self.settled: list[tuple[float, Hold, bool]] = []
        self.renewed: list[tuple[float, Hold]] = []
        self.tries = 0

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        await self._write()
        self.settled += [(now(), s.hold, s.certain) for s in settlements]

    async def renew(self, holds: Sequence[Hold]) -> None:
        await self._write()
        self.renewed += [(now(), hold) for hold in holds]

    async def _write(self) -> None:
        self.tries += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise ConnectionError
        await asyncio.sleep(0)


def hold() -> Hold:
    unused: Any = None
    return Hold(unused, [])


def keeping(story: Callable[[LeaseKeeper, Store, list[int]], Awaitable[None]]) -> None:
    async def run() -> None:
        store, lost = Store(), list[int]()
        keeper = LeaseKeeper(
            store.settle,
            store.renew,
            lease_s=30,
            timeout_s=1.0,
            on_lost=lost.append,
            clock=now,
        )
        await story(keeper, store, lost)
        store.away = store.hangs = False
        await keeper.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(run())


async def others_gone() -> None:
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.001)


def test_a_lease_is_renewed_three_times_in_its_time_until_it_ends() -> None:
    """However long the stream is; and then nothing is left running."""

    async def story(keeper: LeaseKeeper, store: Store, lost: list[int]) -> None:
        long = hold()
        keeper.hold(long)
        await asyncio.sleep(95)
        assert [round(at) for at, _ in store.renewed] == [10, 20, 30, 40, 50, 60, 70, 80, 90]
        keeper.settle(long, NOTHING)
        await others_gone()
        assert [h for _, h, _ in store.settled] == [long]
        assert keeper.pending == 0
        assert len(store.renewed) == 9

    keeping(story)


def test_a_short_request_is_not_renewed() -> None:
    """It is settled at once, and costs one write."""

    async def story(keeper: LeaseKeeper, store: Store, lost: list[int]) -> None:
        for _ in range(5):
            short = hold()
            keeper.hold(short)
            await asyncio.sleep(2)
            keeper.settle(short, NOTHING)
            await asyncio.sleep(0.01)
        assert len(store.settled) == 5
        assert store.renewed == []

    keeping(story)


def test_many_are_written_together() -> None:
    """In batches, settlements before renewals, so that none is renewed after its end."""

    async def story(keeper: LeaseKeeper, store: Store, lost: list[int]) -> None:
        holds = [hold() for _ in range(BATCH * 3)]
        for each in holds:
            keeper.hold(each)
        await asyncio.sleep(10.5)
        assert len(store.renewed) == BATCH * 3
        assert store.tries <= 4
        for each in holds:
            keeper.settle(each, NOTHING)
        await others_gone()
        assert [h for _, h, _ in store.settled] == holds
        assert store.tries <= 8

    keeping(story)


def test_a_store_that_is_away_is_tried_once_a_second_and_nothing_is_lost() -> None:
    """What may have arrived is said to be uncertain, so that it is not counted twice."""

    async def story(keeper: LeaseKeeper, store: Store, lost: list[int]) -> None:
        store.away = True
        first, second = hold(), hold()
        keeper.hold(second)
        keeper.settle(first, NOTHING)
        await asyncio.sleep(4.5)
        assert store.tries == 5
        store.away = False
        store.hangs = True
        keeper.settle(second, NOTHING)
        await asyncio.sleep(4)
        assert keeper.pending == 2
        store.hangs = False
        await asyncio.sleep(3)
        assert [(h, certain) for _, h, certain in store.settled] == [
            (first, False),
            (second, True),
        ]
        assert lost == []

    keeping(story)


def test_what_waits_is_bounded(monkeypatch: Any) -> None:
    """The oldest go first, since they expire first; how many is told."""
    monkeypatch.setattr(limit_leases, "_QUEUE_MAX", 10)

    async def story(keeper: LeaseKeeper, store: Store, lost: list[int]) -> None:
        store.away = True
        holds = [hold() for _ in range(25)]
        keeper.settle(holds[0], NOTHING)
        await asyncio.sleep(0.1)
        for each in holds[1:]:
            keeper.settle(each, NOTHING)
        assert sum(lost) == 14
        store.away = False
        await others_gone()
        assert [h for _, h, _ in store.settled] == [holds[0], *holds[15:]]

    keeping(story)


def test_closing_writes_what_is_queued_and_waits_for_no_store_that_hangs() -> None:
    """A shutdown has an end; what could not be written is told."""

    async def story(keeper: LeaseKeeper, store: Store, lost: list[int]) -> None:
        keeper.hold(hold())
        keeper.settle(hold(), NOTHING)
        await keeper.aclose()
        assert len(store.settled) == 1
        store.hangs = True
        keeper.settle(hold(), NOTHING)
        began = now()
        await keeper.aclose()
        assert now() - began <= 2.1
        assert sum(lost) == 1
        assert keeper.pending == 0

    keeping(story)


def test_it_goes_on_in_another_event_loop() -> None:
    """A host that runs several, one after the other, finds it working in each."""
    store = Store()
    keeper = LeaseKeeper(store.settle, store.renew, lease_s=30, timeout_s=1.0)

    async def once() -> None:
        keeper.settle(hold(), NOTHING)
        async with asyncio.timeout(5):
            while keeper.pending:
                await asyncio.sleep(0.001)

    for count in (1, 2, 3):
        asyncio.run(once())
        assert len(store.settled) == count
