"""Numbers, windows and buckets as PromQL writes them."""

from __future__ import annotations

import re
from decimal import Context, Decimal
from typing import Final

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_WINDOW = re.compile(r"([1-9][0-9]*)([smhd])")
_ROUNDED = Context(prec=12)
"""More than a float of a ratio is worth, and no row of threes."""


def number(value: Decimal) -> str:
    """Without an exponent, rounded to twelve digits where it has no end."""
    rounded = _ROUNDED.create_decimal(value).normalize()
    return f"{rounded:f}"


def seconds(window: str) -> int:
    """How long a window such as `5m` is. Raises `ValueError` for what is none."""
    found = _WINDOW.fullmatch(window)
    if found is None:
        raise ValueError(f"{window!r} is not a number with one of the units s, m, h and d")
    return int(found[1]) * _UNITS_S[found[2]]


def minutes(window: str) -> int:
    """How many whole minutes a window is."""
    return seconds(window) // 60


def days(window: str) -> Decimal:
    """How many days a window is."""
    return Decimal(seconds(window)) / 86_400


def edge(seconds: Decimal) -> str:
    """A bucket's `le` as the Python client writes it: `1.0`, not `1`."""
    return repr(float(seconds))


def percent(share: Decimal) -> str:
    """A share as people read it: `2 %`."""
    return f"{number(share * 100)} %"
