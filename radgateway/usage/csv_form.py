"""Usage as comma-separated values (RFC 4180), safe to open in a spreadsheet.

Columns have the names of the management API's fields. What is not known is an empty cell.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any, Final

from radgateway.short_turns import paced
from radgateway.usage.moment import rfc3339
from radgateway.usage.query import GroupBy, Sums
from radgateway.usage.row import UsageRow
from radgateway.usage.sums_form import sums_shown

ROW_COLUMNS: Final = (
    "timestamp",
    "usageId",
    "requestId",
    "traceId",
    "apiKeyName",
    "incomingApiType",
    "incomingModel",
    "selectedModel",
    "provider",
    "responseStatus",
    "status",
    "outcome",
    "errorCode",
    "interrupted",
    "stream",
    "durationMs",
    "ttftMs",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "usageSource",
    "costUsd",
    "priceVersion",
    "attempts",
)
_SUM_COLUMNS: Final = (
    "requests",
    "good",
    "errors",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "costUsd",
    "unknownUsage",
    "unknownCost",
)

_LIVELY: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
"""What a spreadsheet may take for the beginning of a formula (OWASP, "CSV Injection")."""


def lines(cells: Iterable[Iterable[Any]]) -> bytes:
    """Records as text. None is an empty cell, and a text that might run as a formula gets a `'`."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\r\n").writerow
    for record in paced(cells):
        write([_cell(value) for value in record])
    # A lone surrogate, which a model's name can't hold but somebody's id might, has no UTF-8 form.
    return out.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    # Numbers are ours, and a caller can't choose them.
    if isinstance(value, str) and value.startswith(_LIVELY):
        return "'" + value
    return value


def row_cells(row: UsageRow) -> tuple[Any, ...]:
    """One request, in the order of `ROW_COLUMNS`."""
    return (
        rfc3339(row.started_at),
        row.usage_id,
        row.request_id,
        row.trace_id,
        row.api_key_name,
        row.api_type,
        row.model,
        row.selected_model,
        row.provider,
        "success" if row.outcome == "success" else "error",
        row.status,
        row.outcome,
        row.error_code,
        row.interrupted,
        row.stream,
        round(row.duration_ms),
        row.ttft_ms,
        row.input_tokens,
        row.output_tokens,
        row.total_tokens,
        row.cached_tokens,
        row.cache_write_tokens,
        row.reasoning_tokens,
        row.usage_source,
        row.cost_usd,
        row.price_version,
        len(row.attempts),
    )


def sums_lines(sums: Iterable[Sums], by: tuple[GroupBy, ...]) -> bytes:
    """Sums with their header: what was grouped by, then what it came to."""
    return lines([(*by, *_SUM_COLUMNS), *_sum_cells(sums, by)])


def _sum_cells(sums: Iterable[Sums], by: tuple[GroupBy, ...]) -> Iterator[tuple[Any, ...]]:
    for each in sums:
        shown = sums_shown(each, by)
        flat = shown | shown["usage"]
        yield (*each.group, *(flat[name] for name in _SUM_COLUMNS))
