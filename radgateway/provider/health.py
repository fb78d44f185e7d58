"""ProviderHealth: how a provider has been doing, from the attempts that were made at it anyway.

Passive: it asks nobody and costs nobody tokens. It is told of each attempt once, when that has
ended, and keeps the last few; everything that is shown is worked out when somebody looks.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from radgateway.asgi import Clock
from radgateway.errors import OWN_REFUSALS
from radgateway.exchange import HEDGE_LOST, Attempt

_NOT_ITS_FAULT = OWN_REFUSALS | {HEDGE_LOST}
_KEPT = 256
"""Attempts looked back on; at 95 % that leaves a dozen samples to tell a percentile by."""
_EWMA_SHARE = 0.1
"""Of each new sample in the moving average: a change shows after some ten attempts."""


class LastError(NamedTuple):
    """What went wrong last."""

    reason: str
    """A code of the error catalogue, or `http_` and the status."""
    status: int | None
    at: float
    """Unix seconds."""


class Health(NamedTuple):
    """A provider as its last attempts show it. None where there are none to tell."""

    attempts: int
    failures: int
    error_ratio: float | None
    """Failures per attempt; our own refusals and what the client abandoned are neither."""
    first_byte_ewma_s: float | None
    first_byte_p50_s: float | None
    first_byte_p95_s: float | None
    last_error: LastError | None
    retry_after_s: float | None
    """Seconds for which the provider still asks to be left alone."""


class ProviderHealth:
    """Fed with attempts that have ended; looks back `window_s` seconds and 256 attempts at most.

    The provider is `failing` when of at least `min_attempts` within `failing_s` seconds a share
    of `failing_ratio` failed; what follows from it is for others to say.
    """

    __slots__ = (
        "_clock",
        "_failing_ratio",
        "_failing_s",
        "_last_error",
        "_leave_until",
        "_min_attempts",
        "_recent",
        "_wall",
        "_window_s",
    )

    def __init__(
        self,
        *,
        window_s: float = 300.0,
        failing_s: float = 30.0,
        failing_ratio: float = 0.5,
        min_attempts: int = 10,
        clock: Clock = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._window_s = window_s
        self._failing_s = failing_s
        self._failing_ratio = failing_ratio
        self._min_attempts = min_attempts
        self._clock = clock
        self._wall = wall
        # When it ended, seconds to its first byte or less than 0, and whether it failed.
        self._recent: deque[tuple[float, float, bool]] = deque(maxlen=_KEPT)
        self._last_error: LastError | None = None
        self._leave_until = 0.0

    def observe(self, attempt: Attempt) -> None:
        """Take note of an attempt that has ended."""
        ended, failure = attempt.ended, attempt.failure
        if ended is None:
            return
        if failure is None:
            if attempt.status is not None:  # else the client left before any answer
                first_byte = attempt.first_byte
                first_byte_s = -1.0 if first_byte is None else first_byte - attempt.started
                self._recent.append((ended, first_byte_s, False))
        elif failure not in _NOT_ITS_FAULT:
            self._recent.append((ended, -1.0, True))
            self._last_error = LastError(failure, attempt.status, self._wall())
            if attempt.retry_after_s is not None:
                self._leave_until = max(self._leave_until, ended + attempt.retry_after_s)

    @property
    def failing(self) -> bool:
        """Whether most of the last attempts failed."""
        since = self._clock() - self._failing_s
        attempts = failures = 0
        for ended, _, failed in reversed(self._recent):
            if ended < since:
                break
            attempts += 1
            failures += failed
        return attempts >= self._min_attempts and failures >= self._failing_ratio * attempts

    def read(self) -> Health:
        """What the attempts of the window come to."""
        now = self._clock()
        recent = [entry for entry in self._recent if entry[0] >= now - self._window_s]
        failures = sum(failed for _, _, failed in recent)
        waits = [first_byte_s for _, first_byte_s, _ in recent if first_byte_s >= 0]
        average = waits[0] if waits else None
        for wait_s in waits[1:]:
            assert average is not None
            average += _EWMA_SHARE * (wait_s - average)
        waits.sort()
        left_s = self._leave_until - now
        return Health(
            len(recent),
            failures,
            failures / len(recent) if recent else None,
            average,
            _quantile(waits, 0.5),
            _quantile(waits, 0.95),
            self._last_error,
            left_s if left_s > 0 else None,
        )


class HealthBook:
    """The health of several providers by name; give its `observe` to a router's `on_attempt`."""

    def __init__(self, providers: Mapping[str, ProviderHealth]) -> None:
        self.providers = dict(providers)

    def observe(self, attempt: Attempt) -> None:
        """Take note of an attempt at one of them."""
        health = self.providers.get(attempt.provider)
        if health is not None:
            health.observe(attempt)


def _quantile(ordered: list[float], share: float) -> float | None:
    """The nearest-rank quantile of sorted values."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
