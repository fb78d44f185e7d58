"""Times as people write them mean one thing, or are refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.usage.moment import PATTERN, moment, rfc3339

NOW = 1_795_600_800.0  # 2026-11-25T10:00:00Z


@pytest.mark.parametrize(
    ("text", "unix_s"),
    [
        ("2026-11-25T10:00:00Z", NOW),
        ("2026-11-25t10:00:00z", NOW),
        ("2026-11-25 10:00:00Z", NOW),
        ("2026-11-25T11:00:00+01:00", NOW),
        ("2026-11-25T11:00:00 01:00", NOW),  # as a query string has it whose plus was not escaped
        ("2026-11-25T04:30:00-05:30", NOW),
        ("2026-11-25T10:00:00.25Z", NOW + 0.25),
        ("2026-11-25T10:00:00.123456789Z", NOW + 0.123456),
        ("2026-11-25", NOW - 10 * 3600),
        ("1795600800", NOW),
        ("1795600800.5", NOW + 0.5),
        ("0", 0.0),
        ("-90s", NOW - 90),
        ("-30m", NOW - 1800),
        ("-24h", NOW - 86_400),
        ("-7d", NOW - 7 * 86_400),
        ("7d", NOW - 7 * 86_400),
        ("-2w", NOW - 14 * 86_400),
        ("-999999999w", 0.0),
    ],
)
def test_a_time_is_read(text: str, unix_s: float) -> None:
    """RFC 3339, a day, Unix seconds, or an age; nothing before 1970."""
    assert moment(text, NOW) == pytest.approx(unix_s, abs=1e-6)
    assert re.search(PATTERN, text.replace(" 01:00", "+01:00"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-11-25T10:00:00",  # whose ten o'clock?
        "2026-02-30",
        "2026-11-25T25:00:00Z",
        "2026-11-25T10:00:60Z",
        "2026-11-25T10:00:00+25:00",
        "0000-01-01",
        "1e9",
        "nan",
        "inf",
        "-1",
        "+24h",
        "24 h",
        "-24y",
        "--24h",
        "١٧",  # noqa: RUF001
        "9" * 12,
        "2026-11-25T10:00:00Z\n",
    ],
)
def test_what_is_no_time_is_said_to_be_none(text: str) -> None:
    """With the forms that are taken."""
    with pytest.raises(ValueError, match=r"is no time; write RFC 3339 .* or how long ago"):
        moment(text, NOW)


@given(st.text(alphabet="0123456789-+:.TZ smhdwx", max_size=32))
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    """And never a time in the future that was an age."""
    try:
        read = moment(text, NOW)
    except ValueError:
        return
    assert abs(read) < 1e12
    assert re.search(PATTERN, text) or " " in text


@given(st.from_regex(PATTERN, fullmatch=True))
def test_what_has_the_documented_form_is_refused_for_its_calendar_only(text: str) -> None:
    """An age and Unix seconds have none."""
    if "-" not in text[1:]:
        assert moment(text, NOW) >= 0


@given(st.integers(0, 4_102_444_800_000))
def test_what_is_shown_is_read_back(milliseconds: int) -> None:
    """To the millisecond."""
    assert moment(rfc3339(milliseconds / 1000), NOW) == pytest.approx(milliseconds / 1000, abs=1e-3)
