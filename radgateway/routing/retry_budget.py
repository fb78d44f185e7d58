"""RetryBudget: how much extra load failures may cause.

A fixed number of attempts per request multiplies the load just when the providers are failing; a
budget in proportion to the requests adds at most its share (Google SRE book, "Handling Overload";
the form is Finagle's `RetryBudget` and tower's `TpsBudget`). Every request pays into the budget,
every further attempt draws from it, and what is older than `ttl_s` is forgotten.

Stands right around the router, which asks the grant it finds in the scope before each attempt and
answers 503 `retry_budget_exhausted` itself. Without this layer, it tries each candidate once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from radgateway.asgi import ASGIApp, Clock, Receive, Scope, Send

GRANT_KEY = "radgateway.retry_budget"

_SLOTS = 10
_UNIT = 1000
"""What one attempt costs; whole numbers, so that the sums can't drift."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudgetConfig:
    """How many attempts failures may add."""

    max_attempts: int = 2
    """Attempts for one request, the first included; 0 for as many as there are candidates."""
    ratio: float = 0.2
    """Further attempts per request, 0 to 1: 0.2 adds a fifth to the load at worst."""
    min_per_s: float = 10.0
    """Further attempts a second that are allowed whatever the traffic, so that a quiet gateway
    can retry at all; 0 or more."""
    ttl_s: float = 10.0
    """Seconds a request's payment can be drawn on, 1 to 60. Less than a call takes means that
    retries late in a call live on `min_per_s`."""

    def __post_init__(self) -> None:
        if self.max_attempts < 0:
            raise ValueError(f"max_attempts must be 0 or more, not {self.max_attempts}")
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"ratio must be 0 to 1, not {self.ratio}")
        if self.min_per_s < 0:
            raise ValueError(f"min_per_s must be 0 or more, not {self.min_per_s}")
        if not 1 <= self.ttl_s <= 60:
            raise ValueError(f"ttl_s must be 1 to 60, not {self.ttl_s}")


class TokenBudget:
    """Payments and withdrawals of the last `ttl_s` seconds, in a ring of ten slots."""

    __slots__ = ("_at", "_balance", "_clock", "_deposit", "_reserve", "_ring", "_slot_s")

    def __init__(
        self, config: RetryBudgetConfig | None = None, *, clock: Clock = time.monotonic
    ) -> None:
        config = config or RetryBudgetConfig()
        self._clock = clock
        self._deposit = round(config.ratio * _UNIT)
        self._reserve = round(config.min_per_s * config.ttl_s) * _UNIT
        self._slot_s = config.ttl_s / _SLOTS
        self._ring = [0] * _SLOTS
        self._balance = 0
        self._at = int(clock() / self._slot_s)

    @property
    def balance(self) -> int:
        """Further attempts that could be made now."""
        self._advance()
        return max(0, self._balance + self._reserve) // _UNIT

    def deposit(self) -> None:
        """Pay in for one request."""
        slot = self._advance()
        self._ring[slot] += self._deposit
        self._balance += self._deposit

    def withdraw(self) -> bool:
        """Pay for one further attempt; False where the budget does not cover it."""
        slot = self._advance()
        if self._balance + self._reserve < _UNIT:
            return False
        # It expires no earlier than the payments it was made from, so none is spent twice.
        self._ring[slot] -= _UNIT
        self._balance -= _UNIT
        return True

    def _advance(self) -> int:
        now = int(self._clock() / self._slot_s)
        if now > self._at:
            ring = self._ring
            for passed in range(max(self._at, now - _SLOTS) + 1, now + 1):
                self._balance -= ring[passed % _SLOTS]
                ring[passed % _SLOTS] = 0
            self._at = now
        return self._at % _SLOTS


class Grant:
    """What one request may still do. The router asks before every attempt."""

    __slots__ = ("_budget", "_max_attempts", "_on_exhausted", "exhausted", "taken")

    def __init__(
        self,
        budget: TokenBudget,
        max_attempts: int,
        on_exhausted: Callable[[], None] | None = None,
    ) -> None:
        self._budget = budget
        self._max_attempts = max_attempts
        self._on_exhausted = on_exhausted
        self.taken = 0
        """Attempts granted so far."""
        self.exhausted: Literal["attempts", "ratio"] | None = None
        """Why the last attempt asked for was not granted."""

    def take(self, free: bool = False) -> bool:
        """Whether another attempt may be made; the first always may.

        `free`: nothing of the attempt before had reached the provider, so this one adds no load.
        It costs nothing, but counts as one of the request's.
        """
        if self.taken:
            if self._max_attempts and self.taken >= self._max_attempts:
                self.exhausted = "attempts"
                return False
            if not free and not self._budget.withdraw():
                self.exhausted = "ratio"
                if self._on_exhausted is not None:
                    self._on_exhausted()
                return False
        self.taken += 1
        return True


class RetryBudget:
    """Pays in for each request and puts its `Grant` into the scope's state.

    Give several layers one `budget` and they share it. `on_exhausted` is called for each attempt
    that the ratio did not allow.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: RetryBudgetConfig | None = None,
        *,
        budget: TokenBudget | None = None,
        on_exhausted: Callable[[], None] | None = None,
    ) -> None:
        self.app = app
        self.config = config or RetryBudgetConfig()
        self.budget = budget or TokenBudget(self.config)
        self._on_exhausted = on_exhausted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request with a grant of its own."""
        if scope["type"] == "http":
            self.budget.deposit()
            grant = Grant(self.budget, self.config.max_attempts, self._on_exhausted)
            scope = {**scope, "state": {**(scope.get("state") or {}), GRANT_KEY: grant}}
        await self.app(scope, receive, send)
