"""What an attempt cost, in exact decimal US dollars.

A price that nobody knows and tokens that nobody reported make the cost unknown, which is None. It
is never 0: a ledger that counts unknown as free reports savings nobody made. For the same reason a
kind of tokens without a price of its own (cached, written to a cache, sound, pictures) is charged
as any other input or output: no discount is made up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from decimal import Decimal

from radgateway.exchange import Attempt, Usage

DAY_S = 86_400
_FINEST = Decimal("1e-12")
"""Costs have at most twelve decimals, so that sums of them stay exact in bounded columns."""


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens; None where a kind of them has no price of its own.

    It is kept with each attempt, so that a row can name the price it was charged by.
    """

    input: Decimal | None
    """Of the prompt. None where prompts have no price, as with sound that is charged by time."""
    output: Decimal | None
    """Of the answer."""
    cached_input: Decimal | None = None
    """Of what is read from a prompt cache."""
    cache_write: Decimal | None = None
    """Of what is written to one."""
    long_cache_write: Decimal | None = None
    """Of what is written to one for an hour; `cache_write` where that is all that is known."""
    input_audio: Decimal | None = None
    input_image: Decimal | None = None
    output_audio: Decimal | None = None
    output_image: Decimal | None = None
    audio_hour: Decimal | None = None
    """USD for an hour of sound, where that is what is charged for and no tokens are reported."""
    above: tuple[tuple[int, Price], ...] = ()
    """Prices of all tokens of a request whose input is more than so many; ascending."""
    later: tuple[tuple[float, Price], ...] = ()
    """Prices that hold from a moment on, in Unix seconds; ascending."""
    hours: tuple[tuple[int, int, Price], ...] = ()
    """Prices that hold from one second of the day (UTC) to another; the last that fits."""
    version: str = ""
    """The table it is from, as rows name it."""
    fine: bool = field(init=False, compare=False, repr=False)
    """Whether a cost by it may have more than twelve decimals."""

    def __post_init__(self) -> None:
        """Find out once what would take longer than the rest of a cost."""
        exponents = (
            value.as_tuple().exponent
            for each in fields(self)
            if isinstance(value := getattr(self, each.name, None), Decimal)
        )
        fine = any(isinstance(e, int) and e < -6 for e in exponents)
        object.__setattr__(self, "fine", fine)

    def at(self, unix_s: float) -> Price:
        """The price of a request that began at a time."""
        if self.later or self.hours:
            for since, price in reversed(self.later):
                if unix_s >= since:
                    return price.at(unix_s)
            second = unix_s % DAY_S
            for start, end, price in reversed(self.hours):
                if (start <= second < end) if start < end else not end <= second < start:
                    return price
        return self

    def of_size(self, input_tokens: int) -> Price:
        """The price of a request with a prompt of so many tokens."""
        for tokens, price in reversed(self.above):
            if input_tokens > tokens:
                return price
        return self

    @property
    def level(self) -> Decimal:
        """Input plus output, by which one price is less than another; endless where unknown."""
        known = [p for p in (self.input, self.output or self.audio_hour) if p is not None]
        return sum(known, Decimal()) if known else Decimal("Infinity")


def cost_usd(usage: Usage | None, price: Price | None) -> Decimal | None:
    """The cost of what was used; None where any of it, or its price, is not known."""
    if usage is None or price is None:
        return None
    read, written = usage.input_tokens, usage.output_tokens
    if read is None or written is None:
        return _cost_of_sound(usage, price)
    if price.above:
        price = price.of_size(read)
    if (read and price.input is None) or (written and price.output is None):
        return None
    cost = _input_cost(usage, read, price) + _output_cost(usage, written, price)
    cost = cost.scaleb(-6)
    return (cost.quantize(_FINEST) if price.fine else cost).normalize()


def _input_cost(usage: Usage, read: int, price: Price) -> Decimal:
    usual = price.input or Decimal()
    stored = usage.cache_write_tokens or 0
    cached, sound, pictures = (
        usage.cached_tokens or 0,
        usage.input_audio_tokens or 0,
        usage.input_image_tokens or 0,
    )
    if not (cached or stored or sound or pictures):
        return usual * read
    rest = read - cached - stored - sound - pictures
    if rest < 0:
        # Cached sound or pictures are in both counts. Which of them nobody says, so they are not
        # taken for cached.
        cached = max(0, cached + rest)
        rest = read - cached - stored - sound - pictures
    if rest < 0:
        return usual * read  # counts that contradict each other
    long = usage.long_cache_write_tokens or 0
    short_price = _known(price.cache_write, usual)
    return (
        usual * rest
        + _known(price.cached_input, usual) * cached
        + short_price * (stored - long)
        + _known(price.long_cache_write, short_price) * long
        + _known(price.input_audio, usual) * sound
        + _known(price.input_image, usual) * pictures
    )


def _output_cost(usage: Usage, written: int, price: Price) -> Decimal:
    usual = price.output or Decimal()
    sound, pictures = usage.output_audio_tokens or 0, usage.output_image_tokens or 0
    rest = written - sound - pictures
    if rest == written or rest < 0:
        return usual * written
    return (
        usual * rest
        + _known(price.output_audio, usual) * sound
        + _known(price.output_image, usual) * pictures
    )


def _cost_of_sound(usage: Usage, price: Price) -> Decimal | None:
    tokens = usage.input_tokens is not None or usage.output_tokens is not None
    if tokens or usage.audio_s is None or price.audio_hour is None:
        return None
    cost = price.audio_hour * Decimal(str(usage.audio_s)) / 3600
    return cost.quantize(_FINEST).normalize()


def _known(price: Decimal | None, otherwise: Decimal) -> Decimal:
    return price if price is not None else otherwise


def request_cost_usd(attempts: Iterable[Attempt]) -> Decimal | None:
    """The cost of a request: all of its attempts together, the abandoned ones included.

    One that used nothing is free; one whose usage or price is not known makes the sum unknown.
    """
    total: Decimal | None = None
    for attempt in attempts:
        if attempt.cost_usd is not None:
            total = attempt.cost_usd if total is None else total + attempt.cost_usd
        elif attempt.usage is not None:
            return None
    return total
