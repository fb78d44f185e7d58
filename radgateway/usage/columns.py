"""The ledgers' columns, and rows as the values of those columns and back.

What a column holds is said in a word of our own; each store has its own type for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal

from msgspec.structs import astuple

from radgateway.usage.row import AttemptRow, UsageRow

Kind = Literal["text", "integer", "real", "flag", "decimal"]
"""A decimal is exact, and text in a row."""

REQUEST_COLUMNS: Final[tuple[tuple[str, Kind], ...]] = (
    ("usage_id", "text"),
    ("started_at", "real"),
    ("request_id", "text"),
    ("trace_id", "text"),
    ("api_key_name", "text"),
    ("api_type", "text"),
    ("route", "text"),
    ("method", "text"),
    ("model", "text"),
    ("selected_model", "text"),
    ("provider", "text"),
    ("status", "integer"),
    ("outcome", "text"),
    ("error_code", "text"),
    ("interrupted", "text"),
    ("stream", "flag"),
    ("duration_ms", "real"),
    ("ttft_ms", "real"),
    ("queued_ms", "real"),
    ("input_tokens", "integer"),
    ("output_tokens", "integer"),
    ("cached_tokens", "integer"),
    ("cache_write_tokens", "integer"),
    ("reasoning_tokens", "integer"),
    ("usage_source", "text"),
    ("cost_usd", "decimal"),
    ("price_version", "text"),
)
"""A request's; the first is the key. `UsageRow` has its fields in this order, and its attempts."""

ATTEMPT_COLUMNS: Final[tuple[tuple[str, Kind], ...]] = (
    ("provider", "text"),
    ("model", "text"),
    ("status", "integer"),
    ("failure", "text"),
    ("sent", "flag"),
    ("hedge", "flag"),
    ("offset_ms", "real"),
    ("duration_ms", "real"),
    ("first_byte_ms", "real"),
    ("waited_ms", "real"),
    ("connect_ms", "real"),
    ("input_tokens", "integer"),
    ("output_tokens", "integer"),
    ("cached_tokens", "integer"),
    ("cache_write_tokens", "integer"),
    ("reasoning_tokens", "integer"),
    ("usage_source", "text"),
    ("cost_usd", "decimal"),
    ("price_version", "text"),
)
"""An attempt's, after its key (usage_id, ordinal); `AttemptRow` has this order."""

REQUEST_NAMES: Final = tuple(name for name, _ in REQUEST_COLUMNS)
ATTEMPT_NAMES: Final = (
    "usage_id",
    "request_id",
    "ordinal",
    *(name for name, _ in ATTEMPT_COLUMNS),
)

_ATTEMPTS_AT = UsageRow.__struct_fields__.index("attempts")
_REQUEST_FLAGS = [at for at, (_, kind) in enumerate(REQUEST_COLUMNS) if kind == "flag"]
_ATTEMPT_FLAGS = [at for at, (_, kind) in enumerate(ATTEMPT_COLUMNS) if kind == "flag"]


def each_once(rows: Iterable[UsageRow]) -> list[UsageRow]:
    """Rows by their ids, the first of each id.

    In order they go to the end of the table's index, and two who write the same rows at the same
    time wait for each other in one direction only.
    """
    of: dict[str, UsageRow] = {}
    for row in rows:
        of.setdefault(row.usage_id, row)
    return [of[usage_id] for usage_id in sorted(of)]


def request_values(rows: Iterable[UsageRow]) -> list[tuple[Any, ...]]:
    """The rows as values of `REQUEST_NAMES`."""
    return [values[:_ATTEMPTS_AT] + values[_ATTEMPTS_AT + 1 :] for values in map(astuple, rows)]


def attempt_values(rows: Iterable[UsageRow]) -> list[tuple[Any, ...]]:
    """The attempts of all rows as values of `ATTEMPT_NAMES`."""
    return [
        (row.usage_id, row.request_id, ordinal, *astuple(attempt))
        for row in rows
        for ordinal, attempt in enumerate(row.attempts)
    ]


def usage_rows(
    requests: Iterable[Sequence[Any]], attempts: Iterable[Sequence[Any]]
) -> Iterator[UsageRow]:
    """Rows from the values of requests, and of their attempts by ordinal; others are left out."""
    of: dict[str, list[AttemptRow]] = {}
    for usage_id, _, _, *values in attempts:
        for at in _ATTEMPT_FLAGS:
            values[at] = bool(values[at])
        of.setdefault(usage_id, []).append(AttemptRow(*values))
    for request in requests:
        values = [*request]
        for at in _REQUEST_FLAGS:
            values[at] = bool(values[at])
        values.insert(_ATTEMPTS_AT, tuple(of.get(request[0], ())))
        yield UsageRow(*values)
