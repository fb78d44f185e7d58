"""Accounts of what callers have spent: how one stands against its limits, and charging all or none.

The rate limiter's thinking, apart from its answers. In this process a charge is one synchronous
step; against a shared store it has a time limit, and a store that fails is known to.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from limits import RateLimitItem
from limits.aio.storage import Storage
from limits.aio.storage.base import SlidingWindowCounterSupport
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from radgateway.asgi import Clock
from radgateway.inbound.limit_storage import SlidingWindows, Window, weight

OnStorageChange = Callable[[bool, str], None]

RETRY_STORAGE_S = 1.0
"""Seconds a failed storage is left alone; meanwhile no request waits for it."""


class Standing(NamedTuple):
    """How a caller stands against one limit."""

    item: RateLimitItem
    remaining: int
    wait_s: float
    """Seconds until one more is allowed; 0 if it is now."""
    reset_s: float
    """Seconds until all of it is again, if nothing is spent after this request."""


def standing(item: RateLimitItem, window: Window) -> Standing:
    """Work out what a window's counts mean for a limit."""
    limit, expiry_s = item.amount, item.get_expiry()
    used = weight(window, expiry_s)
    if used < limit:
        return Standing(item, limit - math.floor(used), 0.0, window.left_s + expiry_s)
    reset_s = window.left_s + (expiry_s if window.current else 0)
    if window.current < limit:
        # Until enough of the previous window has slid out.
        wait_s = window.left_s - (limit - window.current) * expiry_s / window.previous
    else:
        # Until this window is the previous one, and enough of it has slid out.
        wait_s = window.left_s + expiry_s * (1 - limit / window.current)
    return Standing(item, 0, wait_s, reset_s)


class LocalLedger:
    """Accounts in this process: a request against all its limits is one synchronous step."""

    def __init__(self, windows: SlidingWindows) -> None:
        self._windows = windows

    def charge(self, name: str, items: Sequence[RateLimitItem]) -> Standing:
        """Charge one request where every limit allows it; the tightest limit's standing before."""
        windows = self._windows
        if len(items) == 1:
            item, expiry_s = items[0], items[0].get_expiry()
            key = key_of(name, item)
            tightest = standing(item, windows.read(key, expiry_s))
            if tightest.remaining:
                windows.add(key, expiry_s)
            return tightest
        keys = [(key_of(name, item), item.get_expiry()) for item in items]
        tightest = _tightest(
            [
                standing(item, windows.read(key, expiry_s))
                for item, (key, expiry_s) in zip(items, keys, strict=True)
            ]
        )
        if tightest.remaining:
            for key, expiry_s in keys:
                windows.add(key, expiry_s)
        return tightest


class SharedLedger:
    """Accounts in a store shared with others, through the library's strategy, within a time.

    A store that fails is left alone for a second at a time, so that requests do not queue up
    behind its timeout; `on_change` hears of it once, and once when it is back.
    """

    def __init__(
        self,
        storage: Storage,
        timeout_s: float,
        on_change: OnStorageChange | None,
        clock: Clock,
    ) -> None:
        if not isinstance(storage, SlidingWindowCounterSupport):
            raise ValueError(f"{type(storage).__name__} can't count sliding windows")
        self._storage: SlidingWindowCounterSupport = storage
        self._strategy = SlidingWindowCounterRateLimiter(storage)
        self._timeout_s = timeout_s
        self._on_change = on_change
        self._clock = clock
        self._failing = False
        self._retry_at = 0.0

    async def charge(self, name: str, items: Sequence[RateLimitItem]) -> Standing | None:
        """As `LocalLedger.charge`, or None where the store gives no answer."""
        if self._failing:
            now = self._clock()
            if now < self._retry_at:
                return None
            self._retry_at = now + RETRY_STORAGE_S
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await self._charge(name, items)
        except TimeoutError:
            self._turn(failing=True, reason=f"no answer in {self._timeout_s:g} s")
            return None
        except Exception as error:
            # Each store's client has errors of its own; a limiter must survive all of them.
            self._turn(failing=True, reason=f"{type(error).__name__}: {error}")
            return None
        if self._failing:
            self._turn(failing=False, reason="")
        return result

    async def _charge(self, name: str, items: Sequence[RateLimitItem]) -> Standing:
        tightest = _tightest([await self._read(name, item) for item in items])
        if tightest.remaining:
            for item in items:
                if not await self._strategy.hit(item, name):
                    # Another instance took the last one since we looked.
                    late = await self._read(name, item)
                    return late._replace(remaining=0, wait_s=late.wait_s or 1.0)
        return tightest

    async def _read(self, name: str, item: RateLimitItem) -> Standing:
        expiry_s = item.get_expiry()
        previous, previous_s, current, kept_s = await self._storage.get_sliding_window(
            item.key_for(name), expiry_s
        )
        # A window is kept for one more after its own end, while it is the previous one.
        left_s = kept_s - expiry_s if kept_s > expiry_s else float(expiry_s)
        return standing(item, Window(previous, current, previous_s if previous else left_s))

    def _turn(self, *, failing: bool, reason: str) -> None:
        changed, self._failing = failing != self._failing, failing
        self._retry_at = self._clock() + RETRY_STORAGE_S
        if changed and self._on_change is not None:
            self._on_change(not failing, reason)


def key_of(name: str, item: RateLimitItem) -> str:
    """What `item.key_for(name)` returns, in a fifth of its time."""
    return f"{item.namespace}/{name}/{item.amount}/{item.multiples}/{item.GRANULARITY.name}"


def _tightest(standings: Sequence[Standing]) -> Standing:
    """The limit that refuses longest, else the one with the least left."""
    return min(standings, key=lambda s: (s.remaining, -s.wait_s))
