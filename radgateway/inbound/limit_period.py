"""Days and months of the calendar, in UTC: what a budget is for, and what was spent of it in one.

A budget does not slide. It is there in full when its period begins, as the bill it is compared
with begins anew as well.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime
from typing import Final, Literal

from radgateway.inbound.limit_storage import MAX_KEYS, Counts

Period = Literal["day", "month"]

DAY_S: Final = 86_400
LONGEST_S: Final[dict[Period, int]] = {"day": DAY_S, "month": 31 * DAY_S}
"""Seconds that one of each has at most."""


def index_of(period: Period, unix_s: float) -> int:
    """The number of the period that a time is in: each next one has the next."""
    if period == "day":
        return int(unix_s // DAY_S)
    moment = datetime.fromtimestamp(unix_s, UTC)
    return moment.year * 12 + moment.month - 1


def start_of(period: Period, index: int) -> float:
    """When a period begins, in Unix seconds; the one before it has ended then."""
    if period == "day":
        return float(index * DAY_S)
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC).timestamp()


def left_s(period: Period, index: int, unix_s: float) -> float:
    """Seconds until a period ends."""
    return max(0.0, start_of(period, index + 1) - unix_s)


class PeriodAccounts:
    """What was spent in the running period, by key; the one used longest ago makes room."""

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._counts: OrderedDict[str, Counts] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def at(self, key: str, period: Period, unix_s: float) -> Counts:
        """A key's account as of now, to be read and added to; made where there is none."""
        index = index_of(period, unix_s)
        counts = self._counts.get(key)
        if counts is None or index > counts.index:
            # A clock that was set back does not give a budget back.
            counts = self._counts[key] = Counts(index, LONGEST_S[period])
            if len(self._counts) > self._max_keys:
                self._counts.popitem(last=False)
        self._counts.move_to_end(key)
        return counts

    def read(self) -> dict[str, int]:
        """What each key spent in the period that its account was last looked at in."""
        return {key: counts.current for key, counts in self._counts.items()}

    def correct(self, key: str, index: int, change: int) -> None:
        """Change what was spent in a period once the real figure is known.

        In one that has ended it no longer matters: what a request cost belongs to the period in
        which it began, as in the usage ledger.
        """
        counts = self._counts.get(key)
        if counts is not None and counts.index == index:
            counts.current = max(0, counts.current + change)
