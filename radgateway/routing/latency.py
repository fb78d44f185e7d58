"""LatencyBook: how long each candidate takes to its first byte, from the calls made to it."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

from radgateway.asgi import Clock
from radgateway.errors import OWN_REFUSALS
from radgateway.exchange import HEDGE_LOST, Attempt

if TYPE_CHECKING:
    from radgateway.routing.models import Candidate

SAMPLES = 128
"""Times kept per candidate. Enough for a quantile of 0.99, few enough to follow a change."""

_FAILED_S = 10.0
"""What a failed attempt counts as, in seconds to the first byte: bad news, not the end."""
_SORT_EVERY = 8
"""New times after which a quantile is worked out anew; sorting costs five microseconds."""


class LatencyBook:
    """An average and the latest times to the first byte per candidate.

    The average is an EWMA that decays with time, not with calls. A peak raises it at once and it
    falls with the time constant `decay_s` (Finagle's peak EWMA): a provider that slows down is
    left within one call, and forgiven gradually. One that is never called is forgiven too, down to
    nothing, so that it gets its next chance: were it judged by its last call alone, one failure
    would keep the fastest candidate out for good.

    Entries are of configured candidates, so their number is bounded by the configuration; a
    wildcard's are bounded by `max_entries`.
    """

    def __init__(self, clock: Clock, decay_s: float = 10.0, max_entries: int = 2_000) -> None:
        if decay_s <= 0:
            raise ValueError(f"decay_s must be more than 0 seconds, not {decay_s!r}")
        self._clock = clock
        self._decay_s = decay_s
        self._max_entries = max_entries
        self._known: dict[tuple[str, str], _Times] = {}

    def learn(self, attempt: Attempt) -> None:
        """Record an attempt that has ended. One that was abandoned says nothing."""
        first_byte, failure = attempt.first_byte, attempt.failure
        if failure is None or failure == HEDGE_LOST:
            if first_byte is None and failure is not None and not attempt.hedge:
                # It was given up for being late: its time is at least this. Left out, the times
                # kept would all be quick ones, and hedges would follow ever sooner.
                first_byte = attempt.ended
            if first_byte is not None:
                self.observe(attempt.provider, attempt.model, first_byte - attempt.started)
        elif failure not in OWN_REFUSALS:
            self.observe(attempt.provider, attempt.model, None)

    def observe(self, provider: str, model: str, first_byte_s: float | None) -> None:
        """Record an attempt: its seconds to the first byte, or None for a failure."""
        key, now = (provider, model), self._clock()
        seconds = _FAILED_S if first_byte_s is None else first_byte_s
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= self._max_entries:
                self._known.clear()
            known = self._known[key] = _Times(seconds, now)
        elif seconds >= known.average_s:
            known.average_s, known.at = seconds, now
        else:
            keep = math.exp(-(now - known.at) / self._decay_s)
            known.average_s = known.average_s * keep + seconds * (1 - keep)
            known.at = now
        if first_byte_s is not None:
            known.add(first_byte_s)

    def expect_s(self, candidate: Candidate) -> float:
        """Expected seconds to the first byte; 0 for one never tried, so that it gets tried."""
        known = self._known.get((candidate.provider, candidate.model))
        if known is None:
            return 0.0
        seconds = known.average_s
        idle_s = self._clock() - known.at - self._decay_s
        # Within one time constant of its last call the figure stands; candidates in use keep it.
        return seconds if idle_s <= 0 else seconds * math.exp(-idle_s / self._decay_s)

    def quantile_s(
        self, candidate: Candidate, quantile: float, min_samples: int = 1
    ) -> float | None:
        """Seconds within which that share of the latest calls had their first byte.

        None while fewer than `min_samples` calls are known.
        """
        known = self._known.get((candidate.provider, candidate.model))
        if known is None or known.count < max(1, min_samples):
            return None
        return known.quantile_s(quantile)


class _Times:
    """What is known of one candidate: the average, and a ring of the latest times."""

    __slots__ = ("_next_sort", "_ring", "_sorted", "at", "average_s", "count")

    def __init__(self, average_s: float, at: float) -> None:
        self.average_s = average_s
        self.at = at
        self.count = 0
        self._ring = array("d")
        self._sorted: list[float] = []
        self._next_sort = 0

    def add(self, seconds: float) -> None:
        if self.count < SAMPLES:
            self._ring.append(seconds)
        else:
            self._ring[self.count % SAMPLES] = seconds
        self.count += 1

    def quantile_s(self, quantile: float) -> float:
        if self.count >= self._next_sort:
            self._sorted = sorted(self._ring)
            self._next_sort = self.count + _SORT_EVERY
        # The nearest rank: the least time that so many of them do not exceed.
        return self._sorted[max(0, math.ceil(quantile * len(self._sorted)) - 1)]
