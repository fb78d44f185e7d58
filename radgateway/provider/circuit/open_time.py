"""OpenTime: for how long a circuit opens.

Longer each time it opens again without a lasting recovery, so that a provider that is down for an
hour is not probed every half minute; a little less at random, so that replicas that opened
together do not probe together; and never less than the provider itself asked for, within the cap.
"""

from __future__ import annotations

import random

from radgateway.provider.circuit.config import BreakerConfig

_MOST_DOUBLINGS = 16
_LONG_AGO = float("-inf")


class OpenTime:
    """Works out open times in seconds from what happened before."""

    __slots__ = ("_asked_until", "_closed_at", "_config", "_last_s", "_rng", "openings")

    def __init__(self, config: BreakerConfig, rng: random.Random) -> None:
        self._config = config
        self._rng = rng
        self.forget()

    def forget(self) -> None:
        """Begin as if the circuit had never opened."""
        self.openings = 0
        """Times it opened without a lasting recovery between them."""
        self._last_s = 0.0
        self._closed_at = _LONG_AGO
        self._asked_until = 0.0

    def ask(self, until: float) -> None:
        """Note until when the provider asked to be left alone."""
        self._asked_until = max(self._asked_until, until)

    def closed(self, now: float) -> None:
        """The circuit has closed."""
        self._closed_at = now
        self._asked_until = 0.0

    def left_closed(self, now: float) -> None:
        """The circuit is closed no more: was it for as long as it was last open?"""
        if now - self._closed_at >= self._last_s:
            self.openings = 0

    def next_s(self, now: float) -> float:
        """How long it stays open that opens now."""
        config = self._config
        most_s = max(config.open_s, config.open_max_s)
        time_s = min(config.open_s * (1 << min(self.openings, _MOST_DOUBLINGS)), most_s)
        self.openings += 1
        self._last_s = time_s
        time_s *= 1 - config.open_jitter * self._rng.random()
        return max(time_s, min(self._asked_until - now, most_s))
