"""LastKnown: how old the secrets in force are, how long they may serve, and when to ask again.

Plain reckoning over a clock that is handed in; it neither asks nor holds any secret.
"""

from __future__ import annotations

import random
import time

from radgateway.asgi import Clock

_FIRST_AGAIN_S = 1.0
_DOUBLINGS_MAX = 12
_LEFT_ALONE_MAX_S = 600.0
"""What asks for more is asked again all the same: secrets that are not read expire."""


class LastKnown:
    """The standing of the last good reading of a store. All times in seconds.

    It is `ok` until a reading fails, then `stale` until one succeeds, and `expired` once it is
    older than `max_stale_s` (None: never): a key may have been revoked since, and must not work for
    ever. `age_s` is how old it is to begin with, and `stale` whether newer could be had then.
    """

    def __init__(
        self,
        *,
        refresh_s: float,
        max_stale_s: float | None,
        age_s: float = 0.0,
        stale: bool = False,
        clock: Clock = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._refresh_s = refresh_s
        self._max_stale_s = max_stale_s
        self._clock = clock
        self._rng = rng or random.Random()
        now = clock()
        self._good_at = now - max(0.0, age_s)
        self._failures = 1 if stale else 0
        self._next_at = now + (0.0 if stale else self._spread(refresh_s))

    @property
    def age_s(self) -> float:
        """Since the last good reading."""
        return self._clock() - self._good_at

    @property
    def state(self) -> str:
        """ok, stale or expired."""
        if self._max_stale_s is not None and self.age_s > self._max_stale_s:
            return "expired"
        return "stale" if self._failures else "ok"

    @property
    def wait_s(self) -> float:
        """Until the next reading is due; 0 where it is."""
        return max(0.0, self._next_at - self._clock())

    def succeeded(self, age_s: float = 0.0) -> None:
        """Take note of a good reading, made this long ago."""
        now = self._clock()
        self._good_at = max(self._good_at, now - max(0.0, age_s))
        self._failures = 0
        self._next_at = now + self._spread(self._refresh_s)

    def failed(self, retry_after_s: float | None = None) -> None:
        """Take note of a failed one; `retry_after_s` is how long the store asked to be left alone.

        It is asked again soon, then ever later, up to `refresh_s`.
        """
        wait_s = _FIRST_AGAIN_S * 2 ** min(self._failures, _DOUBLINGS_MAX)
        wait_s = self._spread(min(wait_s, self._refresh_s))
        self._failures += 1
        self._next_at = self._clock() + max(wait_s, min(retry_after_s or 0.0, _LEFT_ALONE_MAX_S))

    def _spread(self, seconds: float) -> float:
        """Spread, so that replicas don't go together."""
        return seconds * self._rng.uniform(0.9, 1.1)
