"""When production may be deployed to: days, hours and freezes, by the clock on the wall there.

Days and hours are local. So a change to or from summer time moves the window with the people, and
whether one is open is decided by what their clock shows, also in an hour that comes twice.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: Final[tuple[Weekday, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_MONTH_DAY = re.compile(r"(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)
_AHEAD_DAYS: Final = 400
"""How far the next opening is looked for: over a year, so that one of its days is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Days without a deployment, the first and the last among them."""

    name: str
    first: str
    """A date, such as `2027-02-01`."""
    last: str

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            try:
                date.fromisoformat(getattr(self, name))
            except ValueError:
                raise ValueError(f"{name} must be a date such as 2027-02-01") from None
        if self.last < self.first:
            raise ValueError(f"last must not be before first ({self.first})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The strategy's windows (its 9.3). Raises `ValueError`: the field and what is wrong."""

    zone: str = "UTC"
    """Whose local time it is, as the IANA database has it: `Europe/Berlin`."""
    days: tuple[Weekday, ...] = ("tue", "wed", "thu")
    opens: str = "09:00"
    closes: str = "16:00"
    """Not in the window any more. `opens` to `closes` is within a day."""
    black_friday_days_before: int = 4
    """Frozen days before it: from the Monday of its week."""
    black_friday_days_after: int = 3
    """And after it: the Monday that follows, too."""
    year_end_first: str = "12-20"
    """Month and day. The freeze goes over the turn of the year."""
    year_end_last: str = "01-02"
    freezes: tuple[Freeze, ...] = field(default=())
    """More of them."""

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                "zone must be a name such as Europe/Berlin that this machine knows (its tzdata)"
            ) from None
        if not self.days:
            raise ValueError("days must hold at least one")
        for name in ("opens", "closes"):
            if not _CLOCK.fullmatch(getattr(self, name)):
                raise ValueError(f"{name} must be a time of the day such as 09:00")
        if self.closes <= self.opens:
            raise ValueError(f"closes must be after opens ({self.opens})")
        for name in ("black_friday_days_before", "black_friday_days_after"):
            if not 0 <= getattr(self, name) <= 30:
                raise ValueError(f"{name} must be 0 to 30")
        for name in ("year_end_first", "year_end_last"):
            if not _MONTH_DAY.fullmatch(getattr(self, name)):
                raise ValueError(f"{name} must be a month and a day such as 12-20")
        if self.year_end_last >= self.year_end_first:
            raise ValueError(f"year_end_last must be before {self.year_end_first}, in January, say")


class State(NamedTuple):
    """Whether a window is open at a moment, and until or from when it is."""

    open: bool
    why: str
    """Why it is closed; empty where it is open."""
    changes: datetime | None
    """When it closes or opens, in local time; None where not within 400 days."""


def black_friday(year: int) -> date:
    """The day after the fourth Thursday of November."""
    first = date(year, 11, 1)
    to_thursday = (WEEKDAYS.index("thu") - first.weekday()) % 7
    return first + timedelta(days=to_thursday + 3 * 7 + 1)


def state(windows: Windows, at: datetime) -> State:
    """What is at a moment. Raises `ValueError` for one without a zone."""
    if at.tzinfo is None:
        raise ValueError("at must have a zone")
    zone = ZoneInfo(windows.zone)
    why = _closed(windows, at.astimezone(zone))
    for moment in _ahead(windows, at, zone, skip=bool(why)):
        if bool(_closed(windows, moment)) != bool(why):
            return State(not why, why, moment)
    return State(not why, why, None)


def _ahead(windows: Windows, at: datetime, zone: ZoneInfo, *, skip: bool) -> Iterator[datetime]:
    """Each minute from the next one on, in local time; days without a window at once."""
    # Only in UTC is a minute later a minute later.
    moment = at.astimezone(UTC).replace(second=0, microsecond=0) + _MINUTE
    end = moment + timedelta(days=_AHEAD_DAYS)
    while moment < end:
        local = moment.astimezone(zone)
        if skip and _closed_all_day(windows, local.date()):
            midnight = datetime.combine(local.date() + _DAY, time(), zone).astimezone(UTC)
            moment = max(midnight, moment + _MINUTE)
            continue
        yield local
        moment += _MINUTE


def _closed(windows: Windows, local: datetime) -> str:
    """Why a deployment may not begin now; empty where it may."""
    if whole := _closed_all_day(windows, local.date()):
        return whole
    if windows.opens <= local.isoformat()[11:16] < windows.closes:
        return ""
    return f"outside of {windows.opens} to {windows.closes}"


@functools.lru_cache(maxsize=512)
def _closed_all_day(windows: Windows, day: date) -> str:
    """Why a day has no window; empty where it has one."""
    for name, first, last in _frozen(windows, day.year):
        if first <= day <= last:
            return f"frozen: {name}, {first} to {last}"
    if WEEKDAYS[day.weekday()] not in windows.days:
        return f"{day:%A}: deployments are on {', '.join(windows.days)}"
    return ""


def _frozen(windows: Windows, year: int) -> Iterator[tuple[str, date, date]]:
    """The freezes that touch a year."""
    friday = black_friday(year)
    before = timedelta(days=windows.black_friday_days_before)
    after = timedelta(days=windows.black_friday_days_after)
    yield "Black Friday", friday - before, friday + after
    for turn in (year - 1, year):
        first, last = windows.year_end_first, windows.year_end_last
        yield "year-end", _month_day(turn, first), _month_day(turn + 1, last)
    for freeze in windows.freezes:
        yield freeze.name, date.fromisoformat(freeze.first), date.fromisoformat(freeze.last)


def _month_day(year: int, month_day: str) -> date:
    """A 30th of February is the last day of it."""
    month, day = map(int, month_day.split("-"))
    first_of_next = date(year + month // 12, month % 12 + 1, 1)
    return min(date(year, month, 1) + timedelta(days=day - 1), first_of_next - _DAY)
