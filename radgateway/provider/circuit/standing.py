"""How a circuit stands: the words its policy, logs, metrics and management share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

State = Literal["closed", "open", "half_open"]
Mode = Literal["auto", "isolated", "disabled", "metrics_only"]
Verdict = Literal["ok", "fail", "ignore", "limited", "unauthorized"]
"""How a call went: well; badly; so that it says nothing about health, because its caller left or
asked for nonsense or the refusal was ours; or refused for a full quota or for its key."""
Reason = Literal["open", "probing", "ramp", "resting", "isolated"]
"""Why a call is not admitted."""
Note = Literal["held", "let_go", "resting", "mode"]
"""What changes about a circuit besides its state."""

STATES: Final[tuple[State, ...]] = get_args(State)
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)


@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    """A circuit at one moment, for whoever shows it."""

    name: str | None
    state: State
    mode: Mode
    calls: int
    """In the window, as the next two."""
    failures: int
    slow: int
    consecutive_failures: int
    open_for_s: float | None
    """Seconds since it left the closed state; None while closed."""
    retry_after_s: float
    """Seconds until asking again may help; 0 if it would help now."""
    resting: bool
    """Left alone because the provider asked for it, or does not accept its key."""
    held: bool
    """Would be open, were it not the last of its group that takes calls."""
    probes: int
    """Probes under way."""
    openings: int
    """Times it opened without a lasting recovery between them."""
    generation: int
    """Goes up with every change; results of calls of an earlier one do not count."""
    last_failure: str | None
    """The reason of the latest failure, however long ago."""
