"""A time divides into pieces without gap or overlap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from usage.ledger_rows import DAY_S, NOON, times

from radgateway.usage.spans import Span, spans

ends = st.none() | times


def within(moment: float, span: Span) -> bool:
    """Whether a time is in a span."""
    return (span.since is None or moment >= span.since) and (
        span.until is None or moment < span.until
    )


@given(ends, ends, times, st.booleans())
def test_each_moment_is_in_one_piece(
    since: float | None, until: float | None, moment: float, by_day: bool
) -> None:
    """One, if it was asked for, and none if it was not."""
    asked = Span(since, until)
    pieces = spans(asked, by_day=by_day)
    found = [each for kind in pieces for each in kind if within(moment, each)]
    assert len(found) == (1 if within(moment, asked) else 0)


@given(ends, ends, st.booleans())
def test_pieces_are_whole_and_few(since: float | None, until: float | None, by_day: bool) -> None:
    """Days and hours begin and end where roll-ups do; rows are read for less than two hours."""
    pieces = spans(Span(since, until), by_day=by_day)
    for kind, width_s in ((pieces.days, DAY_S), (pieces.hours, 3600)):
        assert all(end is None or end % width_s == 0 for each in kind for end in each)
    assert not (pieces.days and not by_day)
    assert len(pieces.days) <= 1
    assert len(pieces.hours) <= 2
    assert len(pieces.rows) <= 2
    assert sum((each.until or 0) - (each.since or 0) for each in pieces.rows) < 7200 or (
        since is not None and until is not None and until < since
    )


@pytest.mark.parametrize(
    ("asked", "days", "hours", "rows"),
    [
        (Span(None, None), [Span(None, None)], [], []),
        (
            Span(NOON - DAY_S + 60, NOON + 60),
            [],
            [Span(NOON - DAY_S + 3600, NOON)],
            [Span(NOON - DAY_S + 60, NOON - DAY_S + 3600), Span(NOON, NOON + 60)],
        ),
        (Span(NOON + 1, NOON + 2), [], [], [Span(NOON + 1, NOON + 2)]),
    ],
)
def test_examples(asked: Span, days: list[Span], hours: list[Span], rows: list[Span]) -> None:
    """All there is; a day that is none; a second."""
    assert spans(asked, by_day=True) == (days, hours, rows)
