"""Roll-ups count what sums count, and keep to the keys' order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from usage.ledger_rows import rows

from radgateway.usage.query import Sums, UsageFilter, summed, sums_of
from radgateway.usage.rollup import DAY_S, FIGURES, HOUR_S, by_day, by_hour, rollup_values
from radgateway.usage.row import UsageRow

some_rows = st.lists(rows, max_size=12)


@given(rows)
def test_a_row_counts_as_in_a_sum(row: UsageRow) -> None:
    """The figures, their order and what is unknown are said once in `sums_of`, and hold here."""
    ((_, figures),) = by_hour([row]).items()
    assert figures == [getattr(sums_of(row), name) for name, _ in FIGURES]


@given(some_rows)
def test_hours_and_days_add_up_to_all(kept: list[UsageRow]) -> None:
    """Nothing is counted in two buckets, or in none, and each begins where its time does."""
    (total,) = summed(kept, UsageFilter(), ())
    hours = by_hour(kept)
    for of, width_s in ((hours, HOUR_S), (by_day(hours), DAY_S)):
        found = Sums()
        for figures in of.values():
            named = dict(zip((name for name, _ in FIGURES), figures, strict=True))
            found = found.plus(Sums(**named))
        assert found == total
        assert {key[0] for key in of} == {int(r.started_at // width_s) * width_s for r in kept}


@given(some_rows)
def test_values_are_in_one_order(kept: list[UsageRow]) -> None:
    """Whoever writes them, in whatever order the rows came: two writers can't wait in a circle."""
    values = rollup_values(by_hour(kept))
    assert values == sorted(values)
    assert values == rollup_values(by_hour(kept[::-1]))
