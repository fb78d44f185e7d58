"""BreakerPolicy: the state of one circuit, who may pass it, and what the passing shows.

M. Nygard, *Release It!*, ch. 5, with ratios over a rolling window, so that one success among many
failures resets nothing. pybreaker holds the state, tells its listeners and takes commands
(`policy.breaker.open()`); who is admitted and what counts is decided here, because pybreaker
admits everybody to a half-open circuit and counts a cancelled call as a failure, or, if told not
to, as a success. A call carries the generation of the state it began under (gobreaker's idea),
and its result counts in no other.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from radgateway.asgi import Clock
from radgateway.provider.circuit.config import BreakerConfig
from radgateway.provider.circuit.credential import CredentialRest
from radgateway.provider.circuit.ejection import EjectionGroup
from radgateway.provider.circuit.holder import STATES, circuit, tell
from radgateway.provider.circuit.open_time import OpenTime
from radgateway.provider.circuit.probes import Probes
from radgateway.provider.circuit.ramp import Ramp
from radgateway.provider.circuit.standing import (
    MODES,
    BreakerSnapshot,
    Mode,
    Note,
    Reason,
    State,
    Verdict,
)
from radgateway.provider.circuit.window import CountWindow, TimeWindow

_NEVER = float("inf")
_PROBE_WAIT_S = 1.0


class Admission(NamedTuple):
    """The right to make one call, to be settled with `BreakerPolicy.release`."""

    generation: int
    round: int
    """0 for a plain call; a probe's says with which others it was let through."""


_UNCOUNTED: Final = Admission(-1, 0)


class BreakerPolicy:
    """The state of one circuit. Every method is synchronous, so atomic on an event loop.

    `breaker` is the pybreaker circuit: add listeners to it, or open and close it by hand. An
    opening by hand ends like any other, with a probe; `set_mode("isolated")` lasts.

    `on_change(old, new)` hears of each new state, `on_note(note)` of what else changed, and
    `on_refused(reason)` of each call that was not admitted, or under `metrics_only` would not
    have been.
    """

    def __init__(
        self,
        config: BreakerConfig | None = None,
        *,
        clock: Clock = time.monotonic,
        rng: random.Random | None = None,
        on_change: Callable[[str, str], None] | None = None,
        on_note: Callable[[Note], None] | None = None,
        on_refused: Callable[[Reason], None] | None = None,
        storage: Any = None,
        name: str | None = None,
    ) -> None:
        self.config = config = config or BreakerConfig()
        self.clock = clock
        self._on_change = on_change
        self._on_note = on_note
        self._on_refused = on_refused
        self._groups: tuple[EjectionGroup, ...] = ()
        rng = rng or random.Random()
        self._window: TimeWindow | CountWindow = (
            TimeWindow(int(config.window_s))
            if config.window_calls is None
            else CountWindow(config.window_calls)
        )
        self._open_time = OpenTime(config, rng)
        self._probes = Probes(config)
        self._ramp = Ramp(config.ramp_s, rng)
        self._credential = CredentialRest(config)
        self._slow_s = _or_never(config.slow_first_byte_s)
        self._slow_gap_s = _or_never(config.slow_gap_s)
        self._mode: Mode = "auto"
        self._state: State = "closed"
        self._open_until = 0.0
        self._left_closed = 0.0
        self._in_a_row = 0
        self._held = False
        self._last_failure: str | None = None
        self._generation = 0
        self._pass = Admission(0, 0)
        # Whether everybody passes and nothing has to be looked at.
        self._at_large = True
        self.breaker = circuit(self._enter, storage, name)
        if self.breaker.current_state != "closed":
            self._enter(STATES[self.breaker.current_state])

    @property
    def state(self) -> State:
        """`closed`, `open` or `half_open`. An open circuit half-opens with its first probe."""
        return self._state

    @property
    def mode(self) -> Mode:
        """Who decides: the policy (`auto`), or whoever set another mode."""
        return self._mode

    @property
    def held(self) -> bool:
        """Whether it would be open, were it not the last of its group that takes calls."""
        return self._held

    @property
    def ejected(self) -> bool:
        """Whether it keeps callers away at this moment, all of them or all but its probes."""
        if self._mode not in ("auto", "isolated"):
            return False
        return self._state != "closed" or self.clock() < self._credential.until

    def join(self, group: EjectionGroup) -> None:
        """Ask a group before opening from now on. A breaker may stand in several."""
        self._groups += (group,)

    def leave_groups(self) -> None:
        """Ask nobody any more."""
        self._groups = ()

    def new_credential(self) -> None:
        """Calls are made with another key from now on: what was refused to the old one is past."""
        self._credential.forget()
        self._look_around()

    def available(self) -> bool:
        """Whether a call would be admitted now. Changes nothing."""
        return self._at_large or self._mode == "metrics_only" or self.blocked_by() is None

    def blocked_by(self) -> Reason | None:
        """Why a call would not be admitted now, or None; under `metrics_only` it would be."""
        if self._at_large:
            return None
        now = self.clock()
        if self._mode == "isolated":
            return "isolated"
        if now < self._credential.until:
            return "resting"
        if self._state == "open":
            return "open" if now < self._open_until else None
        if self._state == "half_open":
            return None if self._probes.available(now) else "probing"
        return "ramp" if self._ramp.wait_s(now) > 0 and self._has_spare() else None

    def retry_after_s(self) -> float:
        """Seconds until asking again may help; 0 if it would help now."""
        reason = self.blocked_by()
        if reason is None or self._mode == "metrics_only":
            return 0.0
        if reason == "isolated":
            return self.config.open_s  # nobody knows
        now = self.clock()
        if reason == "probing":
            return min(self._probes.until - now, _PROBE_WAIT_S)
        if reason == "ramp":
            return self._ramp.wait_s(now)
        open_until = self._open_until if self._state == "open" else 0.0
        return max(open_until, self._credential.until) - now

    def passed_over(self) -> None:
        """Tell that a call went elsewhere, because this circuit would not have admitted it."""
        reason = self.blocked_by()
        if reason is not None and self._on_refused is not None:
            self._on_refused(reason)

    def acquire(self) -> Admission | None:
        """Admit a call, or None where it must be refused."""
        if self._at_large:
            return self._pass
        reason = self.blocked_by()
        if reason is not None:
            if self._on_refused is not None:
                self._on_refused(reason)
            return _UNCOUNTED if self._mode == "metrics_only" else None
        if self._state == "closed":
            self._look_around()
            return self._pass
        if self._state == "open":
            self.breaker.half_open()
        return Admission(self._generation, self._probes.take(self.clock()))

    def release(
        self,
        admission: Admission,
        verdict: Verdict,
        first_byte_s: float | None = None,
        gap_s: float = 0.0,
        *,
        retry_after_s: float | None = None,
        reason: str | None = None,
    ) -> None:
        """Settle a call. What began under an earlier state of the circuit no longer counts.

        `first_byte_s` and `gap_s` are seconds to the first byte and of the longest silence after
        it, `retry_after_s` what the provider asked for, `reason` why the call failed.
        """
        if admission.generation != self._generation:
            return
        if admission.round:
            self._probes.give_back(admission.round)
        if verdict == "ok":
            failed = False
            if self._credential.refusals:
                self._credential.refusals = 0
        elif verdict == "fail":
            failed = True
            self._last_failure = reason or "failed"
            if retry_after_s is not None:
                self._open_time.ask(self.clock() + retry_after_s)
        else:
            if verdict != "ignore" and self._credential.note(verdict, retry_after_s, self.clock()):
                self._look_around()
                self._note("resting")
            return
        slow = gap_s >= self._slow_gap_s or (
            first_byte_s is not None and first_byte_s >= self._slow_s
        )
        if len(self.breaker.listeners) > 1:
            tell(self.breaker, failed=failed)
        if admission.round:
            self._judge_probe(failed or slow)
            return
        self._in_a_row = self._in_a_row + 1 if failed else 0
        window = self._window
        window.add(self.clock(), failed, slow)
        if window.failures or window.slow or self._held:
            self._judge_window()

    def hint(self) -> bool:
        """Another process's circuit has opened: probe before trusting the provider further.

        Hearsay does not open a closed circuit but half-opens it, and not even that where no other
        provider could take the calls meanwhile. True where it did.
        """
        if self._state != "closed" or self._mode in ("isolated", "disabled"):
            return False
        if not self._has_spare() or not self._may_open():
            return False
        self.breaker.half_open()
        return True

    def set_mode(self, mode: Mode) -> None:
        """Take the decision out of the policy's hands, or give it back with `auto`.

        `isolated` admits nobody until told otherwise, `disabled` everybody and counts nothing;
        `metrics_only` admits everybody and goes through the states as if it did not. A mode
        begins with a closed circuit; after isolation the provider is probed first.
        """
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        if mode == self._mode:
            return
        was, self._mode = self._mode, mode
        if mode == "isolated":
            self.breaker.open()
        elif was == "isolated" and mode != "disabled":
            self.breaker.half_open()
        else:
            self.breaker.close()
        self._note("mode")

    def reset(self) -> None:
        """Forget what was learned and close the circuit. A mode that was set stays."""
        self._open_time.forget()
        self._credential.forget()
        self._last_failure = None
        if self._mode == "isolated":
            self.breaker.open()
        else:
            self.breaker.close()
            self._ramp.end()
        self._look_around()

    def snapshot(self) -> BreakerSnapshot:
        """How it stands now."""
        window, now = self._window, self.clock()
        return BreakerSnapshot(
            name=self.breaker.name,
            state=self._state,
            mode=self._mode,
            calls=window.calls,
            failures=window.failures,
            slow=window.slow,
            consecutive_failures=self._in_a_row,
            open_for_s=None if self._state == "closed" else now - self._left_closed,
            retry_after_s=self.retry_after_s(),
            resting=now < self._credential.until,
            held=self._held,
            probes=self._probes.in_flight,
            openings=self._open_time.openings,
            generation=self._generation,
            last_failure=self._last_failure,
        )

    def _judge_window(self) -> None:
        if not self._is_bad():
            self._hold(False)
        elif self._may_open():
            self.breaker.open()
        else:
            self._hold(True)

    def _is_bad(self) -> bool:
        config, window = self.config, self._window
        in_a_row, calls = config.consecutive_failures, window.calls
        if in_a_row is not None and self._in_a_row >= in_a_row:
            return True
        return calls >= config.min_calls and (
            window.failures >= config.failure_ratio * calls
            or window.slow >= config.slow_ratio * calls
        )

    def _judge_probe(self, bad: bool) -> None:
        if bad:
            self.breaker.open()
        elif self._probes.prove():
            self.breaker.close()

    def _may_open(self) -> bool:
        return all(group.may_open(self) for group in self._groups)

    def _has_spare(self) -> bool:
        return all(group.has_spare(self) for group in self._groups)

    def _hold(self, held: bool) -> None:
        if held != self._held:
            self._held = held
            self._note("held" if held else "let_go")

    def _note(self, note: Note) -> None:
        if self._on_note is not None:
            self._on_note(note)

    def _enter(self, state: State) -> None:
        """Take over a state pybreaker moved to, whoever moved it."""
        old, self._state = self._state, state
        now = self.clock()
        self._generation += 1
        self._pass = _UNCOUNTED if self._mode == "disabled" else Admission(self._generation, 0)
        self._window.clear()
        self._in_a_row = 0
        self._probes.end()
        if old == "closed" and state != "closed":
            self._left_closed = now
            self._open_time.left_closed(now)
        if state == "open":
            lasts = self._mode == "isolated"
            self._open_until = _NEVER if lasts else now + self._open_time.next_s(now)
        elif state == "half_open":
            self._probes.begin(now)
        elif old != "closed":
            self._open_time.closed(now)
            self._ramp.begin(now)
        self._look_around()
        if old != state and self._on_change is not None:
            self._on_change(old, state)
        self._hold(False)

    def _look_around(self) -> None:
        """Find out whether calls can pass without a look at anything."""
        now = self.clock()
        self._at_large = self._mode == "disabled" or (
            self._state == "closed"
            and self._mode != "isolated"
            and now >= self._credential.until
            and self._ramp.over(now)
        )


def _or_never(value: float | None) -> float:
    return _NEVER if value is None else value
