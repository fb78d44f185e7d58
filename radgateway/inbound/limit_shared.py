"""Accounts in a store shared with others: asked within a time, and left alone while it fails.

Redis is asked by scripts of ours. Any other async storage of `limits` that can slide counts
requests through the library's own strategy, one limit after the other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import RedisStorage, Storage
from limits.aio.storage.base import SlidingWindowCounterSupport
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from radgateway.asgi import Clock
from radgateway.inbound.limit_ledger import Standing, Verdict, cost_of, judge, refusing
from radgateway.inbound.limit_plan import Costs, Limit
from radgateway.inbound.limit_redis import RedisStore
from radgateway.time_limit import within

_log = logging.getLogger("radgateway.rate_limit")

_LOOK_S = 1.0
"""Seconds that a look may take: no request waits for it."""

OnStorageChange = Callable[[bool, str], None]

RETRY_STORAGE_S = 1.0
"""Seconds a failed storage is left alone; meanwhile no request waits for it."""


class Store(Protocol):
    """Where charges are made; raises what its client raises."""

    async def take(self, limits: Sequence[Limit], costs: Costs) -> Verdict:
        """Charge a request where every enforced limit allows it, or nothing at all."""


class SharedLedger:
    """A store with a time limit and a memory of its failing.

    A store that fails is left alone for a second at a time, so that requests do not queue up
    behind its timeout; `on_change` hears of it once, and once when it is back.
    """

    def __init__(
        self,
        store: Store,
        timeout_s: float,
        on_change: OnStorageChange | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._store = store
        self.timeout_s = timeout_s
        """May be changed while it is in use."""
        self._on_change = on_change
        self._clock = clock
        self._failing = False
        self._retry_at = 0.0

    async def take(self, limits: Sequence[Limit], costs: Costs) -> Verdict | None:
        """Charge a request, or None where the store gives no answer."""
        if self._failing:
            now = self._clock()
            if now < self._retry_at:
                return None
            self._retry_at = now + RETRY_STORAGE_S
        try:
            verdict = await within(self.timeout_s, self._store.take(limits, costs))
        except TimeoutError:
            self._turn(failing=True, reason=f"no answer in {self.timeout_s:g} s")
            return None
        except Exception as error:
            # Each store's client has errors of its own; a limiter must survive all of them.
            self._turn(failing=True, reason=f"{type(error).__name__}: {error}")
            return None
        if self._failing:
            self._turn(failing=False, reason="")
        return verdict

    async def look(self, limits: Sequence[Limit]) -> list[Standing] | None:
        """How a request would stand, with nothing charged; None where the store does not say."""
        if not isinstance(self._store, RedisStore):
            return None
        try:
            return await within(_LOOK_S, self._store.look(limits))
        except Exception as error:
            # As above; and it is a question that can be asked again.
            _log.debug("radgateway.rate_limit.look_failed: %s", error)
            return None

    async def aclose(self) -> None:
        """Write what is still to be settled."""
        if isinstance(self._store, RedisStore):
            await self._store.aclose()

    def _turn(self, *, failing: bool, reason: str) -> None:
        changed, self._failing = failing != self._failing, failing
        self._retry_at = self._clock() + RETRY_STORAGE_S
        if changed and self._on_change is not None:
            self._on_change(not failing, reason)


class LibraryStore:
    """Requests counted by the library's strategy, for a storage that has no script of ours.

    Looks at all limits before it charges any; between the two another process may take the last.
    """

    def __init__(self, storage: Storage) -> None:
        if not isinstance(storage, SlidingWindowCounterSupport):
            raise ValueError(f"{type(storage).__name__} can't count sliding windows")
        self._storage: SlidingWindowCounterSupport = storage
        self._strategy = SlidingWindowCounterRateLimiter(storage)

    async def take(self, limits: Sequence[Limit], costs: Costs) -> Verdict:
        """Charge a request where every limit allows it."""
        standings = [await self._stands(limit, costs) for limit in limits]
        refused = refusing(standings, shadow=False)
        if refused is not None:
            return Verdict(standings, refused)
        shadowed = refusing(standings, shadow=True)
        for standing in standings:
            limit = standing.limit
            if limit.shadow and shadowed is not None:
                continue
            if not await self._strategy.hit(_item(limit), limit.key) and not limit.shadow:
                # Another instance took the last one since we looked.
                late = await self._stands(limit, costs)
                return Verdict(standings, late._replace(allowed=False, wait_s=late.wait_s or 1.0))
        return Verdict(standings, None, shadowed)

    async def _stands(self, limit: Limit, costs: Costs) -> Standing:
        window_s = limit.window_s
        previous, previous_s, current, kept_s = await self._storage.get_sliding_window(
            _item(limit).key_for(limit.key), window_s
        )
        # A window is kept for one more after its own end, while it is the previous one.
        left_s = kept_s - window_s if kept_s > window_s else float(window_s)
        left_s = previous_s if previous else left_s
        return judge(limit, cost_of(limit, costs), previous, current, left_s)


def _item(limit: Limit) -> RateLimitItem:
    """The limit as the library's own; a window is some number of seconds."""
    return RateLimitItemPerSecond(limit.amount, limit.window_s)


def store_of(
    storage: Storage, *, lease_s: float, on_lost: Callable[[int], object] | None = None
) -> Store:
    """What counts in a storage of the library. Raises `ValueError` for one that can't slide."""
    if isinstance(storage, RedisStorage):
        return RedisStore(storage, lease_s=lease_s, on_lost=on_lost)
    return LibraryStore(storage)
