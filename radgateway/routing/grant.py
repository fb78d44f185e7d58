"""Grant: what one request may still draw from the retry budget, and has drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from radgateway.routing.retry_budget import RetryBudgetConfig, TokenBudget

GRANT_KEY = "radgateway.retry_budget"
"""Where a request's grant is in the scope's state."""


class Grant:
    """What one request may still do. The router asks before every attempt, and tells its end.

    Of the attempts that reached a provider, all but one were paid for, whatever became of them.
    """

    __slots__ = (
        "_budget",
        "_credit",
        "_on_exhausted",
        "_paid",
        "_paid_in",
        "config",
        "exhausted",
        "taken",
    )

    def __init__(
        self,
        budget: TokenBudget,
        config: RetryBudgetConfig,
        on_exhausted: Callable[[], None] | None = None,
    ) -> None:
        self.config = config
        self._budget = budget
        self._on_exhausted = on_exhausted
        self._credit = 1  # the first attempt is not paid for
        self._paid = 0
        self._paid_in = False
        self.taken = 0
        """Attempts granted so far."""
        self.exhausted: Literal["attempts", "ratio", "storm"] | None = None
        """Why the last attempt asked for was not granted."""

    def pay_in(self) -> None:
        """Pay for this request, the first time this is called."""
        if not self._paid_in:
            self._paid_in = True
            self._budget.deposit()

    def take(self) -> bool:
        """Whether another attempt may be made; the first always may."""
        if self.used_up():
            return False
        if not self._pay():
            self._refuse("ratio")
            return False
        self.taken += 1
        return True

    def take_hedge(self) -> bool:
        """The same for a hedge. Without one the request goes on, so nothing is exhausted."""
        limit = self.config.max_attempts
        if (limit and self.taken >= limit) or not self._pay():
            return False
        self.taken += 1
        return True

    def used_up(self) -> bool:
        """Whether the request has had all of its attempts."""
        limit = self.config.max_attempts
        if limit and self.taken >= limit:
            self.exhausted = "attempts"
            return True
        return False

    def allows(self, provider: str) -> bool:
        """Whether a further attempt may go to this provider, as its ledger stands."""
        storms = self._budget.storms
        return storms is None or storms.allows(provider)

    def refuse_for_storm(self) -> None:
        """Note that further attempts could only have gone where they are not allowed."""
        self._refuse("storm")

    def succeeded(self, provider: str) -> None:
        """An attempt ended well."""
        storms = self._budget.storms
        if storms is not None:
            storms.succeeded(provider)

    def failed(self, provider: str) -> None:
        """An attempt failed after it had reached its provider."""
        self.pay_in()
        storms = self._budget.storms
        if storms is not None:
            storms.failed(provider)

    def unsent(self) -> None:
        """An attempt failed of which the provider got nothing: it is given back.

        It remains one of the request's attempts.
        """
        self.pay_in()
        if self._paid:
            self._paid -= 1
            self._budget.refund()
        else:
            self._credit += 1

    def untake(self) -> None:
        """An attempt that was granted is not made after all."""
        self.taken -= 1
        self.unsent()

    def retry_after_s(self, providers: list[str]) -> float:
        """Seconds after which one of these providers could be tried again."""
        storms = self._budget.storms
        storm_s = (
            min((storms.recovers_in_s(name) for name in providers), default=0.0) if storms else 0.0
        )
        return max(storm_s, self._budget.retry_after_s())

    def _pay(self) -> bool:
        if self._credit:
            self._credit -= 1
        elif self._budget.withdraw():
            self._paid += 1
        else:
            return False
        return True

    def _refuse(self, why: Literal["ratio", "storm"]) -> None:
        self.exhausted = why
        if self._on_exhausted is not None:
            self._on_exhausted()
