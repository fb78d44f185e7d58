"""Costs are exact, and unknown is never 0."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from radgateway.exchange import HEDGE_LOST, Attempt, Usage
from radgateway.usage.prices import cost_usd, request_cost_usd

PRICE = (Decimal("0.15"), Decimal("0.60"))


def attempt(
    *, cost: str | None = None, failure: str | None = None, status: int | None = None
) -> Attempt:
    """An attempt that ended."""
    made = Attempt("openai", "gpt-4o-mini", 0.0)
    made.cost_usd = Decimal(cost) if cost is not None else None
    made.failure, made.status = failure, status
    return made


def test_a_cost_is_exact() -> None:
    """Tokens times the price per million, without a float's rounding."""
    assert cost_usd(Usage(1000, 500), PRICE) == Decimal("0.00045")


def test_unknown_tokens_or_prices_make_an_unknown_cost() -> None:
    """Whatever is missing, the cost is None and not 0."""
    assert cost_usd(None, PRICE) is None
    assert cost_usd(Usage(1000, 500), None) is None
    assert cost_usd(Usage(1000, None), PRICE) is None
    assert cost_usd(Usage(source="absent"), PRICE) is None


def test_a_known_zero_is_zero() -> None:
    """A price of 0 is a price: a local model costs nothing, and that is known."""
    assert cost_usd(Usage(10, 10), (Decimal(0), Decimal(0))) == 0


def test_a_request_costs_all_of_its_attempts() -> None:
    """Failed attempts that used tokens are paid for too."""
    attempts = [attempt(cost="0.25", failure="idle_timeout"), attempt(cost="0.5")]
    assert request_cost_usd(attempts) == Decimal("0.75")


def test_a_refused_attempt_is_free_and_an_abandoned_one_unknown() -> None:
    """A 429 costs nothing; a stream that was broken off cost something nobody reported."""
    refused = attempt(failure="http_429", status=429)
    broken = attempt(failure="idle_timeout", status=200)
    broken.first_byte = 1.0
    assert request_cost_usd([refused, attempt(cost="0.5")]) == Decimal("0.5")
    assert request_cost_usd([broken, attempt(cost="0.5")]) is None
    assert request_cost_usd([attempt(status=200)]) is None
    assert request_cost_usd([]) is None


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_costs_add_up(read: int, written: int) -> None:
    """The cost of a sum is the sum of the costs."""
    one, other = cost_usd(Usage(read, 0), PRICE), cost_usd(Usage(0, written), PRICE)
    assert one is not None
    assert other is not None
    assert cost_usd(Usage(read, written), PRICE) == one + other


def test_what_a_lost_hedge_cost_is_not_known() -> None:
    """It was cancelled under way; its provider may charge for it, so the sum is unknown."""
    lost = attempt(failure=HEDGE_LOST)
    assert request_cost_usd([attempt(cost="0.5"), lost]) is None
    lost.sent = False
    assert request_cost_usd([attempt(cost="0.5"), lost]) == Decimal("0.5")
