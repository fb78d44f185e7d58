"""`python -m benchmarks.ledger`: rows a second into SQLite and PostgreSQL, and what answers cost.

Batches as the writer makes them, of rows as a deployment has them: some keys, some models, one
attempt each, in the order of time. Then a page and sums from a ledger that has all of them.
PostgreSQL is a server of its own on this machine that leaves out fsync, so that the disk is not
what is measured.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from msgspec.structs import replace

from radgateway import PostgresLedger, SQLiteLedger
from radgateway.chaos.postgres import postgres_server
from radgateway.exchange import Exchange, Principal, Usage
from radgateway.surface import OPERATIONS
from radgateway.usage.query import UsageFilter
from radgateway.usage.retention import Horizon
from radgateway.usage.row import UsageRow, row_of

BATCH: Final = 500
KEYS: Final = 7
MODELS: Final = 5
DAYS: Final = 30
_BEGAN: Final = 1_700_006_400.0
_END: Final = _BEGAN + DAYS * 86_400
_TURNS: Final = 5

DatabaseLedger = SQLiteLedger | PostgresLedger


class Written(NamedTuple):
    """What writing came to."""

    rows_s: float
    cpu_us: float
    """Of this process, for a row; the server's is its own."""


def batches(count: int) -> Iterator[list[UsageRow]]:
    """Rows over some days, in batches."""
    exchange = Exchange("r" * 32, "POST")
    exchange.operation = OPERATIONS["/v1/chat/completions"]
    exchange.principal = Principal("key")
    exchange.model, exchange.status, exchange.stream = "model", 200, True
    exchange.begin_attempt("provider", "model", None).usage = Usage(12, 18)
    one = row_of(exchange, ending=True)
    for start in range(0, count, BATCH):
        yield [_row(one, at, count) for at in range(start, min(start + BATCH, count))]


def _row(one: UsageRow, at: int, count: int) -> UsageRow:
    started_at = _BEGAN + DAYS * 86_400 * at / count
    model = at * 31 % MODELS
    return replace(
        one,
        usage_id=f"{int(started_at * 1000):012x}{at:020x}",
        started_at=started_at,
        request_id=_random_id(at),
        trace_id=_random_id(~at),
        api_key_name=f"key-{at % KEYS}",
        model=f"model-{model}",
        selected_model=f"model-{model}",
        provider=f"provider-{model // 2}",
        input_tokens=at % 1000,
        output_tokens=at % 333,
        cost_usd=f"0.0000{at % 977:03d}",
    )


def _random_id(of: int) -> str:
    """An id that is of one thing alone, and in no order."""
    return f"{of * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}"


def write(ledger: DatabaseLedger, count: int) -> Written:
    """Write so many rows."""
    ledger.migrate()
    wall = cpu = 0.0
    for batch in batches(count):
        began, used = time.perf_counter(), time.process_time()
        ledger.write(batch)
        wall += time.perf_counter() - began
        cpu += time.process_time() - used
    return Written(count / wall, cpu / count * 1e6)


def questions(ledger: DatabaseLedger) -> dict[str, Callable[[], object]]:
    """What is asked, by its name in the table."""
    hour, day = 3600.0, 86_400.0
    odd = 1234.5
    last_day = UsageFilter(since=_END - day - odd, until=_END - odd)
    old_day = UsageFilter(since=_BEGAN + 3 * day, until=_BEGAN + 4 * day)
    rare = UsageFilter(since=_END - day, key="nobody")
    return {
        "page of 50, the newest": lambda: ledger.page(UsageFilter(), 50),
        "page of 50, of a day long ago": lambda: ledger.page(old_day, 50),
        "page that finds nothing in the last day": lambda: ledger.page(rare, 50),
        "the request of an id": lambda: ledger.page(UsageFilter(request_id=_random_id(77)), 50),
        "the requests of a trace": lambda: ledger.page(UsageFilter(trace_id=_random_id(~77)), 50),
        "sums of all by key": lambda: ledger.sums(UsageFilter(), ("key",)),
        "sums of all by hour": lambda: ledger.sums(UsageFilter(), ("hour",)),
        "sums of the last 24 h by model": lambda: ledger.sums(last_day, ("model",)),
        "sums of the last hour": lambda: ledger.sums(UsageFilter(since=_END - hour - odd)),
        "sums of a model in the last 24 h (rows)": lambda: ledger.sums(
            UsageFilter(model="model-1", since=_END - day)
        ),
        "sums of a model of all (rows)": lambda: ledger.sums(UsageFilter(model="model-1")),
        "500 rows deleted": lambda: ledger.expire(Horizon(_BEGAN + day, None, None)),
    }


def asked_ms(question: Callable[[], object]) -> float:
    """The median time of some turns, in milliseconds."""
    took = []
    for _ in range(_TURNS):
        began = time.perf_counter()
        question()
        took.append((time.perf_counter() - began) * 1e3)
    return median(took)


def measure(name: str, ledger: DatabaseLedger, count: int) -> None:
    """Write, ask, and print what came of it."""
    with closing(ledger):
        written = write(ledger, count)
        print(f"{name}: {count:,} rows in batches of {BATCH}")
        print(f"  {'rows a second':42} {written.rows_s:10,.0f}")
        print(f"  {'us of CPU a row':42} {written.cpu_us:10.1f}")
        for what, question in questions(ledger).items():
            print(f"  {what + ', ms':42} {asked_ms(question):10.1f}")


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ledger",
        description="Rows a second into SQLite and PostgreSQL, and what pages and sums cost.",
    )
    parser.add_argument("--rows", type=int, default=200_000, help="default: 200000")
    parser.add_argument("--only", choices=("sqlite", "postgres"), help="one of them")
    options = parser.parse_args()
    count: int = options.rows
    if not BATCH <= count <= 100_000_000:
        parser.error(f"rows must be {BATCH} to 100,000,000")
    if options.only != "postgres":
        with tempfile.TemporaryDirectory() as folder:
            measure("SQLite", SQLiteLedger(Path(folder) / "usage.db"), count)
    if options.only != "sqlite":
        with postgres_server() as server:
            measure("PostgreSQL", PostgresLedger(server.dsn), count)


if __name__ == "__main__":
    main()
