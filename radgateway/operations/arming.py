"""Arming: which providers are being broken on purpose, until when, and what ends it earlier.

An experiment that can't end by itself is an outage. So every arming has a time limit, and an
abort condition over all of the gateway's requests: the strategy's "abort if all providers
affected" (its 8.1), and a bound on the share of callers that got an error. Time, health and the
outcome of requests are told to it; it does nothing but decide.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from radgateway.asgi import Clock
from radgateway.config.problems import shown
from radgateway.provider.faults import Faults

LONGEST_S = 1800.0
"""Seconds an arming may last: long enough for any experiment, short enough to be remembered."""
CHECK_S = 0.25
"""Seconds between two looks at what is armed."""
_SLOTS = 10
_ENDED_KEPT = 20

Reason = Literal["disarmed", "expired", "error_ratio", "all_affected", "reloaded", "closed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortCondition:
    """When an arming ends before its time."""

    error_ratio: float | None = 0.5
    """Share of the gateway's requests that were answered 5xx or broke off, over 0 to 1; None
    never aborts for it."""
    min_requests: int = 20
    """Requests in the window before the share means anything, at least 1."""
    window_s: float = 10.0
    """Seconds looked back on, 1 to 300."""
    all_affected: bool = True
    """Refuse, and abort, where every provider is armed or left alone by its breaker."""

    def __post_init__(self) -> None:
        if self.error_ratio is not None and not 0 < self.error_ratio <= 1:
            raise ValueError(f"error_ratio must be over 0 to 1, not {self.error_ratio}")
        if self.min_requests < 1:
            raise ValueError(f"min_requests must be at least 1, not {self.min_requests}")
        if not 1 <= self.window_s <= 300:
            raise ValueError(f"window_s must be 1 to 300, not {self.window_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmingOrder:
    """What somebody asks to be broken."""

    provider: str
    """A name under `providers`."""
    faults: Faults
    """What to inject, instead of what is configured."""
    for_s: float
    """Seconds until it ends by itself, over 0 to 1800. There is no default: a limit is a choice."""
    abort: AbortCondition = field(default_factory=AbortCondition)

    def __post_init__(self) -> None:
        if not 0 < self.for_s <= LONGEST_S:
            raise ValueError(f"for_s must be over 0 to {LONGEST_S:.0f}, not {self.for_s}")


class Ended(NamedTuple):
    """An arming that is over."""

    provider: str
    reason: Reason
    by: str
    """Who ended it: the name of an admin key, or empty where nobody had to."""
    at: float
    """The clock's seconds."""
    detail: str
    """The figure that ended it, in words."""


class ArmingRefused(Exception):
    """An order that can't be carried out; the message says why."""


class Outcomes:
    """Requests and failures of the last `window_s` seconds, in a ring of ten slots."""

    __slots__ = ("_at", "_clock", "_failures", "_requests", "_slot_s")

    def __init__(self, window_s: float, clock: Clock) -> None:
        self._clock = clock
        self._slot_s = window_s / _SLOTS
        self._requests = [0] * _SLOTS
        self._failures = [0] * _SLOTS
        self._at = int(clock() / self._slot_s)

    def add(self, *, failed: bool) -> None:
        """Count one request."""
        slot = self._advance()
        self._requests[slot] += 1
        self._failures[slot] += failed

    def totals(self) -> tuple[int, int]:
        """Requests, and how many of them failed."""
        self._advance()
        return sum(self._requests), sum(self._failures)

    def _advance(self) -> int:
        now = int(self._clock() / self._slot_s)
        for passed in range(max(self._at, now - _SLOTS) + 1, now + 1):
            self._requests[passed % _SLOTS] = self._failures[passed % _SLOTS] = 0
        self._at = max(self._at, now)
        return self._at % _SLOTS


class Armed:
    """One provider that is being broken."""

    __slots__ = ("by", "order", "outcomes", "since", "until")

    def __init__(self, order: ArmingOrder, by: str, clock: Clock) -> None:
        self.order = order
        self.by = by
        self.since = clock()
        self.until = self.since + order.for_s
        self.outcomes = Outcomes(order.abort.window_s, clock)


class Arming:
    """What is armed in one gateway. Every method is synchronous, so atomic on an event loop.

    `healthy` says whether a provider takes requests; `on_armed` and `on_ended` are told of every
    change, and are where the injectors are switched.
    """

    def __init__(
        self,
        providers: Collection[str],
        *,
        healthy: Callable[[str], bool] = lambda provider: True,
        on_armed: Callable[[Armed], None] = lambda armed: None,
        on_ended: Callable[[Ended], None] = lambda ended: None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._providers = frozenset(providers)
        self._healthy = healthy
        self._on_armed = on_armed
        self._on_ended = on_ended
        self._clock = clock
        self.armed: Mapping[str, Armed] = {}
        """By provider. Replaced, never changed: empty costs a request one look."""
        self.ended: deque[Ended] = deque(maxlen=_ENDED_KEPT)
        """The last ones that are over, oldest first."""

    def arm(self, order: ArmingOrder, by: str) -> Armed:
        """Start breaking a provider, instead of whatever is armed there. Raises `ArmingRefused`."""
        self.check()
        name = order.provider
        self._check_known(name)
        if order.abort.all_affected and self._all_affected(with_provider=name):
            raise ArmingRefused(
                "No provider would be left unharmed. Say so to have that: "
                '"abort": {"all_affected": false}.'
            )
        armed = Armed(order, by, self._clock)
        self.armed = {**self.armed, name: armed}
        self._on_armed(armed)
        return armed

    def disarm(self, provider: str | None, by: str, reason: Reason = "disarmed") -> int:
        """Stop breaking one provider, or all; returns how many were armed.

        Raises `ArmingRefused` for a provider that is not there: the one that was meant stays armed.
        """
        if provider is not None:
            self._check_known(provider)
        names = [name for name in self.armed if provider in (None, name)]
        for name in names:
            self._end(name, reason, by, "")
        return len(names)

    def observe(self, *, failed: bool) -> None:
        """Take note of how one request of the gateway ended."""
        for armed in self.armed.values():
            armed.outcomes.add(failed=failed)

    def check(self) -> None:
        """End what is over or has gone too far."""
        for name, armed in list(self.armed.items()):
            over = self._verdict(armed)
            if over is not None:
                self._end(name, over[0], "", over[1])

    def due_s(self) -> float | None:
        """Seconds until the next `check`; None while nothing is armed."""
        if not self.armed:
            return None
        first = min(armed.until for armed in self.armed.values())
        return min(CHECK_S, max(0.0, first - self._clock()))

    def _check_known(self, provider: str) -> None:
        if provider not in self._providers:
            known = ", ".join(sorted(self._providers)) or "none"
            raise ArmingRefused(f"There is no provider '{shown(provider)}'; there are: {known}.")

    def _verdict(self, armed: Armed) -> tuple[Reason, str] | None:
        abort = armed.order.abort
        if self._clock() >= armed.until:
            return "expired", f"after {armed.order.for_s:g} s"
        requests, failures = armed.outcomes.totals()
        if (
            abort.error_ratio is not None
            and requests >= abort.min_requests
            and failures >= abort.error_ratio * requests
        ):
            return "error_ratio", f"{failures} of {requests} requests failed"
        if abort.all_affected and self._all_affected():
            return "all_affected", "no provider is left unharmed"
        return None

    def _all_affected(self, with_provider: str | None = None) -> bool:
        return all(
            name == with_provider or name in self.armed or not self._healthy(name)
            for name in self._providers
        )

    def _end(self, name: str, reason: Reason, by: str, detail: str) -> None:
        self.armed = {key: armed for key, armed in self.armed.items() if key != name}
        ended = Ended(name, reason, by, self._clock(), detail)
        self.ended.append(ended)
        self._on_ended(ended)
