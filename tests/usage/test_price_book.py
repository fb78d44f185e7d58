"""Prices are found by provider, model and day, and agree with those who keep them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ConditionalPrice, ModelPrice, StartDateConstraint
from hypothesis import given, settings
from hypothesis import strategies as st

from radgateway.exchange import Usage
from radgateway.usage.price_book import (
    Listed,
    ListedPrices,
    NoPrices,
    PackagedPrices,
    PriceBook,
    Vendor,
    _of_package,
)
from radgateway.usage.prices import Price, cost_usd

OPENAI = Vendor("main", "openai", "https://api.openai.com/v1", True)
ANTHROPIC = Vendor("claude", "anthropic", "https://api.anthropic.com", True)
GEMINI = Vendor("g", "gemini", "https://generativelanguage.googleapis.com", True)
OWN = Vendor("own", "openai", "http://localhost:11434/v1", False)
D = Decimal


def price(value: str, version: str = "v") -> Price:
    return Price(D(value), D(value), version=version)


def at(book: PriceBook, vendor: Vendor, model: str, day: str = "2026-06-01") -> Decimal | None:
    found = book.price(vendor, model)
    return (
        found.at(datetime.fromisoformat(f"{day}T12:00+00:00").timestamp()).input if found else None
    )


LIST = ListedPrices(
    "2026-06",
    [
        Listed("openai", "*", None, price("1")),
        Listed("openai", "gpt-4*", None, price("2")),
        Listed("openai", "gpt-4o", None, price("3")),
        Listed("openai", "gpt-4o", "2026-07-01", price("4")),
        Listed("openai", "gpt-4o-*", None, price("5")),
        Listed("own", "llama*", "2026-02-01", price("6")),
        Listed("main", "special", None, price("7")),
    ],
)


def test_the_most_exact_entry_counts() -> None:
    """An exact name, then the pattern with most of the name in it; a provider's name as well as
    its kind."""
    assert at(LIST, OPENAI, "gpt-4o") == 3
    assert at(LIST, OPENAI, "gpt-4o-mini") == 5
    assert at(LIST, OPENAI, "gpt-4.1") == 2
    assert at(LIST, OPENAI, "o3") == 1
    assert at(LIST, OPENAI, "special") == 7
    assert at(LIST, ANTHROPIC, "claude") is None


def test_a_kind_is_its_vendor_and_nobody_else() -> None:
    """A server that speaks OpenAI's API does not cost what OpenAI does."""
    assert at(LIST, OWN, "gpt-4o") is None
    assert at(LIST, OWN, "llama3") == 6


def test_a_price_holds_from_its_day_on() -> None:
    """The one before until then; before the first one it is unknown."""
    assert at(LIST, OPENAI, "gpt-4o", "2026-06-30") == 3
    assert at(LIST, OPENAI, "gpt-4o", "2026-07-01") == 4
    assert at(LIST, OWN, "llama3", "2026-01-31") is None


def test_without_prices_nothing_is_known() -> None:
    """And nothing is free."""
    assert NoPrices().price(OPENAI, "gpt-4o") is None
    assert NoPrices().version == ""


@pytest.fixture(scope="module")
def packaged() -> PackagedPrices:
    return PackagedPrices()


def test_the_package_is_asked_by_address(packaged: PackagedPrices) -> None:
    """So each vendor that speaks OpenAI's API has its own prices, and one's own server none."""
    assert packaged.version == f"genai-prices {genai_prices.__version__}"
    found = packaged.price(OPENAI, "gpt-4o-mini")
    assert found is not None
    assert (found.input, found.output, found.cached_input) == (D("0.15"), D("0.6"), D("0.075"))
    assert found.version == packaged.version
    groq = Vendor("groq", "openai", "https://api.groq.com/openai/v1", False)
    assert packaged.price(groq, "llama-3.3-70b-versatile") is not None
    for vendor in (OWN, Vendor("mock", "mock", None, False)):
        assert packaged.price(vendor, "gpt-4o-mini") is None
    assert packaged.price(OPENAI, "no-such-model") is None
    whisper = packaged.price(OPENAI, "whisper-1")
    assert cost_usd(Usage(audio_s=60), whisper) == D("0.006")


def test_without_the_package_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(ImportError):
        PackagedPrices()


def test_what_it_can_not_express_is_unknown(packaged: PackagedPrices) -> None:
    """A fee for each request, which no count of tokens tells, would make every cost too low."""
    perplexity = Vendor("p", "openai", "https://api.perplexity.ai", False)
    assert packaged.price(perplexity, "sonar-pro") is None
    odd = ConditionalPrice(constraint=object(), prices=ModelPrice(input_mtok=D(1)))  # type: ignore[arg-type]
    assert _of_package(_Model([odd]), "v") is None
    assert _of_package(_Model([]), "v") is None
    dated = ConditionalPrice(
        constraint=StartDateConstraint(datetime(2026, 7, 1, tzinfo=UTC).date()),
        prices=ModelPrice(input_mtok=D(1)),
    )
    later = _of_package(_Model([dated]), "v")
    assert later is not None
    assert later.at(0).input is None
    assert later.at(2e9).input == 1


class _Model:
    def __init__(self, prices: Any) -> None:
        self.prices = prices


MODELS = [
    (vendor, provider, model.id)
    for provider, vendor in (("openai", OPENAI), ("anthropic", ANTHROPIC), ("google", GEMINI))
    for each in get_snapshot().providers
    if each.id == provider
    for model in each.models
] + [
    (Vendor("d", "openai", "https://api.deepseek.com", False), "deepseek", model.id)
    for each in get_snapshot().providers
    if each.id == "deepseek"
    for model in each.models
]


@settings(max_examples=400, deadline=None)
@given(
    case=st.sampled_from(MODELS),
    read=st.integers(0, 400_000),
    written=st.integers(0, 10_000),
    parts=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    moment=st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),
)
def test_costs_are_those_of_the_package(
    packaged: PackagedPrices,
    case: tuple[Vendor, str, str],
    read: int,
    written: int,
    parts: list[float],
    moment: datetime,
) -> None:
    """For every model of the vendors, every size, day and hour: cached, stored and for an hour."""
    vendor, provider, model = case
    found = packaged.price(vendor, model)
    if found is None:
        return
    cached = int(read * parts[0])
    stored = int((read - cached) * parts[1])
    long = int(stored * parts[2])
    usage = Usage(
        read,
        written,
        cached,
        cache_write_tokens=stored,
        long_cache_write_tokens=long,
    )
    cost = cost_usd(usage, found.at(moment.timestamp()))
    theirs = calc_price(
        genai_prices.Usage(
            input_tokens=read,
            output_tokens=written,
            cache_read_tokens=cached,
            cache_write_tokens=stored,
            cache_write_1h_tokens=long,
        ),
        model,
        provider_id=provider,
        genai_request_timestamp=moment,
    )
    if cost is None:
        # They take a kind without a price for free; we take it for unknown.
        price_then = found.at(moment.timestamp())
        assert price_then.input is None or price_then.output is None
    else:
        assert cost == pytest.approx(theirs.total_price, abs=D("1e-11"))
