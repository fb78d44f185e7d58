"""GET /v0/management/slo: how much of the error budget is left, and how fast it goes.

Counted in the ledger, so it holds for all replicas that share one and outlives restarts. Every
figure is a ratio of sums, never a mean of ratios, which would weigh a quiet night like a busy hour
(Google, "The Site Reliability Workbook", ch. 5). Counts are whole, and what is made of them is
decimal and rounded once, when it is shown.

Counting takes some three dozen small questions to the ledger, so whoever asks within a few seconds
shares one count, which says of when it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from radgateway.asgi import ASGIApp
from radgateway.operations.json_endpoint import JSONEndpoint
from radgateway.operations.query_parameters import Query, check_known
from radgateway.operations.usage_view import asked
from radgateway.slo.objectives import Objective, Objectives
from radgateway.usage.moment import rfc3339
from radgateway.usage.query import Sums, UsageFilter
from radgateway.usage.row import usage_id_at
from radgateway.usage.sums_form import total_of
from radgateway.usage.writer import UsageWriter

WINDOWS: Final[dict[str, int]] = {
    "5m": 300,
    "1h": 3600,
    "6h": 21_600,
    "1d": 86_400,
    "3d": 259_200,
    "7d": 604_800,
    "30d": 2_592_000,
}
"""The windows that burn rates are alerted on, in seconds, each within the next."""

MAX_AGE_S: Final = 5.0
"""Seconds for which a count is shown."""

_DAY_S: Final = 86_400
_PLACES: Final = Decimal("1e-9")
_HOUR_S: Final = 3600.0
_FINEST_S: Final = 0.001
"""Ids are of milliseconds."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The requests of a window, at least one, and since when it has data (Unix seconds)."""

    valid: int
    good: int
    since: float

    @property
    def bad(self) -> Decimal:
        """Those that were not good."""
        return Decimal(self.valid - self.good)


def slo_view(
    usage: UsageWriter,
    objectives: Objectives | None = None,
    clock: Callable[[], float] = time.time,
) -> ASGIApp:
    """The endpoint, for the objectives about answers. `clock` gives Unix seconds.

    Those about time are not the ledger's to tell: its sums don't say how many were slow.
    """
    counted = {name: each for name, each in (objectives or Objectives()) if each.below_s is None}
    shared = _SharedCount(usage, _widths(counted), clock)

    async def show_slo(query: Query) -> tuple[int, Any]:
        check_known(query, ())
        at, counts = await shared.count()
        data = [_shown(name, each, counts) for name, each in counted.items()]
        return 200, {"data": data, "total": len(data), "at": rfc3339(at)}

    return JSONEndpoint(show_slo)


def _widths(objectives: Mapping[str, Objective]) -> dict[str, int]:
    """The windows of the answer in seconds, shortest first: those of objectives are among them."""
    own = {_window(each): each.window_days * _DAY_S for each in objectives.values()}
    return dict(sorted((WINDOWS | own).items(), key=lambda window: window[1]))


def _window(objective: Objective) -> str:
    return f"{objective.window_days}d"


class _Count(NamedTuple):
    at: float
    """Unix seconds at which the windows end."""
    windows: dict[str, Counts | None]


class _SharedCount:
    """One count for all who ask while it is made, and for `MAX_AGE_S` afterwards."""

    def __init__(
        self, usage: UsageWriter, widths: Mapping[str, int], clock: Callable[[], float]
    ) -> None:
        self._usage = usage
        self._widths = widths
        self._clock = clock
        self._task: asyncio.Task[_Count] | None = None

    async def count(self) -> _Count:
        """The count. Raises `Refusal`, which the next to ask need not share."""
        task = self._task
        if task is None or not self._is_of_use(task):
            task = self._task = asyncio.create_task(self._made())
            task.add_done_callback(_looked_at)
        return await asyncio.shield(task)

    async def _made(self) -> _Count:
        now = self._clock()
        return _Count(now, await windows(self._usage, now, self._widths))

    def _is_of_use(self, task: asyncio.Task[_Count]) -> bool:
        if task.get_loop() is not asyncio.get_running_loop():
            return False
        if not task.done():
            return True
        if task.cancelled() or task.exception() is not None:
            return False
        # A clock that was put back would otherwise keep it for that long.
        return 0.0 <= self._clock() - task.result().at < MAX_AGE_S


def _looked_at(task: asyncio.Task[_Count]) -> None:
    if not task.cancelled():
        task.exception()  # whoever asked may be gone, and nobody else needs to know


async def windows(
    usage: UsageWriter, now: float, widths: Mapping[str, int] = WINDOWS
) -> dict[str, Counts | None]:
    """The counts of each window that ends now; None for one without a request.

    The ledger is asked for slices that don't overlap, so each request is counted once and every
    window has all that the shorter ones have. Raises `Refusal` where the ledger does not answer.
    """
    total, end = Sums(), now
    sums: dict[str, Sums] = {}
    oldest: UsageFilter | None = None
    for name, width_s in widths.items():
        begin = now - width_s
        # By the day, since a slice can't say otherwise when the first of its requests was.
        slice_ = await asked(usage.sums(UsageFilter(since=begin, until=end), ("day",)))
        total = total.plus(total_of(slice_))
        if slice_:
            day = _unix_s(slice_[0])
            oldest = UsageFilter(since=max(begin, day), until=min(end, day + _DAY_S))
        sums[name], end = total, begin
    if oldest is None:
        return dict.fromkeys(widths)
    first = await _first_request(usage, oldest, end)
    return {
        name: (
            Counts(total.requests, total.good, max(first, now - widths[name]))
            if total.requests
            else None
        )
        for name, total in sums.items()
    }


async def _first_request(usage: UsageWriter, day: UsageFilter, begin: float) -> float:
    """When the first request began that the ledger has of the day, or `begin` if it has older.

    Sums tell the hour. Ids are in the order of time, so a page that begins below a time's lowest
    id shows at once whether there is anything older: two dozen looks find the millisecond.
    """
    hours = await asked(usage.sums(day, ("hour",)))
    assert day.since is not None
    hour = max(day.since, _unix_s(hours[0])) if hours else day.since

    async def older_than(unix_s: float) -> float | None:
        page = await asked(usage.page(UsageFilter(), 1, usage_id_at(unix_s)))
        return page.rows[0].started_at if page.rows else None

    if await older_than(hour) is not None:
        return begin
    # An id is of a request's end; the longest take minutes.
    low, high = hour, hour + 2 * _HOUR_S
    found = await older_than(high)
    if found is None:
        return hour  # of its requests only sums are left
    while high - low > _FINEST_S:
        middle = (low + high) / 2
        began = await older_than(middle)
        if began is None:
            low = middle
        else:
            high, found = middle, began
    return max(hour, found)


def _unix_s(sums: Sums) -> float:
    """When the day or hour began that sums are of."""
    return datetime.fromisoformat(sums.group[0]).timestamp()


def _shown(name: str, objective: Objective, counts: Mapping[str, Counts | None]) -> dict[str, Any]:
    whole = counts[_window(objective)]
    return {
        "name": name,
        "objective": float(objective.target),
        "windowDays": objective.window_days,
        "budget": float(objective.budget),
        "budgetLeft": _rounded(1 - burn_rate(objective, whole)) if whole is not None else None,
        "covered": rfc3339(whole.since) if whole is not None else None,
        "windows": {
            window: _window_shown(objective, each) if each is not None else None
            for window, each in counts.items()
        },
    }


def _window_shown(objective: Objective, counts: Counts) -> dict[str, Any]:
    return {
        "valid": counts.valid,
        "good": counts.good,
        "ratio": _rounded(counts.good / Decimal(counts.valid)),
        "errorRatio": _rounded(counts.bad / counts.valid),
        "burnRate": _rounded(burn_rate(objective, counts)),
        "covered": rfc3339(counts.since),
    }


def burn_rate(objective: Objective, counts: Counts) -> Decimal:
    """How many times as fast as it may the budget goes: 1 spends it by the window's end.

    Over the objective's own window it is also the part of the budget that is spent.
    """
    return counts.bad / (counts.valid * objective.budget)


def _rounded(value: Decimal) -> float:
    """To nine places, which a float holds: its text has the same digits."""
    return float(value.quantize(_PLACES))
