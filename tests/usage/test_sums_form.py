"""Sums are shown without making what is unknown look free."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.usage.query import Sums
from radgateway.usage.sums_form import sums_read, sums_shown, total_of


def test_a_sum_has_the_originals_number_and_the_exact_decimal() -> None:
    """Both at once, and the group by its names."""
    sums = Sums(
        group=("2026-11-25T00:00:00Z", "alice"),
        requests=3,
        good=2,
        input_tokens=30,
        output_tokens=12,
        cached_tokens=8,
        reasoning_tokens=4,
        cost_usd=Decimal("0.0000126"),
        unknown_cost=1,
    )
    shown = sums_shown(sums, ("day", "key"))
    assert shown["group"] == {"day": "2026-11-25T00:00:00Z", "key": "alice"}
    assert (shown["requests"], shown["good"], shown["errors"]) == (3, 2, 1)
    assert shown["usage"] == {
        "prompt_tokens": 30,
        "completion_tokens": 12,
        "total_tokens": 42,
        "cost_total": 0.0000126,
        "cached_tokens": 8,
        "reasoning_tokens": 4,
    }
    assert (shown["costUsd"], shown["unknownCost"]) == ("0.0000126", 1)


def test_what_nobody_knows_is_null() -> None:
    """Not 0; and what was not used by nobody is 0."""
    unknown = sums_shown(Sums(requests=2, unknown_usage=2, unknown_cost=2))
    assert (unknown["costUsd"], unknown["usage"]["cost_total"]) == (None, None)
    assert unknown["usage"]["total_tokens"] is None
    nothing = sums_shown(Sums())
    assert (nothing["costUsd"], nothing["usage"]["total_tokens"]) == ("0", 0)


def test_half_of_a_requests_tokens_are_shown() -> None:
    """A request that knows its input counts as unknown, and its input is in the sum."""
    shown = sums_shown(Sums(requests=1, unknown_usage=1, input_tokens=7))
    assert (shown["usage"]["prompt_tokens"], shown["unknownUsage"]) == (7, 1)


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        ("0.000025200000000000", "0.0000252"),
        ("10.000000000000000000", "10"),
        ("100", "100"),
        ("1E+2", "100"),
        ("0E-18", "0"),
        ("123456789012345678901234.567890123456", "123456789012345678901234.567890123456"),
    ],
)
def test_a_cost_is_the_same_text_from_every_ledger(cost: str, text: str) -> None:
    """Exact, however many digits; a database gives a sum the places of its column."""
    assert sums_shown(Sums(requests=1, cost_usd=Decimal(cost)))["costUsd"] == text


counts = st.integers(0, 10**12)


@st.composite
def some_sums(draw: st.DrawFn) -> Sums:
    """Sums that rows can come to."""
    requests = draw(st.integers(1, 10**9))
    unknown_cost = draw(st.integers(0, requests))
    unknown_usage = draw(st.integers(0, requests - 1))
    return Sums(
        group=(draw(st.text()),),
        requests=requests,
        good=draw(st.integers(0, requests)),
        input_tokens=draw(counts),
        output_tokens=draw(counts),
        cached_tokens=draw(counts),
        reasoning_tokens=draw(counts),
        unknown_usage=unknown_usage,
        cost_usd=(draw(st.decimals(0, 10**6, places=12)) if unknown_cost < requests else Decimal()),
        unknown_cost=unknown_cost,
    )


@given(some_sums())
def test_what_is_shown_is_read_back(sums: Sums) -> None:
    """Through JSON and all, to the last decimal."""
    through = msgspec.json.decode(msgspec.json.encode(sums_shown(sums, ("key",))))
    assert sums_read(through) == sums


@given(st.lists(some_sums()))
def test_the_total_is_of_all(several: list[Sums]) -> None:
    """Exactly, costs too."""
    total = total_of(several)
    assert total.requests == sum(each.requests for each in several)
    assert total.cost_usd == sum((each.cost_usd for each in several), Decimal())
    assert total.group == ()
