"""BreakerConfig: when a circuit opens, for how long, and how it closes again."""

from __future__ import annotations

from dataclasses import dataclass

_COUNTS = (
    "window_calls",
    "min_calls",
    "consecutive_failures",
    "half_open_calls",
    "credential_refusals",
)
_TIMES = (
    "slow_first_byte_s",
    "slow_gap_s",
    "open_s",
    "open_max_s",
    "half_open_max_s",
    "ramp_s",
    "rest_max_s",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """The settings of one circuit. Times are seconds, ratios over 0 to 1; None turns a rule off."""

    window_s: int = 30
    """Whole seconds looked back on, 1 to 3600: long enough for `min_calls` at modest traffic."""
    window_calls: int | None = None
    """Calls looked back on instead, 1 to 100,000, however long ago they were; None goes by
    `window_s`. For traffic so thin or uneven that no time suits it."""
    min_calls: int = 10
    """Calls in the window before a ratio means anything, at least 1."""
    failure_ratio: float = 0.5
    """Share of calls that failed, over 0 to 1, at which the circuit opens."""
    consecutive_failures: int | None = 10
    """Failures without a success between them, at least 1, at which it opens too, whatever the
    ratio; None goes by the ratio alone. A provider that dies after half a minute of good calls
    needs as many bad ones to reach a ratio of a half, which callers would pay for."""
    slow_first_byte_s: float | None = 20.0
    """Seconds to the first byte from which a call is slow; None turns it off. Never the whole
    time of a generation, which depends on what was asked for."""
    slow_gap_s: float | None = 20.0
    """Seconds without a byte in a body that had begun from which a call is slow; None turns it
    off. Shorter than the idle clock of `Deadline`, past which the call has failed."""
    slow_ratio: float = 0.8
    """Share of calls that were slow, over 0 to 1, at which the circuit opens."""
    open_s: float = 30.0
    """Seconds an open circuit refuses before the first probe; twice as long with each time it
    opens again, until it has stayed closed for as long as it was last open."""
    open_max_s: float = 300.0
    """Longest that a circuit stays open (Envoy's `max_ejection_time`), also where the provider
    asks for more by Retry-After. Never less than `open_s`."""
    open_jitter: float = 0.1
    """Share of the open time, 0 to 1, that is at random left out, so that replicas which opened
    together do not probe together."""
    half_open_calls: int = 2
    """Probes let through, all of which must succeed to close the circuit, at least 1."""
    half_open_max_s: float = 60.0
    """Seconds after which unsettled probes no longer block new ones. A probe is settled when its
    stream ends, and one that never settles must not close the provider off for good."""
    ramp_s: float | None = None
    """Seconds after closing over which the admitted share of calls grows from a tenth to all;
    None admits all at once. Only holds back calls that another provider of the model could take."""
    rest_max_s: float | None = 300.0
    """Longest rest after a 429 that says when to come back; None never rests. A full quota is
    no ill health: the circuit stays closed, and no attempt is wasted on it meanwhile."""
    credential_refusals: int | None = 5
    """Answers of 401 without a success between them, at least 1, at which the provider rests for
    `open_s`: its key is not accepted. Neutral to its health; None never rests for it."""

    def __post_init__(self) -> None:
        if not 1 <= self.window_s <= 3600 or self.window_s != int(self.window_s):
            raise ValueError(f"window_s must be whole seconds, 1 to 3600, not {self.window_s}")
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.window_calls is not None:
            if self.window_calls > 100_000:
                raise ValueError(f"window_calls must be at most 100000, not {self.window_calls}")
            if self.window_calls < self.min_calls:
                raise ValueError(
                    f"window_calls must be at least min_calls ({self.min_calls}), "
                    f"not {self.window_calls}: the ratios would never mean anything"
                )
        for name in ("failure_ratio", "slow_ratio"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be over 0 and at most 1, not {getattr(self, name)}")
        if not 0 <= self.open_jitter <= 1:
            raise ValueError(f"open_jitter must be 0 to 1, not {self.open_jitter}")
        for name in _TIMES:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be over 0, not {value}")
