"""Ramp: after a circuit has closed, admit a growing share of the calls.

Two good probes do not show that a provider bears the whole load again (Envoy's slow start). A
share of the calls is admitted as that share of each tenth of a second, so asking changes nothing
and there is an honest answer to how long to wait; at random the tenths begin elsewhere each time,
so that replicas do not admit in step.
"""

from __future__ import annotations

import random

_FLOOR = 0.1
_SLICE_S = 0.1


class Ramp:
    """A ramp of `length_s` seconds from a tenth to all; None never holds anything back."""

    __slots__ = ("_length_s", "_phase_s", "_rng", "_until")

    def __init__(self, length_s: float | None, rng: random.Random) -> None:
        self._length_s = length_s
        self._rng = rng
        self._phase_s = 0.0
        self._until = 0.0

    def begin(self, now: float) -> None:
        """Start at the bottom."""
        if self._length_s is not None:
            self._until = now + self._length_s
            self._phase_s = self._rng.random() * _SLICE_S

    def end(self) -> None:
        """Hold nothing back any more."""
        self._until = 0.0

    def over(self, now: float) -> bool:
        """Whether everything passes."""
        return now >= self._until

    def wait_s(self, now: float) -> float:
        """Seconds until calls are admitted again; 0 while they are."""
        if self._length_s is None or now >= self._until:
            return 0.0
        share = max(_FLOOR, 1 - (self._until - now) / self._length_s)
        at = (now + self._phase_s) % _SLICE_S
        return 0.0 if at < share * _SLICE_S else _SLICE_S - at
