"""How the latest calls went, at a constant cost per call: by time or by number.

The breaker's memory. Running sums over a ring (resilience4j's sliding windows): a ratio is read
without a loop, and in a window of seconds nothing is kept per call.
"""

from __future__ import annotations

_FAILED, _SLOW = 1, 2


class TimeWindow:
    """Counts of the last `length_s` seconds, in buckets of one second."""

    __slots__ = ("_at", "_bucket", "_buckets", "calls", "failures", "slow")

    def __init__(self, length_s: int) -> None:
        self._buckets = [[0, 0, 0] for _ in range(length_s)]
        self._at = 0
        self._bucket = self._buckets[0]
        self.calls = self.failures = self.slow = 0

    def add(self, now: float, failed: bool, slow: bool) -> None:
        """Count a call that ended at `now`."""
        second = int(now)
        if second > self._at:
            self._advance(second)
        bucket = self._bucket
        bucket[0] += 1
        self.calls += 1
        if failed:
            bucket[1] += 1
            self.failures += 1
        if slow:
            bucket[2] += 1
            self.slow += 1

    def clear(self) -> None:
        """Forget everything."""
        for bucket in self._buckets:
            bucket[:] = (0, 0, 0)
        self.calls = self.failures = self.slow = 0

    def _advance(self, second: int) -> None:
        size = len(self._buckets)
        if self.calls:
            for passed in range(max(self._at, second - size) + 1, second + 1):
                bucket = self._buckets[passed % size]
                self.calls -= bucket[0]
                self.failures -= bucket[1]
                self.slow -= bucket[2]
                bucket[:] = (0, 0, 0)
        self._at = second
        self._bucket = self._buckets[second % size]


class CountWindow:
    """Counts of the last `length` calls, one byte each."""

    __slots__ = ("_next", "_ring", "calls", "failures", "slow")

    def __init__(self, length: int) -> None:
        self._ring = bytearray(length)
        self._next = 0
        self.calls = self.failures = self.slow = 0

    def add(self, _now: float, failed: bool, slow: bool) -> None:
        """Count a call, and forget the oldest where the window is full."""
        ring, at = self._ring, self._next
        if self.calls < len(ring):
            self.calls += 1
        elif ring[at]:
            self.failures -= ring[at] & _FAILED
            self.slow -= ring[at] >> 1
        ring[at] = (_FAILED if failed else 0) | (_SLOW if slow else 0)
        if failed:
            self.failures += 1
        if slow:
            self.slow += 1
        at += 1
        self._next = at if at < len(ring) else 0

    def clear(self) -> None:
        """Forget everything."""
        # What is left in the ring is not subtracted before it has been written anew.
        self._next = self.calls = self.failures = self.slow = 0
