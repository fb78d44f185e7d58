"""Sums as the management API shows them, and read back from there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from decimal import Decimal
from typing import Any, Final

from radgateway.usage.query import GroupBy, Sums

_NOTHING: Final = Sums()
_FIGURES: Final = tuple(each.name for each in fields(Sums) if each.name != "group")


def cost_known(sums: Sums) -> bool:
    """Whether there is a cost to show: of no request's being known, 0 would say it was free."""
    return sums.unknown_cost < sums.requests or not sums.requests


def tokens_known(sums: Sums) -> bool:
    """Whether there are tokens to show. A request that knows half of its own counts as unknown."""
    some = sums.input_tokens or sums.output_tokens
    return bool(some) or sums.unknown_usage < sums.requests or not sums.requests


def cost_text(sums: Sums) -> str:
    """The cost as a decimal, exact, and without the zeros that some ledgers leave at its end."""
    text = f"{sums.cost_usd:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def total_of(sums: Iterable[Sums]) -> Sums:
    """All of some sums together."""
    # A column at a time: adding thousands of them one by one takes a tenth of a second.
    listed = list(sums)
    added = {
        name: sum((getattr(each, name) for each in listed), start=getattr(_NOTHING, name))
        for name in _FIGURES
    }
    return Sums(**added)


def sums_shown(sums: Sums, by: tuple[GroupBy, ...] = ()) -> dict[str, Any]:
    """Sums with the original's `usage` beside ours: the number it has, and the exact decimal.

    Tokens and costs are those of the requests that know theirs, and null where none does.
    """
    tokens, cost = tokens_known(sums), cost_known(sums)
    return {
        "group": dict(zip(by, sums.group, strict=True)),
        "requests": sums.requests,
        "good": sums.good,
        "errors": sums.requests - sums.good,
        "usage": {
            "prompt_tokens": sums.input_tokens if tokens else None,
            "completion_tokens": sums.output_tokens if tokens else None,
            "total_tokens": sums.input_tokens + sums.output_tokens if tokens else None,
            "cost_total": float(sums.cost_usd) if cost else None,
            "cached_tokens": sums.cached_tokens if tokens else None,
            "reasoning_tokens": sums.reasoning_tokens if tokens else None,
        },
        "costUsd": cost_text(sums) if cost else None,
        "unknownUsage": sums.unknown_usage,
        "unknownCost": sums.unknown_cost,
    }


def answer_shown(
    data: list[Any], found: list[Sums], total: Sums, by: tuple[GroupBy, ...]
) -> dict[str, Any]:
    """What the management API answers where sums are asked for: by group, and of all that fit.

    `data` is each of them as shown.
    """
    return {
        "data": data,
        "total": len(data),
        "nextCursor": None,
        "groupBy": list(by),
        "sum": sums_shown(total),
        "complete": are_all(found, total),
    }


def are_all(found: list[Sums], total: Sums) -> bool:
    """Whether groups have all that fits, and none was left out because they are so many."""
    return sum(each.requests for each in found) >= total.requests


def sums_read(shown: Mapping[str, Any]) -> Sums:
    """What `sums_shown` has shown. Raises `KeyError`, `TypeError` or `ArithmeticError`."""
    usage = shown["usage"]
    return Sums(
        group=tuple(shown["group"].values()),
        requests=shown["requests"],
        good=shown["good"],
        input_tokens=usage["prompt_tokens"] or 0,
        output_tokens=usage["completion_tokens"] or 0,
        cached_tokens=usage["cached_tokens"] or 0,
        reasoning_tokens=usage["reasoning_tokens"] or 0,
        unknown_usage=shown["unknownUsage"],
        cost_usd=Decimal(shown["costUsd"] or 0),
        unknown_cost=shown["unknownCost"],
    )
