"""Deployment windows over dates, zones and both changes of the clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.release.windows import WEEKDAYS, Freeze, Windows, black_friday, state

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # changes its clock by half an hour
    "America/Santiago",  # changes it at midnight
    "Pacific/Apia",
)
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))


def minute_before(at: datetime) -> datetime:
    """In UTC: a minute less on a clock that was changed may be another hour."""
    return at.astimezone(UTC) - timedelta(minutes=1)


@pytest.mark.parametrize(
    ("year", "day"),
    [(2024, 29), (2025, 28), (2026, 27), (2027, 26), (2028, 24), (2029, 23), (2030, 29)],
)
def test_black_friday(year: int, day: int) -> None:
    """The day after Thanksgiving, also where November begins with a Friday or a Thursday."""
    assert black_friday(year) == date(year, 11, day)


@given(st.integers(1970, 2200))
def test_black_friday_is_the_day_after_the_fourth_thursday(year: int) -> None:
    """Counted one by one."""
    thursdays = [day for n in range(1, 31) if (day := date(year, 11, n)).weekday() == 3]
    assert black_friday(year) - timedelta(days=1) == thursdays[3]


@pytest.mark.parametrize(
    ("local", "open_", "why"),
    [
        ("2026-11-11T09:00", True, ""),
        ("2026-11-11T15:59", True, ""),
        ("2026-11-11T16:00", False, "outside of 09:00 to 16:00"),
        ("2026-11-11T08:59", False, "outside of 09:00 to 16:00"),
        ("2026-11-09T12:00", False, "Monday: deployments are on tue, wed, thu"),
        ("2026-11-13T12:00", False, "Friday: deployments are on tue, wed, thu"),
        ("2026-11-22T12:00", False, "Sunday: deployments are on tue, wed, thu"),
        ("2026-11-24T12:00", False, "frozen: Black Friday, 2026-11-23 to 2026-11-30"),
        ("2026-12-01T12:00", True, ""),
        ("2026-12-17T12:00", True, ""),
        ("2026-12-22T12:00", False, "frozen: year-end, 2026-12-20 to 2027-01-02"),
        ("2025-12-31T12:00", False, "frozen: year-end, 2025-12-20 to 2026-01-02"),
        ("2026-01-01T12:00", False, "frozen: year-end, 2025-12-20 to 2026-01-02"),
        ("2026-01-06T12:00", True, ""),
    ],
)
def test_the_strategys_windows(local: str, open_: bool, why: str) -> None:
    """Tuesday to Thursday from 9 to 16, and no deployment around Black Friday or the year's end."""
    at = datetime.fromisoformat(local).replace(tzinfo=BERLIN)
    found = state(Windows(zone="Europe/Berlin"), at)
    assert (found.open, found.why) == (open_, why)


@pytest.mark.parametrize(
    ("at", "opens"),
    [
        ("2026-11-11T16:00+01:00", "2026-11-12T09:00:00+01:00"),
        ("2026-11-12T16:00+01:00", "2026-11-17T09:00:00+01:00"),
        ("2026-11-19T16:00+01:00", "2026-12-01T09:00:00+01:00"),
        ("2026-12-17T16:00+01:00", "2027-01-05T09:00:00+01:00"),
        ("2026-03-26T16:00+01:00", "2026-03-31T09:00:00+02:00"),  # summer time begins between
        ("2026-10-22T16:00+02:00", "2026-10-27T09:00:00+01:00"),  # and ends
    ],
)
def test_it_says_when_it_opens(at: str, opens: str) -> None:
    """Nine o'clock as people's clocks show it, over weekends, freezes and changes of the clock."""
    found = state(Windows(zone="Europe/Berlin"), datetime.fromisoformat(at))
    assert not found.open
    assert found.changes is not None
    assert found.changes.isoformat() == opens


@given(MOMENTS, st.sampled_from(ZONES))
def test_nothing_opens_or_closes_before_it_says(at: datetime, zone: str) -> None:
    """At the moment it names it is the other way round, and at each before it as it was."""
    windows = Windows(zone=zone)
    now = state(windows, at)
    assert now.changes is not None
    assert now.changes > at
    assert state(windows, now.changes).open is not now.open
    assert state(windows, minute_before(now.changes)).open is now.open
    for part in (0.1, 0.5, 0.9):
        assert state(windows, at + (now.changes.astimezone(UTC) - at) * part).open is now.open


@given(MOMENTS, st.sampled_from(ZONES))
def test_the_clock_on_the_wall_decides(at: datetime, zone: str) -> None:
    """Open is never but on those days and in those hours of the place itself, however far off."""
    windows = Windows(zone=zone)
    if state(windows, at).open:
        local = at.astimezone(ZoneInfo(zone))
        assert WEEKDAYS[local.weekday()] in windows.days
        assert 9 <= local.hour < 16


CHANGES = (
    datetime(2026, 3, 29, 1, 0, tzinfo=UTC),  # Berlin goes from 2:00 to 3:00
    datetime(2026, 10, 25, 1, 0, tzinfo=UTC),  # Berlin goes from 3:00 to 2:00
)


@given(st.sampled_from(CHANGES), st.integers(-180, 180), st.integers(0, 5), st.integers(1, 179))
def test_a_window_in_the_very_hour_of_a_change(
    change: datetime, minutes: int, opens: int, length: int
) -> None:
    """One that begins at a time that does not come, or comes twice, is as the clock shows it."""
    begin = timedelta(minutes=30 * opens)
    end = min(begin + timedelta(minutes=length), timedelta(hours=23))
    day = datetime(2026, 1, 1, tzinfo=UTC)
    windows = Windows(
        zone="Europe/Berlin",
        days=("sun",),
        opens=f"{day + begin:%H:%M}",
        closes=f"{day + end:%H:%M}",
    )
    at = change + timedelta(minutes=minutes)
    local = at.astimezone(BERLIN)
    found = state(windows, at)
    shows = windows.opens <= f"{local:%H:%M}" < windows.closes and local.weekday() == 6
    assert found.open == shows
    assert found.changes is not None
    assert state(windows, found.changes).open is not found.open
    assert state(windows, minute_before(found.changes)).open is found.open


@given(MOMENTS, st.integers(0, 10), st.integers(0, 10))
def test_a_freeze_is_as_long_as_it_is_set(at: datetime, before: int, after: int) -> None:
    """No deployment from so many days before Black Friday to so many after it, and else as ever."""
    every_day = Windows(
        days=WEEKDAYS,
        opens="00:00",
        closes="23:59",
        black_friday_days_before=before,
        black_friday_days_after=after,
    )
    at = at.replace(hour=12)
    friday = black_friday(at.year)
    frozen = friday - timedelta(days=before) <= at.date() <= friday + timedelta(days=after)
    year_end = (at.month, at.day) >= (12, 20) or (at.month, at.day) <= (1, 2)
    assert state(every_day, at).open == (not frozen and not year_end)


def test_more_freezes() -> None:
    """Their first and last day are in them."""
    windows = Windows(freezes=(Freeze(name="fair", first="2027-04-13", last="2027-04-15"),))
    for day, open_ in ((8, True), (13, False), (14, False), (15, False), (20, True)):
        assert state(windows, datetime(2027, 4, day, 12, tzinfo=UTC)).open is open_


def test_a_window_that_never_opens_says_so() -> None:
    """It is looked for over a year, not for ever."""
    windows = Windows(freezes=(Freeze(name="end", first="2026-01-01", last="2030-01-01"),))
    found = state(windows, datetime(2026, 11, 11, 12, tzinfo=UTC))
    assert (found.open, found.changes) == (False, None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zone": "Mars/Olympus"}, "zone must be a name"),
        ({"zone": "../etc/passwd"}, "zone must be a name"),
        ({"opens": "9:00"}, "opens must be a time"),
        ({"closes": "24:00"}, "closes must be a time"),
        ({"closes": "08:00"}, "closes must be after opens"),
        ({"days": ()}, "days must hold"),
        ({"black_friday_days_after": 31}, "black_friday_days_after must be 0 to 30"),
        ({"year_end_first": "13-01"}, "year_end_first must be a month and a day"),
        ({"year_end_last": "12-24"}, "year_end_last must be before"),
    ],
)
def test_windows_that_can_not_be_meant(settings: dict[str, str], message: str) -> None:
    """The field, and what would be right."""
    with pytest.raises(ValueError, match=message):
        Windows(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [("2027-02-30", "2027-03-01", "first must be a date"), ("2027-02-02", "2027-02-01", "last")],
)
def test_freezes_that_can_not_be_meant(first: str, last: str, message: str) -> None:
    """A day that is none, and an end before its beginning."""
    with pytest.raises(ValueError, match=message):
        Freeze(name="x", first=first, last=last)


def test_a_moment_needs_a_zone() -> None:
    """Whose noon it is would be a guess."""
    with pytest.raises(ValueError, match="zone"):
        state(Windows(), datetime(2026, 11, 11, 12))
