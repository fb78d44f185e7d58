"""Roll-ups by hour and day, counted from the rows there are, and an index of the rows by time."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_KEY = ("bucket", "api_key_name", "selected_model", "provider", "outcome")
_FIGURES = (
    "requests",
    "good",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "unknown_usage",
    "cost_usd",
    "unknown_cost",
)
_MOST_TOKENS = 10**12
_COUNTED = """
SELECT started_at, api_key_name, selected_model, provider, outcome, status,
       input_tokens, output_tokens, cached_tokens, reasoning_tokens, CAST(cost_usd AS TEXT)
FROM radgateway_requests
"""


def upgrade() -> None:
    """Add them."""
    op.create_index(
        "radgateway_requests_by_time", "radgateway_requests", ["started_at", "usage_id"]
    )
    hours: dict[tuple[Any, ...], list[Any]] = {}
    days: dict[tuple[Any, ...], list[Any]] = {}
    for started_at, *who, status, read, written, cached, reasoning, cost in _rows():
        figures = [
            1,
            1 if status < 500 and who[-1] != "interrupted" else 0,
            *(min(tokens or 0, _MOST_TOKENS) for tokens in (read, written, cached, reasoning)),
            1 if read is None or written is None else 0,
            Decimal(cost or 0),
            1 if cost is None else 0,
        ]
        for of, width_s in ((hours, 3600), (days, 86_400)):
            key = (int(started_at // width_s) * width_s, *who)
            before = of.get(key)
            of[key] = figures if before is None else [*map(sum, zip(before, figures, strict=True))]
    for name, of in (("radgateway_hourly", hours), ("radgateway_daily", days)):
        values = [
            (*key, *figures[:7], f"{figures[7]:f}", figures[8]) for key, figures in of.items()
        ]
        table = _create(name)
        op.bulk_insert(table, [dict(zip(_KEY + _FIGURES, each, strict=True)) for each in values])


def _rows() -> Iterator[Any]:
    # A few at a time: there may be millions.
    yield from op.get_bind().execute(sa.text(_COUNTED), execution_options={"yield_per": 1000})


def _create(name: str) -> sa.Table:
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    integer = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    decimal = sa.Numeric().with_variant(sa.Text(), "sqlite")
    key = [
        sa.Column(column, integer if column == "bucket" else text, primary_key=True)
        for column in _KEY
    ]
    figures = [
        sa.Column(column, decimal if column == "cost_usd" else integer, nullable=False)
        for column in _FIGURES
    ]
    return op.create_table(name, *key, *figures, sqlite_with_rowid=False)
