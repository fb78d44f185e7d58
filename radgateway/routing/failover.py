"""What is tried after an attempt that failed, and when: another candidate, or the same one again.

Another candidate comes first and needs no wait. Once all have been tried, one of them may be tried
again after a pause: the one whose last try is longest ago. Nothing is tried that the caller would
not wait for. A retry is a failover to the same candidate, so both are decided here, and whether
there is budget for either is RetryBudget's to say.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from radgateway.exchange import Exchange
from radgateway.routing.backoff import pause_s
from radgateway.routing.grant import Grant
from radgateway.routing.latency import LatencyBook
from radgateway.routing.models import Candidate, Provider
from radgateway.routing.trial import Trial

_NOT_AGAIN = frozenset({"http_401", "http_403", "upstream_bad_response", "total_timeout"})
"""Failures that the same candidate would only repeat: a credential it does not take, a redirect,
an answer that takes longer than any may."""

_LEAST_S = 0.1
"""Seconds the caller must have left beyond the pause for another attempt to be worth it."""
_LEAST_SAMPLES = 5
"""Calls of a candidate after which half of its times are taken for what it needs."""


class Plan(NamedTuple):
    """The next attempt: where, and after how many seconds."""

    candidate: Candidate
    pause_s: float


class Failover:
    """The candidates of one request that are left, and those that failed. Does nothing itself."""

    __slots__ = (
        "_book",
        "_exchange",
        "_failed",
        "_grant",
        "_pauses",
        "_providers",
        "_rng",
        "_stormy",
        "_untried",
    )

    def __init__(
        self,
        untried: Iterable[Candidate],
        providers: Mapping[str, Provider],
        grant: Grant | None,
        *,
        exchange: Exchange,
        book: LatencyBook,
        rng: random.Random,
    ) -> None:
        self._untried = list(untried)
        self._providers = providers
        self._grant = grant
        self._exchange = exchange
        self._book = book
        self._rng = rng
        self._failed: dict[Candidate, Trial] = {}
        self._pauses = 0
        self._stormy: list[str] = []

    def failed(self, candidate: Candidate, trial: Trial) -> None:
        """Note an attempt that came to nothing."""
        self._failed.pop(candidate, None)
        self._failed[candidate] = trial

    def next(self) -> Plan | None:
        """The next attempt, paid for; None where the request has had its last."""
        grant = self._grant
        if grant is None:
            candidate = self._other()
            return self._chosen(candidate, 0.0) if candidate is not None else None
        if grant.used_up():
            return None
        self._stormy.clear()
        plan: Plan | None = None
        candidate = self._other()
        if candidate is not None:
            plan = Plan(candidate, 0.0)
        elif grant.config.max_attempts > self._pauses:
            plan = self._again(grant)
        if plan is None:
            if self._stormy:
                grant.refuse_for_storm()
            return None
        return self._chosen(*plan) if grant.take() else None

    def hedge(self) -> Candidate | None:
        """Another candidate for a second attempt beside one under way, paid for."""
        grant = self._grant
        candidate = self._other()
        if candidate is None or grant is None:
            return None
        grant.pay_in()
        return self._chosen(candidate, 0.0).candidate if grant.take_hedge() else None

    def retry_after_s(self) -> float:
        """Seconds after which the budget may allow what it did not."""
        return self._grant.retry_after_s(self._stormy) if self._grant is not None else 1.0

    def _chosen(self, candidate: Candidate, pause_s: float) -> Plan:
        if candidate in self._untried:
            self._untried.remove(candidate)
        if pause_s:
            self._pauses += 1
        return Plan(candidate, pause_s)

    def _other(self) -> Candidate | None:
        for candidate in self._untried:
            if self._worth_it(candidate, 0.0):
                return candidate
        return None

    def _again(self, grant: Grant) -> Plan | None:
        now = self._exchange.clock()
        for candidate, trial in self._failed.items():
            attempt = trial.attempt
            if trial.told_off or attempt.failure in _NOT_AGAIN:
                continue
            passed_s = now - (attempt.ended if attempt.ended is not None else now)
            wait_s = pause_s(grant.config, self._pauses, attempt.retry_after_s, passed_s, self._rng)
            if wait_s is not None and self._worth_it(candidate, wait_s):
                return Plan(candidate, wait_s)
        return None

    def _worth_it(self, candidate: Candidate, wait_s: float) -> bool:
        """Whether it takes requests, is likely to answer in time, and is not failing all along."""
        if closed_for_s(self._providers[candidate.provider].app) is not None:
            return False
        deadline = self._exchange.deadline
        if deadline is not None:
            usual_s = self._book.quantile_s(candidate, 0.5, _LEAST_SAMPLES) or 0.0
            if self._exchange.clock() + wait_s + max(_LEAST_S, usual_s) > deadline:
                return False
        if self._grant is not None and not self._grant.allows(candidate.provider):
            self._stormy.append(candidate.provider)
            return False
        return True


def closed_for_s(app: Any) -> float | None:
    """Seconds until a provider would take a request, None where it would now.

    Asks each layer that can tell (`available`), so a refusal is foreseen and not made; the layer
    whose word decided hears that it was passed over, where it wants to (`passed_over`).
    """
    while app is not None:
        available = getattr(app, "available", None)
        if available is not None and not available():
            passed_over = getattr(app, "passed_over", None)
            if passed_over is not None:
                passed_over()
            retry_after_s = getattr(app, "retry_after_s", None)
            return retry_after_s() if retry_after_s is not None else 1.0
        app = getattr(app, "app", None)
    return None
