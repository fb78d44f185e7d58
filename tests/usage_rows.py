"""Usage rows for tests, and the ledgers to put them in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from radgateway.usage.ledger import Ledger, MemoryLedger, SQLiteLedger
from radgateway.usage.query import UsageFilter
from radgateway.usage.row import AttemptRow, UsageRow, usage_id_at
from radgateway.usage.writer import UsageWriter

LEDGERS: dict[str, Callable[[Path], Ledger]] = {
    "memory": lambda folder: MemoryLedger(200_000),
    "sqlite": lambda folder: SQLiteLedger(folder / "usage.db"),
}
"""How each kind is made, in a folder of its own. What reads a ledger is tested with all of them."""

_numbers = itertools.count(1)


def usage_row(at: float = 1_700_000_000.0, **changes: Any) -> UsageRow:
    """A row of a request that began and ended at a time (Unix seconds), and succeeded."""
    number = next(_numbers)
    made = UsageRow(
        usage_id=f"{usage_id_at(at)[:12]}{number:020x}",
        started_at=at,
        request_id=f"r{number}",
        trace_id=f"{number:032x}",
        api_key_name="alice",
        api_type="chat",
        route="/v1/chat/completions",
        method="POST",
        model="m",
        selected_model="m-1",
        provider="openai",
        status=200,
        outcome="success",
        error_code=None,
        interrupted=None,
        stream=False,
        duration_ms=12.5,
        ttft_ms=10.0,
        queued_ms=0.0,
        input_tokens=12,
        output_tokens=18,
        cached_tokens=None,
        cache_write_tokens=None,
        reasoning_tokens=None,
        usage_source="reported",
        cost_usd="0.0000126",
        price_version="2026-11",
        attempts=(attempt_row(),),
    )
    return msgspec.structs.replace(made, **changes)


def attempt_row(**changes: Any) -> AttemptRow:
    """One attempt that was answered."""
    made = AttemptRow(
        provider="openai",
        model="m-1",
        status=200,
        failure=None,
        sent=True,
        hedge=False,
        offset_ms=1.0,
        duration_ms=11.0,
        first_byte_ms=9.0,
        waited_ms=8.0,
        connect_ms=None,
        input_tokens=12,
        output_tokens=18,
        cached_tokens=None,
        cache_write_tokens=None,
        reasoning_tokens=None,
        usage_source="reported",
        cost_usd="0.0000126",
        price_version="2026-11",
    )
    return msgspec.structs.replace(made, **changes)


def stored(ledger: Ledger, rows: Iterable[UsageRow]) -> list[UsageRow]:
    """Put rows into a ledger; gives them newest first, as it does."""
    listed = list(rows)
    for start in range(0, len(listed), 500):
        ledger.write(listed[start : start + 500])
    return sorted(listed, key=lambda row: row.usage_id, reverse=True)


def newest(ledger: Ledger, most: int) -> list[UsageRow]:
    """The newest rows a ledger has, newest first."""
    return ledger.page(UsageFilter(), most).rows


async def shown(writer: UsageWriter, most: int) -> list[UsageRow]:
    """The same as a writer's ledger has them."""
    return (await writer.page(UsageFilter(), most)).rows
