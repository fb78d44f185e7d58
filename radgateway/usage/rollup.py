"""Roll-ups: what the requests of an hour, or of a day, came to together, by who and what.

They are written in the transaction that writes the rows, and outlive them. Their columns are said
here; the figures are those of `Sums`, by the same names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from decimal import Decimal
from typing import Any, Final

from radgateway.usage.columns import Kind
from radgateway.usage.query import TOKENS_MAX, WIDTHS_S, Sums
from radgateway.usage.row import UsageRow

HOUR_S: Final = WIDTHS_S["hour"]
DAY_S: Final = WIDTHS_S["day"]

DIMENSIONS: Final[tuple[tuple[str, Kind], ...]] = (
    ("bucket", "integer"),
    ("api_key_name", "text"),
    ("selected_model", "text"),
    ("provider", "text"),
    ("outcome", "text"),
)
"""The key. A bucket is the Unix seconds at which its hour or day begins; the rest is a row's.

Not the model's name as the caller had it: callers make up as many of those as they like.
"""

FIGURES: Final[tuple[tuple[str, Kind], ...]] = tuple(
    (each.name, "decimal" if each.name == "cost_usd" else "integer")
    for each in fields(Sums)
    if each.name != "group"
)
"""What is added up, in the order of the fields of `Sums`."""

ROLLUP_COLUMNS: Final = DIMENSIONS + FIGURES
ROLLUP_NAMES: Final = tuple(name for name, _ in ROLLUP_COLUMNS)

Key = tuple[int, str, str, str, str]
RollUp = dict[Key, list[Any]]
"""Figures by the values of the dimensions."""


def by_hour(rows: Iterable[UsageRow]) -> RollUp:
    """What rows come to by the hour they began in: what `query.sums_of` says of each, added up."""
    # Said once more, since a `Sums` for each row costs ten times as much as all of this.
    of: RollUp = {}
    for row in rows:
        key = (
            int(row.started_at // HOUR_S) * HOUR_S,
            row.api_key_name,
            row.selected_model,
            row.provider,
            row.outcome,
        )
        sums = of.get(key)
        if sums is None:
            sums = of[key] = [0, 0, 0, 0, 0, 0, 0, Decimal(), 0]
        read, written = row.input_tokens, row.output_tokens
        sums[0] += 1
        if row.status < 500 and row.outcome != "interrupted":
            sums[1] += 1
        if read:
            sums[2] += read if read < TOKENS_MAX else TOKENS_MAX
        if written:
            sums[3] += written if written < TOKENS_MAX else TOKENS_MAX
        if row.cached_tokens:
            sums[4] += min(row.cached_tokens, TOKENS_MAX)
        if row.reasoning_tokens:
            sums[5] += min(row.reasoning_tokens, TOKENS_MAX)
        if read is None or written is None:
            sums[6] += 1
        if row.cost_usd is None:
            sums[8] += 1
        else:
            sums[7] += Decimal(row.cost_usd)
    return of


def by_day(hours: RollUp) -> RollUp:
    """The same by day."""
    of: RollUp = {}
    for (hour, *rest), sums in hours.items():
        key: Key = (hour // DAY_S * DAY_S, *rest)  # type: ignore[assignment]  # of its length
        before = of.get(key)
        of[key] = sums if before is None else [a + b for a, b in zip(before, sums, strict=True)]
    return of


def rollup_values(of: RollUp) -> list[tuple[Any, ...]]:
    """As values of `ROLLUP_NAMES`, decimals as text.

    Sorted: writers that lock the same roll-ups in the same order can't wait for each other.
    """
    return [(*key, *sums[:7], f"{sums[7]:f}", sums[8]) for key, sums in sorted(of.items())]
