"""CallWindow: how the calls of the last seconds went, at a constant cost per call.

The breaker's memory. Buckets of one second in a ring with running sums (resilience4j's time-based
window): nothing is kept per call, and a ratio is read without a loop.
"""

from __future__ import annotations


class CallWindow:
    """Counts of the last `length_s` seconds, in buckets of one second with running sums."""

    __slots__ = ("_at", "_buckets", "calls", "failures", "slow")

    def __init__(self, length_s: int) -> None:
        self._buckets = [[0, 0, 0] for _ in range(length_s)]
        self._at = 0
        self.calls = self.failures = self.slow = 0

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """Count a call that ended at `now`."""
        bucket = self._advance(int(now))
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

    def _advance(self, second: int) -> list[int]:
        size = len(self._buckets)
        if second > self._at:
            if self.calls:
                for passed in range(max(self._at, second - size) + 1, second + 1):
                    bucket = self._buckets[passed % size]
                    self.calls -= bucket[0]
                    self.failures -= bucket[1]
                    self.slow -= bucket[2]
                    bucket[:] = (0, 0, 0)
            self._at = second
        return self._buckets[self._at % size]
