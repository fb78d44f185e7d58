"""RetryBudget: how much extra load failures may cause.

A fixed number of attempts per request multiplies the load just when the providers are failing; a
budget in proportion to the requests adds at most its share (Google SRE book, "Handling Overload";
the form is Finagle's `RetryBudget` and tower's `TpsBudget`). Every request pays in once, every
further attempt draws out: retries, failovers and hedges alike. What is older than `ttl_s` is
forgotten. A second ledger, by provider, stops what would go to one that keeps failing.

A request pays in when its outcome begins to show: at its commit point, its first failure or its
hedge, whichever is first. Payments made on arrival, as Finagle's are, would be gone after `ttl_s`,
and a generation can take minutes to fail: its retry would find nothing. The other known form, a
share of the calls under way (Envoy), survives that, but bounds how many further attempts run at
once and not how many are made: one long call would pay for any number of quick failures.

Stands right around the router, which asks the grant it finds in the scope before each attempt and
answers 503 `retry_budget_exhausted` itself. Without this layer, it tries each candidate once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from radgateway.asgi import ASGIApp, Clock, Receive, Scope, Send
from radgateway.routing.grant import GRANT_KEY, Grant
from radgateway.routing.storm_ledger import StormLedger

_SLOTS = 10
_UNIT = 1000
"""What one attempt costs; whole numbers, so that the sums can't drift."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudgetConfig:
    """How many attempts failures may add, and how long is waited before the same one again."""

    max_attempts: int = 2
    """Attempts for one request, the first included; 0 for as many as there are candidates."""
    ratio: float = 0.2
    """Further attempts per request, 0 to 1: 0.2 adds a fifth to the load at worst."""
    min_per_s: float = 10.0
    """Further attempts a second that are allowed whatever the traffic, so that a quiet gateway
    can retry at all; 0 or more."""
    ttl_s: float = 10.0
    """Seconds a request's payment can be drawn on, from when its outcome began to show; 1 to 60."""
    storm_tokens: float | None = 100.0
    """Tokens of each provider's ledger, 2 to 1000 (gRPC A6's `maxTokens`): failures in a row, less
    half, after which no further attempt goes there. None for no such ledger."""
    backoff_s: float = 0.1
    """Seconds that the wait before the same candidate is tried again begins with, 0 to 60; it
    doubles each time, and the actual wait is anything between 0 and that (full jitter)."""
    backoff_max_s: float = 2.0
    """Seconds it grows to at most, 0 to 60."""
    retry_after_max_s: float = 2.0
    """Seconds of a provider's Retry-After that are waited out, 0 to 60. One that asks for more is
    not tried again: the caller can wait that long without holding a connection."""

    def __post_init__(self) -> None:
        if self.max_attempts < 0:
            raise ValueError(f"max_attempts must be 0 or more, not {self.max_attempts}")
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"ratio must be 0 to 1, not {self.ratio}")
        if self.min_per_s < 0:
            raise ValueError(f"min_per_s must be 0 or more, not {self.min_per_s}")
        if not 1 <= self.ttl_s <= 60:
            raise ValueError(f"ttl_s must be 1 to 60, not {self.ttl_s}")
        if self.storm_tokens is not None and not 2 <= self.storm_tokens <= 1000:
            raise ValueError(f"storm_tokens must be 2 to 1000 or None, not {self.storm_tokens}")
        for name in ("backoff_s", "backoff_max_s", "retry_after_max_s"):
            value = getattr(self, name)
            if not 0 <= value <= 60:
                raise ValueError(f"{name} must be 0 to 60, not {value}")


class TokenBudget:
    """Payments and withdrawals of the last `ttl_s` seconds, in a ring of ten slots.

    For any run of T seconds with N payments: withdrawals less refunds are at most
    `ratio * N + round(min_per_s * ttl_s) * (1 + T / (0.9 * ttl_s))`.
    """

    __slots__ = (
        "_at",
        "_balance",
        "_clock",
        "_deposit",
        "_reserve",
        "_ring",
        "_slot_s",
        "config",
        "storms",
    )

    def __init__(
        self, config: RetryBudgetConfig | None = None, *, clock: Clock = time.monotonic
    ) -> None:
        self.config = config = config or RetryBudgetConfig()
        self._clock = clock
        self._deposit = round(config.ratio * _UNIT)
        self._reserve = round(config.min_per_s * config.ttl_s) * _UNIT
        self._slot_s = config.ttl_s / _SLOTS
        self._ring = [0] * _SLOTS
        self._balance = 0
        self._at = int(clock() / self._slot_s)
        self.storms: StormLedger | None = None
        """The ledger of failures, by provider."""
        if config.storm_tokens is not None:
            self.storms = StormLedger(
                config.storm_tokens, config.ratio, config.min_per_s, clock=clock
            )

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

    def refund(self) -> None:
        """Take back a withdrawal: the attempt it paid for was no load."""
        slot = self._advance()
        self._ring[slot] += _UNIT
        self._balance += _UNIT

    def retry_after_s(self) -> float:
        """Seconds until a withdrawal is covered if nothing happens before; `ttl_s` if never."""
        now = self._advance()
        balance = self._balance + self._reserve
        if balance >= _UNIT:
            return 0.0
        since_s = self._clock() - self._at * self._slot_s
        for step in range(1, _SLOTS + 1):
            balance -= self._ring[(now + step) % _SLOTS]
            if balance >= _UNIT:
                return max(0.0, step * self._slot_s - since_s)
        return self.config.ttl_s

    def _advance(self) -> int:
        now = int(self._clock() / self._slot_s)
        if now > self._at:
            ring = self._ring
            for passed in range(max(self._at, now - _SLOTS) + 1, now + 1):
                self._balance -= ring[passed % _SLOTS]
                ring[passed % _SLOTS] = 0
            self._at = now
        return self._at % _SLOTS


class RetryBudget:
    """Puts each request's `Grant` into the scope's state.

    Give several layers one `budget` and they share it. `on_exhausted` is called for each request
    that could have been tried again, had the budget allowed it.
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
        self.config = config or (budget.config if budget is not None else RetryBudgetConfig())
        self.budget = budget or TokenBudget(self.config)
        self._on_exhausted = on_exhausted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request with a grant of its own."""
        if scope["type"] == "http":
            grant = Grant(self.budget, self.config, self._on_exhausted)
            scope = {**scope, "state": {**(scope.get("state") or {}), GRANT_KEY: grant}}
        await self.app(scope, receive, send)
