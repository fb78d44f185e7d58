"""Costs are exact, and unknown is never 0."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.exchange import Attempt, Usage
from radgateway.usage.prices import Price, cost_usd, request_cost_usd

PRICE = Price(Decimal("0.15"), Decimal("0.60"))


def attempt(*, cost: str | None = None, usage: Usage | None = None) -> Attempt:
    """An attempt that ended."""
    made = Attempt("openai", "gpt-4o-mini", 0.0)
    made.cost_usd = Decimal(cost) if cost is not None else None
    made.usage = usage
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
    assert cost_usd(Usage(10, 10), Price(Decimal(0), Decimal(0))) == 0


def test_a_request_costs_all_of_its_attempts() -> None:
    """Failed attempts that used tokens are paid for too."""
    attempts = [attempt(cost="0.25", usage=Usage(5, 5, source="estimated")), attempt(cost="0.5")]
    assert request_cost_usd(attempts) == Decimal("0.75")


def test_an_attempt_that_used_nothing_is_free_and_one_that_nobody_knows_of_is_not() -> None:
    """A refusal adds nothing to the sum; what was used and not told, or has no price, makes it
    unknown."""
    assert request_cost_usd([attempt(), attempt(cost="0.5")]) == Decimal("0.5")
    for usage in (Usage(source="absent"), Usage(5, None, source="estimated"), Usage(5, 5)):
        assert request_cost_usd([attempt(usage=usage), attempt(cost="0.5")]) is None
        assert request_cost_usd([attempt(usage=usage)]) is None
    assert request_cost_usd([]) is None
    assert request_cost_usd([attempt()]) is None


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_costs_add_up(read: int, written: int) -> None:
    """The cost of a sum is the sum of the costs."""
    one, other = cost_usd(Usage(read, 0), PRICE), cost_usd(Usage(0, written), PRICE)
    assert one is not None
    assert other is not None
    assert cost_usd(Usage(read, written), PRICE) == one + other


D = Decimal
FULL = Price(
    D(3),
    D(15),
    cached_input=D("0.30"),
    cache_write=D("3.75"),
    long_cache_write=D(6),
    input_audio=D(40),
    input_image=D(5),
    output_audio=D(80),
    output_image=D(30),
)


@pytest.mark.parametrize(
    ("usage", "price", "millionths"),
    [
        (Usage(1000, 100), FULL, 3000 + 1500),
        (Usage(1000, 100, cached_tokens=800), FULL, 600 + 240 + 1500),
        (Usage(1000, 0, 100, None, 400), FULL, 1500 + 30 + 1500),
        (Usage(1000, 0, cache_write_tokens=400, long_cache_write_tokens=100), FULL, 4125 - 600),
        (Usage(100, 0, input_audio_tokens=60, input_image_tokens=30), FULL, 30 + 2400 + 150),
        (Usage(0, 100, output_audio_tokens=60, output_image_tokens=30), FULL, 150 + 4800 + 900),
        (Usage(1000, 100, reasoning_tokens=90), FULL, 4500),
        # Of the cached, 50 are among the 60 of sound: which of them nobody says.
        (Usage(100, 0, cached_tokens=90, input_audio_tokens=60), FULL, 12 + 2400),
        # They contradict each other.
        (Usage(100, 0, input_image_tokens=90, input_audio_tokens=60), FULL, 300),
        (Usage(0, 100, output_image_tokens=90, output_audio_tokens=60), FULL, 1500),
        # Kinds without a price of their own are charged as any other token.
        (Usage(1000, 10, 800, 5, 100, 50, 20, 10, 3, 4), PRICE, 156),
        (
            Usage(9, 0, cache_write_tokens=9, long_cache_write_tokens=9),
            replace(FULL, long_cache_write=None),
            33.75,
        ),
    ],
)
def test_each_kind_of_token_has_its_price(usage: Usage, price: Price, millionths: float) -> None:
    """What was cached costs less where that is known, and no discount is made up."""
    assert cost_usd(usage, price) == D(str(millionths)) / 10**6


def test_a_large_prompt_may_cost_more_and_all_of_it() -> None:
    """Beyond a size, every token of the request has the other price."""
    price = replace(FULL, above=((200_000, Price(D(6), D("22.5"))), (10**6, Price(D(9), D(9)))))
    assert cost_usd(Usage(200_000, 10), price) == D("0.60015")
    assert cost_usd(Usage(200_001, 10), price) == D("1.200231")
    assert cost_usd(Usage(2 * 10**6, 0), price) == 18


def test_a_price_may_change_with_time() -> None:
    """On a day, and at hours of each day."""
    night = Price(D(1), D(1), version="night")
    price = replace(
        FULL,
        later=((1000.0, replace(PRICE, hours=((79_200, 3600, night),))),),
        hours=((0, 500, night),),
    )
    assert [price.at(t) for t in (499, 500, 999)] == [night, price, price]
    found = [price.at(86_400 + t).version for t in (3599, 3600, 79_199, 79_200)]
    assert found == ["night", "", "", "night"]
    assert PRICE.at(0) is PRICE


def test_sound_is_charged_by_the_hour_where_there_are_no_tokens() -> None:
    """And to twelve decimals at most."""
    price = Price(None, None, audio_hour=D("0.36"))
    assert cost_usd(Usage(audio_s=7.5), price) == D("0.00075")
    assert cost_usd(Usage(audio_s=0.1), replace(price, audio_hour=D("0.1"))) == D("0.000002777778")
    assert cost_usd(Usage(audio_s=7.5), PRICE) is None
    assert cost_usd(Usage(5, None, audio_s=7.5), price) is None


def test_a_price_that_lacks_what_was_used_is_unknown() -> None:
    """An embedding has no price of output, and none is needed."""
    price = Price(D("0.02"), None)
    assert cost_usd(Usage(10, 0), price) == D("0.0000002")
    assert cost_usd(Usage(10, 1), price) is None
    assert cost_usd(Usage(1, 0), Price(None, D(1))) is None


_tokens = st.none() | st.integers(0, 1000)


@given(st.builds(Usage, *[_tokens] * 10))
def test_a_discount_needs_a_price(usage: Usage) -> None:
    """Whatever is reported, it costs as much as all of it at the plain price, where that is all
    that is known."""
    cost = cost_usd(usage, PRICE)
    plain = cost_usd(Usage(usage.input_tokens, usage.output_tokens), PRICE)
    assert cost == plain or (usage.long_cache_write_tokens or 0) > (usage.cache_write_tokens or 0)
