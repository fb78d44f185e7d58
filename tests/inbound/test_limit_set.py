"""What a configuration may say of limits, and what it comes to."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import parse

from radgateway.inbound.limit_set import (
    BUDGET,
    CONCURRENCY,
    KINDS,
    MONEY,
    NANO,
    OUTPUT_TOKENS,
    REQUESTS,
    TOKENS,
    Budget,
    LimitSet,
    Rate,
    check_rates,
    rates_of,
)
from radgateway.telemetry.declared import LIMITED


def test_a_set_comes_to_its_rates() -> None:
    """Every kind, in its own unit, with words for the caller."""
    limits = LimitSet(
        requests=("60/minute", "5 per 10 second"),
        tokens=("100000/hour",),
        output_tokens=("7 per day",),
        money=("0.50/day", "20/month"),
        max_concurrency=3,
    )
    assert rates_of(limits) == (
        Rate(REQUESTS, 60, 60, "60 requests per minute"),
        Rate(REQUESTS, 5, 10, "5 requests per 10 seconds"),
        Rate(TOKENS, 100_000, 3600, "100000 tokens per hour"),
        Rate(OUTPUT_TOKENS, 7, 86_400, "7 output tokens per day"),
        Rate(MONEY, NANO // 2, 86_400, "0.50 USD per day"),
        Rate(MONEY, 20 * NANO, 30 * 86_400, "20 USD per month"),
        Rate(CONCURRENCY, 3, 0, "3 requests at once"),
    )


def test_of_two_limits_over_one_window_the_lower_binds() -> None:
    """They would share an account, and the higher could never be reached."""
    (rate,) = rates_of(LimitSet(requests=("9/minute", "5/minute", "7 per 1 minute")))
    assert rate.amount == 5


@given(
    st.integers(1, 10**9),
    st.sampled_from(["/", " per ", " PER ", " / "]),
    st.integers(1, 9),
    st.sampled_from(["second", "minutes", "hour", "day", "months", "year"]),
)
def test_the_notation_is_the_librarys(amount: int, mark: str, multiples: int, unit: str) -> None:
    """What `limits` reads, we read as the same."""
    text = f"{amount}{mark}{multiples} {unit}"
    theirs = parse(text)
    (ours,) = rates_of(LimitSet(requests=(text,)))
    assert (ours.amount, ours.window_s) == (theirs.amount, theirs.get_expiry())


@pytest.mark.parametrize("kind", [REQUESTS, MONEY])
@pytest.mark.parametrize(
    "text",
    ["", "often", "0/minute", "1/minute; 2/hour", "-1/day", "1/11 year", "1/fortnight", "9" * 17],
)
def test_what_is_no_rate_is_refused(kind: int, text: str) -> None:
    """With the field's name in front and the text in the message."""
    with pytest.raises(ValueError, match=r"^spent must hold rates such as .*not ") as caught:
        check_rates(kind, "spent", [text])
    assert repr(text) in str(caught.value)


def test_only_money_has_decimals_and_no_more_than_counts() -> None:
    """Nobody makes half a request; a billionth of a dollar is the least that is counted."""
    check_rates(MONEY, "money", ["0.000000001/day"])
    for kind, text in ((REQUESTS, "1.5/day"), (MONEY, "0.0000000001/day"), (MONEY, "9000000/day")):
        with pytest.raises(ValueError, match="must hold rates"):
            check_rates(kind, "money", [text])


def test_lines_hold_several_limits() -> None:
    """As `limits` writes them, and bad ones are named."""
    assert LimitSet.of_requests("5/minute; 100/hour").requests == ("5/minute", "100/hour")
    assert LimitSet.of_requests(["5/minute", "1/day,2/month"]).requests == (
        "5/minute",
        "1/day",
        "2/month",
    )
    for wrong in ("60 pro Minute", "", "; ;"):
        with pytest.raises(ValueError, match="requests must hold"):
            LimitSet.of_requests(wrong)


@pytest.mark.parametrize("most", [0, -1, 1_000_001])
def test_a_bound_on_concurrency_is_a_number_of_requests(most: int) -> None:
    """At least one, or nothing would ever pass."""
    with pytest.raises(ValueError, match=r"^max_concurrency must"):
        LimitSet(max_concurrency=most)


def test_the_metric_knows_every_kind() -> None:
    """The reasons of the counter are the kinds of limit, enforced and in shadow."""
    names = (*KINDS, BUDGET)
    assert set(LIMITED) == {*names, *(f"shadow_{name}" for name in names)}


def test_a_budget_is_beside_the_limits_of_money() -> None:
    """For a month unless it says a day, exact to the billionth, and told apart by its words."""
    rates = rates_of(LimitSet(money=("5/day",), budget=Budget(usd=Decimal("50.5"))))
    assert [(rate.kind, rate.amount, rate.period) for rate in rates] == [
        (MONEY, 5 * NANO, None),
        (MONEY, 50_500_000_000, "month"),
    ]
    assert [rate.text for rate in rates] == ["5 USD per day", "50.5 USD per calendar month"]
    (rate,) = rates_of(LimitSet(budget=Budget(usd=Decimal("1e-9"), per="day")))
    assert (rate.amount, rate.period) == (1, "day")


@pytest.mark.parametrize("usd", ["0", "-1", "1000001"])
def test_a_budget_is_some_money(usd: str) -> None:
    """None would refuse everything, and too much could not be counted exactly."""
    with pytest.raises(ValueError, match=r"^usd must be over 0"):
        Budget(usd=Decimal(usd))
