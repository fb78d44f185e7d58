"""Where rate limits are counted: in this process at a constant cost, or in a shared store.

The `limits` library's own memory storage sweeps every key on each hit (measured: 3.2 ms at 10,000
keys). This one does a constant amount of work, holds a bounded number of keys, and stands behind
the library's storage interface, so its strategies work with it too.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any, NamedTuple

from limits.aio.storage import Storage
from limits.aio.storage.base import SlidingWindowCounterSupport
from limits.storage import storage_from_string

from radgateway.asgi import Clock

MAX_KEYS = 100_000
"""Keys kept by default: some 25 MB. The one that was used longest ago makes room for a new one."""

_SWEPT_PER_INSERT = 2


class Window(NamedTuple):
    """What was counted in the fixed window that is running and in the one before it."""

    previous: int
    current: int
    left_s: float
    """Seconds until the running window ends; the share of the previous one that still counts."""


class Counts:
    """Two neighbouring windows of one key, rolled on by whoever looks at them."""

    __slots__ = ("current", "expiry_s", "index", "previous")

    def __init__(self, index: int, expiry_s: int) -> None:
        self.index = index
        """Number of the window that was running when they were last looked at."""
        self.expiry_s = expiry_s
        self.previous = 0
        self.current = 0


class SlidingWindows:
    """Counters by key, of the sliding window kind: two numbers a key, whatever is counted.

    Synchronous, so what is read and then added on an event loop is one step.
    """

    def __init__(self, max_keys: int = MAX_KEYS, *, clock: Clock = time.monotonic) -> None:
        if max_keys < 1:
            raise ValueError(f"max_keys must be at least 1, not {max_keys}")
        self._max_keys = max_keys
        self.clock = clock
        self._counts: OrderedDict[str, Counts] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def at(self, key: str, expiry_s: int, now: float) -> Counts:
        """A key's counts as of now, to be read and added to; made where there are none."""
        index = int(now / expiry_s)
        counts = self._counts.get(key)
        if counts is None:
            self._sweep(now)
            counts = self._counts[key] = Counts(index, expiry_s)
            return counts
        self._counts.move_to_end(key)
        if counts.index != index:
            _roll(counts, index)
        return counts

    def read(self, key: str, expiry_s: int) -> Window:
        """The counts of a key's window of `expiry_s` seconds."""
        now = self.clock()
        index = int(now / expiry_s)
        left_s = (index + 1) * expiry_s - now
        counts = self._counts.get(key)
        if counts is None:
            return Window(0, 0, left_s)
        if counts.index != index:
            _roll(counts, index)
        return Window(counts.previous, counts.current, left_s)

    def add(self, key: str, expiry_s: int, amount: int = 1) -> None:
        """Count `amount` for a key now."""
        self.at(key, expiry_s, self.clock()).current += amount

    def correct(self, key: str, expiry_s: int, index: int, change: int) -> None:
        """Change what was counted in the window `index` once the real figure is known.

        Less is taken off that window, as far as it still counts. More was spent up to now, so it
        counts in the window that runs.
        """
        now = self.clock()
        if change > 0:
            self.at(key, expiry_s, now).current += change
            return
        counts = self._counts.get(key)
        if counts is None:
            return
        if counts.index != int(now / expiry_s):
            _roll(counts, int(now / expiry_s))
        if counts.index == index:
            counts.current = max(0, counts.current + change)
        elif counts.index == index + 1:
            counts.previous = max(0, counts.previous + change)

    def drop(self, key: str) -> None:
        """Forget a key."""
        self._counts.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._counts.clear()

    def _sweep(self, now: float) -> None:
        """Drop what is stale at the old end, a little with each new key, and keep the bound."""
        for _ in range(_SWEPT_PER_INSERT):
            oldest = next(iter(self._counts), None)
            if oldest is None:
                return
            counts = self._counts[oldest]
            if now < (counts.index + 2) * counts.expiry_s and len(self._counts) < self._max_keys:
                return
            del self._counts[oldest]


def _roll(counts: Counts, index: int) -> None:
    counts.previous = counts.current if index == counts.index + 1 else 0
    counts.current = 0
    counts.index = index


class BoundedMemoryStorage(Storage, SlidingWindowCounterSupport):
    """`SlidingWindows`, and plain counters, behind the async storage interface of `limits`."""

    STORAGE_SCHEME = None

    def __init__(self, max_keys: int = MAX_KEYS, *, clock: Clock = time.monotonic) -> None:
        super().__init__()
        self.windows = SlidingWindows(max_keys, clock=clock)
        self._clock = clock
        self._max_keys = max_keys
        self._counters: OrderedDict[str, tuple[int, float]] = OrderedDict()

    @property
    def base_exceptions(self) -> type[Exception]:
        """What the library may wrap; nothing here fails."""
        return ValueError

    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        """Count `amount` where the limit allows it."""
        if weight(self.windows.read(key, expiry), expiry) + amount >= limit + 1:
            return False
        self.windows.add(key, expiry, amount)
        return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Both windows' counts, each with the seconds it is kept."""
        window = self.windows.read(key, expiry)
        previous_s = window.left_s if window.previous else 0.0
        return window.previous, previous_s, window.current, window.left_s + expiry

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget a key's windows."""
        self.windows.drop(key)

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add to a plain counter, for the fixed window strategy."""
        value, expires = self._counters.get(key, (0, 0.0))
        now = self._clock()
        if now >= expires:
            value, expires = 0, now + expiry
        self._counters[key] = (value + amount, expires)
        self._counters.move_to_end(key)
        if len(self._counters) > self._max_keys:
            self._counters.popitem(last=False)
        return value + amount

    async def get(self, key: str) -> int:
        """A plain counter's value."""
        value, expires = self._counters.get(key, (0, 0.0))
        return value if self._clock() < expires else 0

    async def get_expiry(self, key: str) -> float:
        """When a plain counter starts over, in Unix seconds as the library wants them."""
        _, expires = self._counters.get(key, (0, 0.0))
        return time.time() + max(0.0, expires - self._clock())

    async def check(self) -> bool:
        """It is always there."""
        return True

    async def reset(self) -> int:
        """Forget everything; how many keys there were."""
        size = len(self.windows) + len(self._counters)
        self.windows.clear()
        self._counters.clear()
        return size

    async def clear(self, key: str) -> None:
        """Forget a plain counter."""
        self._counters.pop(key, None)


def weight(window: Window, expiry_s: int) -> float:
    """How much counts now: of the previous window, only the share that still overlaps."""
    return window.previous * window.left_s / expiry_s + window.current


def storage_of(uri: str, *, timeout_s: float = 0.5) -> Storage:
    """The storage a configuration names: `memory://`, or a shared one of the `limits` library.

    `redis://host:port/db` and its relatives go through redis-py; `timeout_s` seconds bound each
    socket operation, which the library leaves unbounded.
    """
    scheme = uri.partition("://")[0]
    if scheme == "memory":
        return BoundedMemoryStorage()
    if not scheme.startswith("async+"):
        uri = f"async+{uri}"
    options: dict[str, Any] = {"wrap_exceptions": True}
    if "redis" in scheme or "valkey" in scheme:
        options["socket_timeout"] = options["socket_connect_timeout"] = timeout_s
    if "redis" in scheme:
        from redis.asyncio.retry import Retry  # noqa: PLC0415 - an extra
        from redis.backoff import NoBackoff  # noqa: PLC0415

        options["implementation"] = "redispy"
        # A charge whose answer got lost may have been made; sent again it would count twice.
        options["retry"] = Retry(NoBackoff(), 0)
    storage = storage_from_string(uri, **options)
    if not isinstance(storage, Storage):
        raise ValueError(f"{uri!r} names no async storage")
    return storage


async def close_storage(storage: Storage) -> None:
    """Close the connections of a shared storage; the library itself has no way to."""
    client = getattr(getattr(storage, "bridge", None), "storage", None)
    aclose = getattr(client, "aclose", None)
    if aclose is not None:
        await aclose()
