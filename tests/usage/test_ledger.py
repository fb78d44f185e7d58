"""Both ledgers keep each row once, and give back what they were given."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from usage_rows import newest

from radgateway.exchange import Exchange, Principal, Usage
from radgateway.surface import OPERATIONS
from radgateway.usage.columns import ATTEMPT_COLUMNS, REQUEST_COLUMNS
from radgateway.usage.ledger import Ledger, LedgerUnavailable, MemoryLedger, SQLiteLedger
from radgateway.usage.row import AttemptRow, UsageRow, row_of


def row(model: str = "gpt-4o-mini", *, attempts: int = 1) -> UsageRow:
    """A row of a request that succeeded."""
    exchange = Exchange("r1", "POST")
    exchange.operation = OPERATIONS["/v1/chat/completions"]
    exchange.principal = Principal("alice")
    exchange.model, exchange.status, exchange.stream = model, 200, True
    for _ in range(attempts):
        made = exchange.begin_attempt("openai", "gpt-4o-mini", None)
        made.usage = Usage(12, 18)
    return row_of(exchange)


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Each kind of ledger."""
    made = MemoryLedger() if request.param == "memory" else SQLiteLedger(tmp_path / "u.db")
    yield made
    made.close()


def test_rows_come_back_whole_and_newest_first(ledger: Ledger) -> None:
    """What was written is what is read, attempts included."""
    rows = [
        msgspec.structs.replace(row(f"m{index}", attempts=index), usage_id=f"{index:032x}")
        for index in range(3)
    ]
    ledger.write(rows)
    assert newest(ledger, 10) == rows[::-1]
    assert newest(ledger, 1) == rows[:1:-1]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 31, 32, 33, 100])
def test_a_batch_of_any_size_is_stored(tmp_path: Path, count: int) -> None:
    """However a batch divides into statements, every row and attempt arrives."""
    ledger = SQLiteLedger(tmp_path / "u.db")
    rows = [row(attempts=index % 4) for index in range(count)]
    ledger.write(rows)
    found = {each.usage_id: each for each in newest(ledger, 1000)}
    assert found == {each.usage_id: each for each in rows}
    ledger.close()


def test_writing_twice_leaves_one(ledger: Ledger) -> None:
    """A batch may be written again, alone or with others."""
    first, second = row(), row()
    ledger.write([first])
    ledger.write([first, second])
    ledger.write([second, first])
    assert sorted(r.usage_id for r in newest(ledger, 10)) == sorted(
        [first.usage_id, second.usage_id]
    )


def test_the_columns_are_the_fields() -> None:
    """The tables' columns are in the order of the rows' fields, on which the inserts rely."""
    fields = [name for name in UsageRow.__struct_fields__ if name != "attempts"]
    assert [name for name, _ in REQUEST_COLUMNS] == fields
    assert tuple(name for name, _ in ATTEMPT_COLUMNS) == AttemptRow.__struct_fields__


def test_an_unknown_cost_is_null_and_a_known_one_text(tmp_path: Path) -> None:
    """Costs are decimals as text, so that sums can be exact; unknown is NULL."""
    ledger = SQLiteLedger(tmp_path / "u.db")
    known = msgspec.structs.replace(row(), cost_usd="0.0000126")
    ledger.write([row(), known])
    ledger.close()
    with sqlite3.connect(tmp_path / "u.db") as connection:
        found = connection.execute(
            "SELECT cost_usd, typeof(cost_usd) FROM radgateway_requests"
        ).fetchall()
    connection.close()
    assert sorted(found, key=str) == [("0.0000126", "text"), (None, "null")]


def test_the_memory_ledger_is_bounded() -> None:
    """The oldest rows make room."""
    ledger = MemoryLedger(capacity=2)
    rows = [msgspec.structs.replace(row(), usage_id=f"{at:032x}") for at in range(5)]
    ledger.write(rows)
    assert newest(ledger, 10) == rows[:2:-1]
    with pytest.raises(ValueError, match="capacity"):
        MemoryLedger(0)


def test_a_store_that_is_not_there_is_said_to_be_unavailable(tmp_path: Path) -> None:
    """No directory, no SQLite file: one kind of error, and the next try may succeed."""
    ledger = SQLiteLedger(tmp_path / "later" / "u.db")
    with pytest.raises(LedgerUnavailable, match="later"):
        ledger.write([row()])
    with pytest.raises(LedgerUnavailable):
        newest(ledger, 1)
    (tmp_path / "later").mkdir()
    ledger.write([row()])
    assert len(newest(ledger, 10)) == 1
    ledger.close()


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    """A corrupt file raises the documented error and leaves no open handle."""
    (tmp_path / "u.db").write_bytes(b"not a database " * 100)
    with pytest.raises(LedgerUnavailable):
        SQLiteLedger(tmp_path / "u.db").write([row()])


def test_a_file_that_was_taken_away_is_made_again(tmp_path: Path) -> None:
    """The row that found it gone waits, and the next try has tables to go to."""
    ledger = SQLiteLedger(tmp_path / "u.db")
    ledger.write([row()])
    ledger.close()
    for file in tmp_path.glob("u.db*"):
        file.unlink()
    ledger.write([row()])
    assert len(newest(ledger, 10)) == 1
    ledger.close()


def test_two_writers_share_a_file(tmp_path: Path) -> None:
    """Two processes' ledgers on one file: both rows are there for both."""
    one, other = SQLiteLedger(tmp_path / "u.db"), SQLiteLedger(tmp_path / "u.db")
    one.write([row()])
    other.write([row()])
    assert len(newest(one, 10)) == len(newest(other, 10)) == 2
    one.close()
    other.close()


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(max_size=300))
def test_any_name_survives(ledger: Ledger, name: str) -> None:
    """No model name, quotes and NULs included, is lost, cut short or read as JSON or SQL."""
    made = row(name)
    ledger.write([made])
    assert made in newest(ledger, 100)
    assert made.model == name[:256]


def test_a_lone_surrogate_does_not_spoil_a_batch(tmp_path: Path) -> None:
    """What has no UTF-8 form is replaced when the row is made."""
    ledger = SQLiteLedger(tmp_path / "u.db")
    ledger.write([row("bad\ud800name"), row("good")])
    assert {r.model for r in newest(ledger, 5)} == {"bad?name", "good"}
    ledger.close()
