"""Where prices come from: a list of one's own, or the package genai-prices.

A candidate's price is looked up when the gateway is built, or for a wildcard when its model is
first asked for, and kept with the candidate: no request waits for a look-up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Protocol

from radgateway.usage.prices import Price


@dataclass(frozen=True, slots=True)
class Vendor:
    """A provider, as prices are looked up for it."""

    name: str
    """As it is configured."""
    kind: str
    """The API it speaks."""
    base_url: str | None
    at_vendor: bool
    """Whether it is the vendor of that API itself, and not a server that speaks its language."""


class PriceBook(Protocol):
    """Knows prices. A gateway has one; another one of a newer version can take its place."""

    source: str
    version: str
    """Names it in rows; empty where it knows nothing."""

    def price(self, vendor: Vendor, model: str) -> Price | None:
        """The price of a model at a provider; None where it is unknown, which is not free."""


class NoPrices:
    """Knows none."""

    source = "none"
    version = ""

    def price(self, vendor: Vendor, model: str) -> Price | None:
        """It is unknown."""
        return None


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a list: what a model costs at a provider from a day on."""

    provider: str
    model: str
    since: str | None
    price: Price


class ListedPrices:
    """The prices of a list.

    A provider is meant by its own name, or by its kind where it is the vendor itself: a server of
    one's own that speaks OpenAI's API does not cost what OpenAI does. An exact model goes before a
    pattern, and of patterns the one with the most literal characters.
    """

    source = "file"

    def __init__(self, version: str, entries: Iterable[Listed]) -> None:
        self.version = version
        self._entries: dict[str, list[tuple[int, re.Pattern[str], Price]]] = {}
        dated: dict[tuple[str, str], list[tuple[float, Price]]] = {}
        for entry in entries:
            since = _unix_s(date.fromisoformat(entry.since)) if entry.since else 0.0
            dated.setdefault((entry.provider, entry.model), []).append((since, entry.price))
        for (provider, model), prices in dated.items():
            parts = model.split("*")
            literal = sum(map(len, parts)) + (len(parts) == 1)
            pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
            row = (literal, pattern, _in_time(prices))
            self._entries.setdefault(provider, []).append(row)
        for rows in self._entries.values():
            rows.sort(key=lambda row: -row[0])

    def price(self, vendor: Vendor, model: str) -> Price | None:
        """The price of a model at a provider; None where the list has none."""
        names = (vendor.name, vendor.kind) if vendor.at_vendor else (vendor.name,)
        for name in names:
            for _, pattern, price in self._entries.get(name, ()):
                if pattern.fullmatch(model):
                    return price
        return None


class PackagedPrices:
    """The prices of genai-prices, found by a provider's address. Raises `ImportError`.

    It is imported here and not before: it takes a third of a second and 13 MB. Its own
    look-up remembers every name it was ever asked for; this asks its models themselves.
    """

    source = "builtin"

    def __init__(self) -> None:
        import genai_prices  # noqa: PLC0415 - an extra
        from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

        self.version = f"genai-prices {genai_prices.__version__}"
        self._providers: list[Any] = get_snapshot().providers

    def price(self, vendor: Vendor, model: str) -> Price | None:
        """The price of a model at a provider; None where the package has none."""
        url = vendor.base_url
        if url is None:
            return None
        for provider in self._providers:
            if re.match(provider.api_pattern, url):
                found = provider.find_model(model, all_providers=self._providers)
                return _of_package(found, self.version) if found is not None else None
        return None


_PACKAGE_KINDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "long_cache_write": "cache_write_1h_mtok",
    "input_audio": "input_audio_mtok",
    "input_image": "input_image_mtok",
    "output_audio": "output_audio_mtok",
    "output_image": "output_image_mtok",
}


def _of_package(model: Any, version: str) -> Price | None:
    """A model's prices as ours: what holds from when on, at which hours, and for which size."""
    conditions = model.prices if isinstance(model.prices, list) else [model.prices]
    dated: list[tuple[float, Price]] = []
    hours: list[tuple[int, int, Price]] = []
    for condition in conditions:
        constraint = getattr(condition, "constraint", None)
        price = _of_sizes(getattr(condition, "prices", condition), version)
        if price is None:
            return None
        if constraint is None:
            dated.append((0.0, price))
        elif hasattr(constraint, "start_date"):
            dated.append((_unix_s(constraint.start_date), price))
        elif hasattr(constraint, "start_time"):
            hours.append((_second(constraint.start_time), _second(constraint.end_time), price))
        else:
            return None  # a condition nobody here knows
    if not dated:
        return None
    with_hours = [(since, replace(price, hours=tuple(hours))) for since, price in dated]
    return _in_time(with_hours)


def _of_sizes(prices: Any, version: str) -> Price | None:
    found = {name: getattr(prices, key) for name, key in _PACKAGE_KINDS.items()}
    if getattr(prices, "requests_kcount", None) is not None:
        return None  # there is a fee for each request, which no count of tokens tells
    hour = getattr(prices, "audio_hours", None) or getattr(prices, "input_audio_hours", None)
    if not isinstance(hour, Decimal | None):
        return None
    sizes = {tier.start for value in found.values() for tier in getattr(value, "tiers", ())}

    def of(size: int | None) -> Price:
        of_kind: dict[str, Any] = {name: _of_size(value, size) for name, value in found.items()}
        return Price(**of_kind, audio_hour=hour, version=version)

    above = tuple((size, of(size)) for size in sorted(sizes))
    return replace(of(None), above=above)


def _of_size(value: Any, size: int | None) -> Decimal | None:
    """A price, or of one in tiers the one of prompts with more tokens than a size."""
    if value is None or isinstance(value, Decimal):
        return value
    price: Decimal = value.base
    for tier in value.tiers:
        if size is not None and size >= tier.start:
            price = tier.price
    return price


def _in_time(dated: list[tuple[float, Price]]) -> Price:
    """One price of several that hold from a time on, in Unix seconds."""
    first, *rest = sorted(dated, key=lambda row: row[0])
    if first[0] == 0.0:
        return replace(first[1], later=tuple(rest))
    # Nobody knows what it cost before.
    unknown = Price(None, None, version=first[1].version)
    return replace(unknown, later=(first, *rest))


def _unix_s(day: date) -> float:
    return datetime.combine(day, time(), UTC).timestamp()


def _second(moment: time) -> int:
    """The second of the day, in UTC."""
    offset = moment.utcoffset()
    second = moment.hour * 3600 + moment.minute * 60 + moment.second
    return int(second - (offset.total_seconds() if offset is not None else 0)) % 86_400
