"""What models cost: the configured source of prices, and what nobody knows a price of."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from radgateway.config.load import load_price_file
from radgateway.config.prices import PriceFile
from radgateway.config.providers import CandidateConfig
from radgateway.config.schema import GatewayConfig
from radgateway.routing.models import PriceOf
from radgateway.usage.price_book import (
    Listed,
    ListedPrices,
    NoPrices,
    PackagedPrices,
    PriceBook,
    Vendor,
)
from radgateway.usage.prices import Price

CONFIGURED = "config"
"""The version of a price that stands with its candidate."""

_SHOWN_MAX = 8


def price_book(config: GatewayConfig) -> PriceBook:
    """The configured source of prices. Raises `ConfigError` for a file that can't be used."""
    settings = config.prices
    if settings.file is not None:
        return listed(load_price_file(settings.file))
    if settings.source == "builtin" or (settings.source == "auto" and _needed(config)):
        return PackagedPrices()
    return NoPrices()


def listed(file: PriceFile) -> ListedPrices:
    """The prices of a file."""
    return ListedPrices(
        file.version,
        (
            Listed(
                entry.provider,
                entry.model,
                entry.since,
                entry.price.price(
                    file.version,
                    above=tuple(
                        (each.input_tokens, each.price.price(file.version))
                        for each in sorted(entry.above, key=lambda each: each.input_tokens)
                    ),
                ),
            )
            for entry in file.prices
        ),
    )


def price_of(config: GatewayConfig, book: PriceBook) -> PriceOf:
    """Looks prices up by a provider's name and a model."""
    vendors = {
        name: Vendor(name, provider.kind, provider.base_url, provider.at_vendor)
        for name, provider in config.providers.items()
    }

    def find(provider: str, model: str) -> Price | None:
        vendor = vendors.get(provider)
        return book.price(vendor, model) if vendor is not None else None

    return find


def notices(config: GatewayConfig, book: PriceBook) -> Iterator[str]:
    """What is worth knowing about prices before it surprises somebody."""
    find = price_of(config, book)
    unknown: list[str] = []
    for name, model in config.models.items():
        unpriced = [c for c in model.candidates if not _priced(config, c, find)]
        unknown += [f"{c.provider}/{c.model}" for c in unpriced if not _invented(config, c)]
        if unpriced and _money_is_limited(config):
            yield (
                f"money is limited, but models.{name} has no price at "
                f"{', '.join(c.provider for c in unpriced)}: what is spent there is not counted"
            )
    if unknown:
        names = list(dict.fromkeys(unknown))
        more = f" and {len(names) - _SHOWN_MAX} more" if len(names) > _SHOWN_MAX else ""
        yield (
            f"no price is known of {', '.join(names[:_SHOWN_MAX])}{more}: "
            "what they cost is null in the usage ledger"
        )


def _priced(config: GatewayConfig, candidate: CandidateConfig, find: PriceOf) -> bool:
    if candidate.price is not None:
        return True
    if candidate.model == "*":
        # Which models there are is not known yet; a source that knows the provider may know them.
        return config.prices.source != "none" and not _invented(config, candidate)
    return find(candidate.provider, candidate.model) is not None


def _invented(config: GatewayConfig, candidate: CandidateConfig) -> bool:
    """Whether a candidate is a mock, whose answers nobody charges for."""
    provider = config.providers.get(candidate.provider)
    return provider is not None and provider.kind == "mock"


def _needed(config: GatewayConfig) -> bool:
    """Whether the package is there, and knows anything that nobody else says."""
    candidates = [c for model in config.models.values() for c in model.candidates]
    asked = any(c.price is None and not _invented(config, c) for c in candidates)
    return asked and importlib.util.find_spec("genai_prices") is not None


def _money_is_limited(config: GatewayConfig) -> bool:
    sets = [config.limits.per_caller, config.limits.total]
    sets += [key.limit_set for key in config.keys]
    sets += [model.limits for model in config.models.values()]
    return any(each is not None and (each.money or each.budget) for each in sets)
