"""Periods are those of the calendar in UTC, and accounts of them are bounded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.inbound.limit_period import (
    LONGEST_S,
    Period,
    PeriodAccounts,
    index_of,
    left_s,
    start_of,
)

PERIODS: list[Period] = ["day", "month"]


@pytest.mark.parametrize(
    ("period", "moment", "start", "end"),
    [
        ("day", "2026-02-28T23:59:59.9", "2026-02-28", "2026-03-01"),
        ("day", "2028-02-29", "2028-02-29", "2028-03-01"),
        ("month", "2028-02-29T12:00", "2028-02-01", "2028-03-01"),
        ("month", "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        ("month", "2026-01-01", "2026-01-01", "2026-02-01"),
    ],
)
def test_days_and_months_begin_at_midnight_utc(
    period: Period, moment: str, start: str, end: str
) -> None:
    """And end where the next one begins."""

    def unix_s(text: str) -> float:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()

    index = index_of(period, unix_s(moment))
    assert start_of(period, index) == unix_s(start)
    assert start_of(period, index + 1) == unix_s(end)
    assert left_s(period, index, unix_s(moment)) == pytest.approx(unix_s(end) - unix_s(moment))
    assert left_s(period, index, unix_s(end) + 9) == 0


@given(
    st.sampled_from(PERIODS),
    st.datetimes(datetime(1970, 1, 1), datetime(2199, 1, 1), timezones=st.just(UTC)),
)
def test_every_moment_is_in_one_period(period: Period, moment: datetime) -> None:
    """Which is never longer than it is said to be at most."""
    index = index_of(period, moment.timestamp())
    start, end = start_of(period, index), start_of(period, index + 1)
    assert start <= moment.timestamp() < end
    assert end - start <= LONGEST_S[period]
    assert index_of(period, (moment + timedelta(days=31)).timestamp()) > index


def test_an_account_begins_anew_with_its_period() -> None:
    """And a clock that is set back gives nothing back."""
    accounts = PeriodAccounts()
    accounts.at("k", "day", 86_400).current += 5
    assert accounts.at("k", "day", 2 * 86_400 - 1).current == 5
    assert accounts.at("k", "day", 2 * 86_400).current == 0
    accounts.at("k", "day", 2 * 86_400).current += 3
    assert accounts.at("k", "day", 86_400).current == 3


def test_accounts_are_bounded() -> None:
    """The one used longest ago makes room."""
    accounts = PeriodAccounts(max_keys=3)
    for key in "abcd":
        accounts.at(key, "day", 0).current += 1
    assert len(accounts) == 3
    accounts.correct("a", 0, 5)
    assert accounts.at("a", "day", 0).current == 0
    accounts.correct("d", 0, -5)
    assert accounts.at("d", "day", 0).current == 0
