"""What may be spent: requests, tokens, money and concurrency, in the notation of `limits`.

A `LimitSet` says it of a caller, of a model, or of all traffic together. It is what a
configuration holds; `limit_plan.py` makes of it what the ledgers count.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

from radgateway.inbound.limit_period import LONGEST_S, Period

KINDS: Final = ("requests", "tokens", "input_tokens", "output_tokens", "money", "concurrency")
"""What can be limited; a kind's number is its place here."""
REQUESTS, TOKENS, INPUT_TOKENS, OUTPUT_TOKENS, MONEY, CONCURRENCY = range(6)

BUDGET: Final = "budget"
"""What a limit of money for a period of the calendar is called."""

NANO: Final = 10**9
"""Money is counted in whole billionths of a US dollar: the cheapest token costs some ten of them,
and whole numbers can't drift."""
_AMOUNT_MAX = 10**15
"""Redis' scripts count in doubles, which are exact to 9e15; a window's debt must fit as well."""

_WINDOW_MAX_S = 10 * 366 * 86_400

_UNITS = ("requests", "tokens", "input tokens", "output tokens", "USD")
_SEPARATORS = re.compile(r"[,;|]")
_RATE = re.compile(r"\s*([0-9]{1,15})(\.[0-9]{1,9})?(\s*(?:/|\s[Pp][Ee][Rr]\s).*)", re.DOTALL)


class Rate(NamedTuple):
    """One limit without its owner."""

    kind: int
    amount: int
    """Requests, tokens or billionths of a dollar a window; requests at once for concurrency."""
    window_s: int
    """Seconds; 0 for concurrency, which has no window."""
    text: str
    """The limit in words."""
    period: Period | None = None
    """The period of the calendar that a budget is for; then `window_s` is how long it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Money for each day or month of the calendar, in UTC."""

    usd: Decimal
    """US dollars, over 0 to 1,000,000; what has no price is not counted."""
    per: Period = "month"
    """day or month; what is left of one is not carried over to the next."""

    def __post_init__(self) -> None:
        if not 0 < self.usd * NANO <= _AMOUNT_MAX:
            raise ValueError(f"usd must be over 0 and at most 1000000, not {self.usd}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSet:
    """Limits that all hold at once, for one owner: a caller, a model, or all traffic together."""

    requests: tuple[str, ...] = ()
    """Requests, such as `60/minute`. None by default."""
    tokens: tuple[str, ...] = ()
    """Input and output tokens together, such as `100000/minute`."""
    input_tokens: tuple[str, ...] = ()
    """Tokens of prompts alone, the cached ones included."""
    output_tokens: tuple[str, ...] = ()
    """Tokens of answers alone, reasoning included."""
    money: tuple[str, ...] = ()
    """US dollars, such as `5/day` or `0.50/hour`; what has no price is not counted."""
    budget: Budget | None = None
    """US dollars for each day or month of the calendar."""
    max_concurrency: int | None = None
    """Requests in progress at once, at least 1, streams to their last byte; None for no bound."""
    shadow: bool = False
    """Count and report, and refuse nobody: to see what limits would do before they do it."""

    def __post_init__(self) -> None:
        for kind, name in enumerate(KINDS[:CONCURRENCY]):
            check_rates(kind, name, getattr(self, name))
        if self.max_concurrency is not None and not 1 <= self.max_concurrency <= 1_000_000:
            raise ValueError(
                f"max_concurrency must be at least 1 and at most 1000000, "
                f"not {self.max_concurrency}"
            )

    @classmethod
    def of_requests(cls, lines: str | Iterable[str]) -> LimitSet:
        """A set of request limits, each line as `limits` writes several: `5/minute; 100/hour`.

        Raises `ValueError` on bad notation.
        """
        texts = [lines] if isinstance(lines, str) else lines
        return cls(requests=tuple(part.strip() for text in texts for part in _parts(text)))


def check_rates(kind: int, name: str, texts: Iterable[str]) -> None:
    """Refuse texts that are no rates of a kind; the `ValueError` starts with the field's name."""
    for text in texts:
        try:
            _rate(kind, text)
        except ValueError:
            example = "'0.50/hour'" if kind == MONEY else "'60/minute'"
            raise ValueError(f"{name} must hold rates such as {example}, not {text!r}") from None


@functools.lru_cache(maxsize=1024)
def rates_of(limits: LimitSet) -> tuple[Rate, ...]:
    """The limits of a set. Of two of one kind over one window the lower is the one that binds."""
    found: dict[tuple[int, int], Rate] = {}
    for kind, name in enumerate(KINDS[:CONCURRENCY]):
        for text in getattr(limits, name):
            rate = _rate(kind, text)
            other = found.get((kind, rate.window_s))
            if other is None or rate.amount < other.amount:
                found[kind, rate.window_s] = rate
    if (budget := limits.budget) is not None:
        found[MONEY, -1] = Rate(
            MONEY,
            max(1, int(budget.usd * NANO)),
            LONGEST_S[budget.per],
            f"{budget.usd} USD per calendar {budget.per}",
            budget.per,
        )
    if (most := limits.max_concurrency) is not None:
        found[CONCURRENCY, 0] = Rate(CONCURRENCY, most, 0, f"{most} requests at once")
    return tuple(found.values())


def _parts(text: str) -> list[str]:
    return [part for part in _SEPARATORS.split(text) if part.strip()] or [text]


def _rate(kind: int, text: str) -> Rate:
    from limits import parse_many  # noqa: PLC0415 - 20 ms of imports that few programs need

    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(text)
    whole, fraction, rest = match.groups()
    if fraction is not None and kind != MONEY:
        raise ValueError(text)
    number = Decimal(whole + (fraction or ""))
    amount = int(number * NANO) if kind == MONEY else int(whole)
    items = parse_many(f"1{rest}")
    if len(items) != 1 or not 1 <= amount <= _AMOUNT_MAX:
        raise ValueError(text)
    item, unit = items[0], items[0].GRANULARITY.name
    if item.get_expiry() > _WINDOW_MAX_S:
        raise ValueError(text)
    per = unit if item.multiples == 1 else f"{item.multiples} {unit}s"
    return Rate(kind, amount, item.get_expiry(), f"{number} {_UNITS[kind]} per {per}")
