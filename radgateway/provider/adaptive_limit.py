"""AdaptiveLimit: how many calls a provider takes at once, found out from what it refuses.

Nobody outside knows that number, and it is shared with whoever else uses the account. So the limit
grows by a little while it is in use, and falls by a share when the provider says that it is
overloaded: additive increase, multiplicative decrease, which also shares fairly between several
gateways that know nothing of each other (D. Chiu, R. Jain, 1989). By refusals and timeouts, and
not by latency as Envoy's and Netflix's gradients do: a model's latency follows the length of
what it writes, so a run of long answers would look like a queue.

It belongs to one provider's bulkhead. A limit on the whole gateway would let one provider that
is overloaded turn callers away from another that serves well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from radgateway.asgi import Clock
from radgateway.provider.slots import Slots

OVERLOADS = frozenset(
    {"http_429", "http_503", "http_529", "connect_timeout", "first_byte_timeout", "idle_timeout"}
)
"""Failures of an attempt that say that the provider has too much to do."""
OVERLOAD_STATUSES = frozenset({429, 503, 529})
"""The same as statuses. 504 is not among them: it is as often a question that takes too long."""

_MIN_REFUSED = 2
"""One refusal is an accident, and with so little traffic no limit is in use."""
_MOST_INTERVALS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveConfig:
    """How far and how fast the limit moves below `max_concurrency`, its ceiling."""

    min_concurrency: int = 10
    """Calls the limit never falls below, at least 1; the ceiling where that is lower. Enough to
    find out that the provider is back."""
    keep_ratio: float = 0.75
    """Share of the calls in progress that a cut leaves, 0.1 to 0.99. TCP keeps half, but has no
    callers to turn away."""
    tolerance_ratio: float = 0.05
    """Share of calls that may be refused without a cut, 0 to 0.9: some always are."""
    interval_s: float = 1.0
    """Seconds between two decisions, over 0 to 60, so one burst of refusals is one cut."""
    recovery_s: float = 60.0
    """Seconds in which the limit grows from its least to its ceiling while it is in use, 1 to
    3600. Growth by the number of calls would take an hour where a call takes half a minute."""

    def __post_init__(self) -> None:
        _within(self, "min_concurrency", 1, 1_000_000)
        _within(self, "keep_ratio", 0.1, 0.99)
        _within(self, "tolerance_ratio", 0, 0.9)
        _within(self, "interval_s", 0.001, 60)
        _within(self, "recovery_s", 1, 3600)


def _within(config: AdaptiveConfig, name: str, low: float, high: float) -> None:
    value = getattr(config, name)
    if not low <= value <= high:
        raise ValueError(f"{name} must be {low:g} to {high:g}, not {value}")


class AdaptiveLimit:
    """Moves the limit of `slots` between `min_concurrency` and what it was made with.

    While nothing is refused and the limit is at its ceiling it does nothing: `watching` is False
    and a good result need not be told. `on_change` gets every new limit.
    """

    __slots__ = (
        "_clock",
        "_exact",
        "_finished",
        "_least",
        "_on_change",
        "_opened",
        "_peak",
        "_refused",
        "ceiling",
        "config",
        "epoch",
        "slots",
        "watching",
    )

    def __init__(
        self,
        slots: Slots,
        config: AdaptiveConfig | None = None,
        *,
        clock: Clock = time.monotonic,
        on_change: Callable[[int], object] | None = None,
    ) -> None:
        self.slots = slots
        self.config = config or AdaptiveConfig()
        self.ceiling = slots.limit
        self.watching = False
        """Whether good results count now."""
        self.epoch = 0
        """How many cuts there were. Remember it when a call begins."""
        self._least = min(self.config.min_concurrency, self.ceiling)
        self._exact = float(self.ceiling)
        self._clock = clock
        self._on_change = on_change
        self._opened = 0.0
        self._finished = self._refused = self._peak = 0

    def resize(self, ceiling: int, config: AdaptiveConfig) -> None:
        """Move between other bounds from now on, and from where the limit stands."""
        if ceiling < 1:
            raise ValueError(f"max_concurrency must be at least 1, not {ceiling}")
        at_ceiling = self._exact >= self.ceiling
        self.ceiling, self.config = ceiling, config
        self._least = min(config.min_concurrency, ceiling)
        within = min(max(self._exact, self._least), ceiling)
        self._exact = float(ceiling if at_ceiling else within)
        self._move(int(self._exact))

    def settle(self, epoch: int, *, overloaded: bool) -> None:
        """Take note of a call that ended; its place has been given back.

        `epoch` is the one it began in. What began before the last cut tells of the load before it,
        and cuts no second time: so a cut comes at most once in a round trip.
        """
        now = self._clock()
        if not self.watching:
            self.watching = True
            self._open(now)
        elif now - self._opened >= self.config.interval_s:
            self._decide(now - self._opened)
            self._open(now)
        self._peak = max(self._peak, self.slots.in_use + 1)
        if epoch == self.epoch:
            self._finished += 1
            self._refused += overloaded

    def _open(self, now: float) -> None:
        self._opened = now
        self._finished = self._refused = self._peak = 0

    def _decide(self, elapsed_s: float) -> None:
        config = self.config
        # Where few calls end, decisions are rare; and what is long past says little of now.
        longest_s = _MOST_INTERVALS * config.interval_s
        if elapsed_s <= longest_s and self._too_many_refused():
            # Of what was in use, and not of a limit that nobody reached (RFC 5681 §3.1).
            self._exact = max(self._least, config.keep_ratio * min(self._exact, self._peak))
            self.epoch += 1
        elif self._exact < self.ceiling:
            if self._finished and self._peak * 2 >= self._exact:
                elapsed_s = min(elapsed_s, longest_s)
                step = (self.ceiling - self._least) * elapsed_s / config.recovery_s
                self._exact = min(float(self.ceiling), self._exact + step)
        else:
            self.watching = self._refused > 0
        self._move(int(self._exact))

    def _too_many_refused(self) -> bool:
        allowed = self.config.tolerance_ratio * self._finished
        return self._refused >= _MIN_REFUSED and self._refused > allowed

    def _move(self, limit: int) -> None:
        if limit != self.slots.limit:
            self.slots.limit = limit
            if self._on_change is not None:
                self._on_change(limit)
