"""What callers may spend: the limits of a configuration, their storage and how it is doing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial

from limits.aio.storage import Storage

from radgateway.asgi import ASGIApp, Clock
from radgateway.config.schema import GatewayConfig
from radgateway.inbound.bearer_tokens import NAME_PREFIX
from radgateway.inbound.limit_accounts import LimitAccounts
from radgateway.inbound.limit_period import Period
from radgateway.inbound.limit_plan import LimitBook, Prices
from radgateway.inbound.limit_seed import BudgetSeed
from radgateway.inbound.limit_set import LimitSet
from radgateway.inbound.limit_storage import storage_of
from radgateway.inbound.rate_limit import RateLimiter
from radgateway.routing.models import ModelTable
from radgateway.telemetry.instruments import Instruments
from radgateway.usage.ledger import LedgerUnavailable
from radgateway.usage.query import UsageFilter
from radgateway.usage.writer import UsageWriter

_log = logging.getLogger("radgateway.app")
_NO_LIMITS = LimitSet()
_JOURNAL_S = 2.0
"""Seconds that a journal is waited for before it is said that what was spent is not known."""
_WITHOUT_STORE = {"open": "unchecked", "closed": "refused", "local": "local"}
"""The state of `degraded.MODES` that each policy for a lost store leads to."""


def limits_storage(config: GatewayConfig) -> Storage:
    """Where limits are counted; says so aloud where that can't be what is wanted."""
    storage, replicas = config.storage.limits, config.limits.replicas
    if storage.scheme == "memory" and replicas > 1:
        _log.warning("radgateway.rate_limit.memory_per_replica", extra={"replicas": replicas})
    return storage_of(storage.reveal())


def limit_book(config: GatewayConfig, models: ModelTable, *, wall: Clock = time.time) -> LimitBook:
    """All limits of a configuration, and the prices that money is reserved by."""
    limits, none = config.limits, (None, _NO_LIMITS)
    own = {key.name: key.limit_set for key in config.keys if key.limit_set != _NO_LIMITS}
    of_models = {
        name: model.limits for name, model in config.models.items() if model.limits not in none
    }

    of_tokens = limits.per_caller
    if config.jwt is not None and config.jwt.limits:
        of_tokens = LimitSet(requests=config.jwt.limits)

    def of_key(name: str) -> LimitSet | None:
        return of_tokens if name.startswith(NAME_PREFIX) else own.get(name, limits.per_caller)

    def of_model(asked: str) -> tuple[str, LimitSet] | None:
        entry = models.entry_of(asked)
        found = of_models.get(entry) if entry is not None else None
        return (entry, found) if entry is not None and found is not None else None

    def prices_of(asked: str) -> Prices:
        route, now = models.find(asked), wall()
        prices = [c.price for c in route.candidates if c.price is not None] if route else []
        return [price.at(now) for price in prices]

    return LimitBook(
        of_key=of_key,
        of_model=of_model if of_models else None,
        total=limits.total,
        prices_of=prices_of,
        shadow=limits.shadow,
    )


def limit_accounts(
    config: GatewayConfig, storage: Storage, state: LimitsState, instruments: Instruments
) -> LimitAccounts:
    """Where what callers spend is kept, whatever their limits are."""
    return LimitAccounts(
        storage,
        storage_timeout_s=config.limits.storage_timeout_s,
        on_storage_change=state.changed,
        on_lost=instruments.limit_settlements_lost.inc,
        lease_s=config.limits.lease_s,
    )


def rate_limiter(
    config: GatewayConfig, models: ModelTable, accounts: LimitAccounts
) -> Callable[[ASGIApp], RateLimiter]:
    """The layer that keeps all limits."""
    settings = config.limits
    return partial(
        RateLimiter,
        limits=limit_book(config, models),
        storage=accounts,
        on_storage_failure=settings.on_storage_failure,
        replicas=settings.replicas,
        max_body_bytes=config.server.max_body_bytes,
        body_timeout_s=config.server.body_timeout_s,
    )


def budgets(config: GatewayConfig) -> object:
    """Which budgets there are and whose, to be compared with those of another configuration."""
    limits = config.limits
    own = {k.name: k.limit_set.budget if k.limit_set != _NO_LIMITS else "" for k in config.keys}
    return own, [each and each.budget for each in (limits.per_caller, limits.total)]


def budget_seed(
    config: GatewayConfig,
    usage: UsageWriter,
    limiter: Callable[[], RateLimiter],
    before: RateLimiter | None = None,
) -> BudgetSeed | None:
    """What takes spending from the ledger that was not counted; None where there is none.

    That is all of it when the process begins, and of budgets that are new beside those of a
    limiter `before` what had been spent until then.
    """
    storage = config.storage
    sets = [config.limits.per_caller, config.limits.total, *(key.limit_set for key in config.keys)]
    periods = {each.budget.per for each in sets if each is not None and each.budget is not None}
    if not periods or storage.limits.scheme != "memory" or storage.usage.scheme == "memory":
        return None

    async def spent(since: float, until: float) -> dict[str, Decimal] | None:
        if not await usage.brought_in(_JOURNAL_S):
            return None  # a process that was killed may have spent what only its journal says
        try:
            sums = await usage.sums(UsageFilter(since=since, until=until), ("key",))
        except LedgerUnavailable:
            return None
        return {each.group[0]: each.cost_usd for each in sums if each.group[0]}

    uncounted = Uncounted(limiter, before)
    return BudgetSeed(spent, uncounted.spend, sorted(periods), on_start=uncounted.begin)


class Uncounted:
    """Takes what the ledger says was spent off those budgets in memory that have not counted it.

    A budget that stood in `before` too has counted, or is being told by whoever was asked then.
    One that was taken away and has come back knows what it counted the first time.
    """

    def __init__(self, limiter: Callable[[], RateLimiter], before: RateLimiter | None) -> None:
        self._limiter = limiter
        self._before = before
        self._known: dict[str, int] = {}

    def begin(self) -> None:
        """From now on what is spent of these budgets is counted where it is spent."""
        before = self._before
        self._known = before.accounts.local.budgets_spent() if before is not None else {}

    def spend(self, name: str, period: Period, nano_usd: int) -> None:
        """Take off what a caller spent in a period."""
        limiter, before = self._limiter(), self._before
        counted = {limit.key for limit in before.budgets(name, period)} if before else ()
        for limit in limiter.budgets(name, period):
            if limit.key not in counted:
                known = min(self._known.get(limit.key, 0), nano_usd)
                self._known[limit.key] = self._known.get(limit.key, 0) - known
                limiter.accounts.local.spend(limit, nano_usd - known)


class LimitsState:
    """Whether the limits' storage answers: one log line a change, a gauge, a word for readiness."""

    def __init__(self, policy: str, instruments: Instruments) -> None:
        self.policy = policy
        """What is done while it does not; may be changed."""
        self._available = True
        self._gauge = instruments.limits_storage_available

    @property
    def word(self) -> str:
        """The state as `degraded.MODES` has it."""
        return "ok" if self._available else _WITHOUT_STORE[self.policy]

    def changed(self, available: bool, reason: str) -> None:
        """Take note of the storage's going or coming back."""
        self._available = available
        self._gauge.set(1 if available else 0)
        if available:
            _log.warning("radgateway.rate_limit.storage_recovered")
        else:
            _log.warning(
                "radgateway.rate_limit.storage_lost",
                extra={"reason": reason, "policy": self.policy},
            )
