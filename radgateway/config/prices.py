"""The section `prices`, a candidate's own price, and the form of a file of prices."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Literal

from radgateway.config.values import MODEL, within
from radgateway.usage.prices import Price


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceConfig:
    """USD per million tokens, exactly as written."""

    input: Decimal
    """Of the prompt."""
    output: Decimal
    """Of the answer; 0 for embeddings."""
    cached_input: Decimal | None = None
    """Of what is read from a prompt cache; null counts it as any other input."""
    cache_write: Decimal | None = None
    """Of what is written to one; null counts it as any other input."""
    long_cache_write: Decimal | None = None
    """Of what is written to one for an hour; null is `cache_write`."""
    input_audio: Decimal | None = None
    """Of sound in the prompt."""
    input_image: Decimal | None = None
    """Of pictures in the prompt."""
    output_audio: Decimal | None = None
    """Of sound in the answer."""
    output_image: Decimal | None = None
    """Of pictures in the answer."""
    audio_minute: Decimal | None = None
    """USD for a minute of sound, where that is what is charged for."""

    def __post_init__(self) -> None:
        within(self, " ".join([*_KINDS, "audio_minute"]), 0, 1_000_000)

    def price(self, version: str, *, above: tuple[tuple[int, Price], ...] = ()) -> Price:
        """The same, as attempts are charged by it."""
        minute = self.audio_minute
        return Price(
            **{name: getattr(self, name) for name in _KINDS},
            audio_hour=minute * 60 if minute is not None else None,
            above=above,
            version=version,
        )


_KINDS = (
    "input",
    "output",
    "cached_input",
    "cache_write",
    "long_cache_write",
    "input_audio",
    "input_image",
    "output_audio",
    "output_image",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PricesConfig:
    """Where the prices come from of candidates that have none of their own."""

    source: Literal["auto", "builtin", "file", "none"] = "auto"
    """builtin is the package genai-prices, file is `file`, none leaves costs unknown; auto takes
    the file where one is named, else the package where it is installed."""
    file: str | None = None
    """A YAML or JSON file of prices."""

    def __post_init__(self) -> None:
        if self.source == "file" and self.file is None:
            raise ValueError("source is file, which needs the path of one in file")
        if self.file is not None and self.source in ("builtin", "none"):
            raise ValueError(f"file is not read while source is {self.source}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LargerPrice:
    """The price of requests with a large prompt, for all of their tokens."""

    input_tokens: int
    """The prompt has more than these."""
    price: PriceConfig

    def __post_init__(self) -> None:
        within(self, "input_tokens", 1, 10**9)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceEntry:
    """What a model costs at a provider."""

    provider: str
    """A name under `providers`, or a vendor (openai, anthropic, gemini) at its own address."""
    model: str
    """The provider's name for it, in which `*` stands for anything."""
    price: PriceConfig
    since: str | None = None
    """The first day on which it holds, as 2026-01-31 (UTC); null for always."""
    above: tuple[LargerPrice, ...] = ()
    """Prices of requests with larger prompts."""

    def __post_init__(self) -> None:
        if not MODEL.fullmatch(self.model):
            raise ValueError("model must be visible ASCII without spaces, at most 256 characters")
        if self.since is not None:
            try:
                date.fromisoformat(self.since)
            except ValueError:
                raise ValueError(
                    f"since must be a day such as 2026-01-31, not {self.since[:20]!r}"
                ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceFile:
    """A file of prices."""

    version: str
    """Names it in rows and in the management API: up to 64 characters."""
    currency: Literal["USD"] = "USD"
    prices: tuple[PriceEntry, ...] = field(default=())
    """An exact model goes before a pattern, a longer pattern before a shorter one."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.version) <= 64 or not self.version.isprintable():
            raise ValueError("version must have 1 to 64 printable characters")
