"""Accounts of what was spent: how a request stands against its limits, charging all or none.

The rate limiter's thinking, apart from its answers. A request is charged what it is expected to
use, and corrected when what it used is known. In this process a charge is one synchronous step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from radgateway.asgi import Clock
from radgateway.inbound.limit_period import PeriodAccounts, left_s
from radgateway.inbound.limit_plan import Costs, Limit
from radgateway.inbound.limit_set import CONCURRENCY
from radgateway.inbound.limit_storage import Counts, SlidingWindows

PLACE_WAIT_S = 1.0
"""Seconds told to a caller with too much in progress; nobody knows when a request will end."""

NOTHING: Costs = (0, 0, 0, 0, 0, 0)


class Standing(NamedTuple):
    """How a request stands against one limit, before it is charged."""

    limit: Limit
    allowed: bool
    left: int
    """What is left of it, in its own units."""
    cost: int
    """What this request takes of it."""
    wait_s: float
    """Seconds until the request is allowed; 0 if it is now."""
    reset_s: float
    """Seconds until all of it is there again, if nothing is spent after this request."""


class Hold:
    """What a request took that is settled when it ends: exactly once, by `settle`."""

    __slots__ = ("entries", "id", "ledger")

    def __init__(self, ledger: Ledger, entries: list[tuple[Limit, int, int]], id: str = "") -> None:
        self.ledger = ledger
        self.id = id
        self.entries = entries
        """Each limit with the number of the window that was charged, and the charge."""

    def settle(self, spent: Costs) -> None:
        """Correct the charges to what was really spent, and free the places. Never waits."""
        self.ledger.settle(self, spent)


class Ledger(Protocol):
    """What can settle a hold."""

    def settle(self, hold: Hold, spent: Costs) -> None:
        """Correct the charges to what was really spent, and free the places."""


class Verdict(NamedTuple):
    """What became of a request's charge."""

    standings: Sequence[Standing]
    refused: Standing | None = None
    """The limit that refuses it, for longest where several do; then nothing was charged."""
    shadowed: Standing | None = None
    """The limit that would refuse it if it were enforced; then no such limit was charged."""
    hold: Hold | None = None
    """What is to be settled in the end, where anything is."""


def cost_of(limit: Limit, costs: Costs) -> int:
    """What a request takes of a limit: at least 1, and at most all of it.

    An estimate larger than the limit would keep the request out for ever; so it is let in where
    nothing is spent, and what it uses beyond the limit is a debt.
    """
    return min(max(costs[limit.kind], 1), limit.amount)


def judge(limit: Limit, cost: int, previous: int, current: int, left_s: float) -> Standing:
    """Work out what a sliding window's counts mean for a request.

    Of the previous window, only the share that still overlaps counts.
    """
    window_s = limit.window_s
    used = previous * left_s / window_s + current if previous else current
    room = limit.amount - cost + 1
    left = limit.amount - math.floor(used)
    if used < room:
        return Standing(limit, True, left, cost, 0.0, left_s + window_s)
    if current < room:
        # Until enough of the previous window has slid out.
        wait_s = left_s - (room - current) * window_s / previous
    else:
        # Until this window is the previous one, and enough of it has slid out.
        wait_s = left_s + window_s * (1 - room / current)
    reset_s = left_s + (window_s if current else 0)
    return Standing(limit, False, max(0, left), cost, max(wait_s, 0.001), reset_s)


def judge_budget(limit: Limit, cost: int, spent: int, left_s: float) -> Standing:
    """The same for a budget, of which so much is spent in the period that ends in `left_s`."""
    left = limit.amount - spent
    allowed = cost <= left
    return Standing(limit, allowed, left, cost, 0.0 if allowed else max(left_s, 0.001), left_s)


def judge_places(limit: Limit, in_use: int) -> Standing:
    """The same for the number of requests in progress."""
    left = max(0, limit.amount - in_use)
    return Standing(limit, left > 0, left, 1, 0.0 if left else PLACE_WAIT_S, 0.0)


def tightest(standings: Sequence[Standing]) -> Standing:
    """The one that refuses longest, else the one with the least left."""
    return min(standings, key=lambda s: (s.allowed, s.left - s.cost, -s.wait_s))


def refusing(standings: Sequence[Standing], *, shadow: bool) -> Standing | None:
    """The limit that refuses, among those that are enforced or those that only report."""
    found = [s for s in standings if not s.allowed and s.limit.shadow is shadow]
    return max(found, key=lambda s: s.wait_s) if found else None


class LocalLedger:
    """Accounts in this process: a request against all its limits is one synchronous step."""

    def __init__(self, windows: SlidingWindows, *, wall: Clock = time.time) -> None:
        self._windows = windows
        self._wall = wall
        self._periods = PeriodAccounts()
        self._in_progress: dict[str, int] = {}

    def take_one(self, limit: Limit) -> Standing:
        """Charge one request where its only limit allows it."""
        windows = self._windows
        now = windows.clock()
        window_s = limit.window_s
        counts = windows.at(limit.key, window_s, now)
        previous, current = counts.previous, counts.current
        standing = judge(limit, 1, previous, current, (counts.index + 1) * window_s - now)
        if standing.allowed:
            counts.current = current + 1
        return standing

    def take(self, limits: Sequence[Limit], costs: Costs) -> Verdict:
        """Charge a request where every enforced limit allows it, or nothing at all."""
        now = self._windows.clock()
        standings: list[Standing] = []
        accounts: list[Counts | None] = []
        allowed = True
        for limit in limits:
            counts = self._account(limit, now)
            standing = self._stands(limit, counts, costs, now)
            allowed = allowed and standing.allowed
            standings.append(standing)
            accounts.append(counts)
        shadowed = None
        if not allowed:
            refused = refusing(standings, shadow=False)
            if refused is not None:
                return Verdict(standings, refused)
            shadowed = refusing(standings, shadow=True)
        entries = []
        for (limit, _, _, cost, _, _), counts in zip(standings, accounts, strict=True):
            if shadowed is not None and limit.shadow:
                continue
            if counts is None:
                self._in_progress[limit.key] = self._in_progress.get(limit.key, 0) + 1
            else:
                counts.current += cost
            if limit.holds:
                entries.append((limit, counts.index if counts is not None else 0, cost))
        return Verdict(standings, None, shadowed, Hold(self, entries) if entries else None)

    def settle(self, hold: Hold, spent: Costs) -> None:
        """Correct the charges to what was really spent, and free the places."""
        entries, hold.entries = hold.entries, []
        for limit, index, cost in entries:
            if limit.kind == CONCURRENCY:
                left = self._in_progress[limit.key] - 1
                if left:
                    self._in_progress[limit.key] = left
                else:
                    del self._in_progress[limit.key]
            elif limit.period is not None:
                self._periods.correct(limit.key, index, spent[limit.kind] - cost)
            elif change := spent[limit.kind] - cost:
                self._windows.correct(limit.key, limit.window_s, index, change)

    def look(self, limits: Sequence[Limit]) -> list[Standing]:
        """How a request would stand, with nothing charged."""
        now = self._windows.clock()
        return [self._stands(lim, self._account(lim, now), NOTHING, now) for lim in limits]

    def spend(self, limit: Limit, amount: int) -> None:
        """Take so much off a budget: what was spent of it before this process began."""
        if limit.period is not None:
            self._periods.at(limit.key, limit.period, self._wall()).current += amount

    def budgets_spent(self) -> dict[str, int]:
        """What is spent of each budget that is counted here, by its key."""
        return self._periods.read()

    def _account(self, limit: Limit, now: float) -> Counts | None:
        """The windows of a limit; None for one on requests in progress."""
        if limit.kind == CONCURRENCY:
            return None
        if limit.period is not None:
            return self._periods.at(limit.key, limit.period, self._wall())
        return self._windows.at(limit.key, limit.window_s, now)

    def _stands(self, limit: Limit, counts: Counts | None, costs: Costs, now: float) -> Standing:
        if counts is None:
            return judge_places(limit, self._in_progress.get(limit.key, 0))
        if limit.period is not None:
            until_s = left_s(limit.period, counts.index, self._wall())
            return judge_budget(limit, cost_of(limit, costs), counts.current, until_s)
        until_s = (counts.index + 1) * limit.window_s - now
        return judge(limit, cost_of(limit, costs), counts.previous, counts.current, until_s)
