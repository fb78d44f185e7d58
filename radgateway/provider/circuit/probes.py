"""Probes: the permits of a half-open circuit.

A round of probes lasts only so long: one that never settles (a stream that hangs) must not close
a provider off for good, which happened to a gateway for six days with one probe lost. Then a new
round begins, whose probes are counted apart from those of the older ones.
"""

from __future__ import annotations

from radgateway.provider.circuit.config import BreakerConfig


class Probes:
    """Counts one half-open state's probes. `round` is 0 while there are none."""

    __slots__ = ("_most", "_proved", "_round_s", "in_flight", "round", "until")

    def __init__(self, config: BreakerConfig) -> None:
        self._most = config.half_open_calls
        self._round_s = config.half_open_max_s
        self.end()

    def begin(self, now: float) -> None:
        """Begin a half-open state's first round."""
        self.end()
        self.round = 1
        self.until = now + self._round_s

    def end(self) -> None:
        """The circuit is half-open no more."""
        self.round = 0
        self.in_flight = 0
        """Of this round."""
        self.until = 0.0
        self._proved = 0

    def available(self, now: float) -> bool:
        """Whether one more may pass."""
        return self.in_flight + self._proved < self._most or now >= self.until

    def take(self, now: float) -> int:
        """Let one pass; its round."""
        if now >= self.until:
            self.round += 1
            self.in_flight = 0
            self.until = now + self._round_s
        self.in_flight += 1
        return self.round

    def give_back(self, number: int) -> None:
        """A probe of that round has ended, whatever it showed. Plain calls are of round 0."""
        if number and number == self.round:
            self.in_flight -= 1

    def prove(self) -> bool:
        """One went well, of whichever round; whether that is enough."""
        self._proved += 1
        return self._proved >= self._most
