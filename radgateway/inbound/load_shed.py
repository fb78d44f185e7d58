"""LoadShed: turn work away before the event loop falls behind.

A loop that is late is late for everybody: every request under way waits for each of its turns, so
accepting one more costs all the others. What counts is a lag that stands and not one that comes
and goes, as a queue's length says less than whether it ever empties (CoDel, RFC 8289 §3). Low
priority is turned away first, then normal, then all; and it is let in again one by one, a good
while after the loop is well in time, so that the two states do not chase each other.
"""

from __future__ import annotations

from collections.abc import Callable

from radgateway.exchange import Priority

RETRY_AFTER_S = 2.0
_SHED_FROM: dict[Priority, int] = {"low": 1, "normal": 2, "high": 3}
_MOST = 3
_LATE_SAMPLES = 2
"""Late ones in a row for the next level: half a second of the gateway's own samples."""
_CALM_SAMPLES = 8
"""Samples in a row at less than half of the threshold, for one level less: two seconds."""


class LoadShed:
    """Judges the loop's lag, one sample at a time, and says who is turned away.

    `on_change` gets each new level: 0 nobody, 1 low priority, 2 normal too, 3 everybody.
    """

    __slots__ = ("_calm", "_late", "_on_change", "level", "max_lag_s")

    def __init__(
        self, max_lag_s: float = 0.25, *, on_change: Callable[[int], object] | None = None
    ) -> None:
        if not max_lag_s > 0:
            raise ValueError(f"max_lag_s must be over 0, not {max_lag_s}")
        self.max_lag_s = max_lag_s
        self.level = 0
        self._late = self._calm = 0
        self._on_change = on_change

    def observe(self, lag_s: float) -> None:
        """Take note of how late the loop was."""
        late, calm = lag_s > self.max_lag_s, lag_s < self.max_lag_s / 2
        self._late = self._late + 1 if late else 0
        self._calm = self._calm + 1 if calm else 0
        if self._late >= _LATE_SAMPLES and self.level < _MOST:
            self._move(1)
        elif self._calm >= _CALM_SAMPLES and self.level:
            self._move(-1)

    def sheds(self, priority: Priority) -> bool:
        """Whether new work of this priority is turned away."""
        return self.level >= _SHED_FROM[priority]

    def _move(self, change: int) -> None:
        self.level += change
        self._late = self._calm = 0
        if self._on_change is not None:
            self._on_change(self.level)
