"""What a ledger must do, in the plainest words: the model that the state machines compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from radgateway.inbound.limit_ledger import cost_of
from radgateway.inbound.limit_plan import Costs, Limit
from radgateway.inbound.limit_set import CONCURRENCY


@dataclass
class Taken:
    """What a request in progress holds: each limit with the window it was charged in."""

    entries: list[tuple[Limit, int, int]]


@dataclass
class Model:
    """Accounts as sums by window number, and a list of what is in progress."""

    now: float = 0.0
    counts: dict[tuple[str, int], int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)

    def window(self, limit: Limit) -> int:
        return int(self.now / limit.window_s)

    def used(self, limit: Limit) -> Fraction:
        """Exactly: with rounding in another order it is decided otherwise at the limit itself."""
        if limit.kind == CONCURRENCY:
            return Fraction(self.places.get(limit.key, 0))
        index = self.window(limit)
        overlap = ((index + 1) * limit.window_s - Fraction(self.now)) / limit.window_s
        before = self.counts.get((limit.key, index - 1), 0)
        return before * overlap + self.counts.get((limit.key, index), 0)

    def allows(self, limits: Sequence[Limit], costs: Costs) -> bool:
        return all(self.used(lim) < lim.amount - cost_of(lim, costs) + 1 for lim in limits)

    def take(self, limits: Sequence[Limit], costs: Costs) -> Taken | None:
        """Charge every enforced limit or none; those in shadow likewise, among themselves."""
        enforced = [limit for limit in limits if not limit.shadow]
        shadow = [limit for limit in limits if limit.shadow]
        if not self.allows(enforced, costs):
            return None
        entries = []
        for limit in enforced + (shadow if self.allows(shadow, costs) else []):
            cost, index = cost_of(limit, costs), 0
            if limit.kind == CONCURRENCY:
                self.places[limit.key] = self.places.get(limit.key, 0) + 1
            else:
                index = self.window(limit)
                self._add(limit, index, cost)
            if limit.holds:
                entries.append((limit, index, cost))
        return Taken(entries)

    def settle(self, taken: Taken, spent: Costs) -> None:
        """Less is taken off the window that was charged, more is charged to the one that runs."""
        for limit, index, cost in taken.entries:
            if limit.kind == CONCURRENCY:
                self.places[limit.key] -= 1
            elif (change := spent[limit.kind] - cost) > 0:
                self._add(limit, self.window(limit), change)
            else:
                self._add(limit, index, change)

    def expire(self, taken: Taken) -> None:
        """Nobody renewed it: all of it is given back."""
        self.settle(taken, (0, 0, 0, 0, 0, 0))

    def charge(self, taken: Taken, spent: Costs) -> None:
        """The usage of what had expired becomes known after all."""
        for limit, _, _ in taken.entries:
            if limit.kind != CONCURRENCY and spent[limit.kind]:
                self._add(limit, self.window(limit), spent[limit.kind])

    def _add(self, limit: Limit, index: int, amount: int) -> None:
        self.counts[limit.key, index] = self.counts.get((limit.key, index), 0) + amount
