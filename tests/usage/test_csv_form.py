"""A CSV export says what the ledger says, and runs nothing in a spreadsheet."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from usage_rows import attempt_row, usage_row

from radgateway.usage.csv_form import ROW_COLUMNS, lines, row_cells, sums_lines
from radgateway.usage.query import Sums


def read(text: bytes) -> list[list[str]]:
    """The records, as any reader of CSV finds them."""
    return list(csv.reader(io.StringIO(text.decode("utf-8"), newline="")))


def test_a_request_is_a_record_of_its_columns() -> None:
    """Every column by its name; unknown is empty, and a truth is a word."""
    row = usage_row(output_tokens=None, cost_usd=None, attempts=(attempt_row(), attempt_row()))
    header, record = read(lines([ROW_COLUMNS, row_cells(row)]))
    found = dict(zip(header, record, strict=True))
    assert found["timestamp"] == "2023-11-14T22:13:20.000Z"
    assert (found["usageId"], found["requestId"]) == (row.usage_id, row.request_id)
    assert (found["prompt_tokens"], found["completion_tokens"], found["total_tokens"]) == (
        "12",
        "",
        "",
    )
    assert (found["costUsd"], found["stream"], found["attempts"]) == ("", "false", "2")
    assert (found["responseStatus"], found["status"], found["outcome"]) == (
        "success",
        "200",
        "success",
    )


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＠"])  # noqa: RUF001
def test_a_formula_stays_a_text(first: str) -> None:
    """A model's name is the caller's to choose, and the spreadsheet is the administrator's."""
    evil = f'{first}HYPERLINK("http://evil","x")'
    ((cell,),) = read(lines([[evil]]))
    assert cell == "'" + evil
    cells = dict(zip(ROW_COLUMNS, row_cells(usage_row(model=evil)), strict=True))
    assert cells["incomingModel"] == evil  # guarded once, where it is written
    assert f"'{first}".encode() in lines([row_cells(usage_row(model=evil))])


def test_numbers_are_left_alone() -> None:
    """A number below zero is no formula, and no text."""
    assert lines([[-1, 0.5, None, True]]) == b"-1,0.5,,true\r\n"


@given(st.lists(st.lists(st.text(), min_size=1, max_size=4), max_size=4))
def test_any_text_comes_back_whole_or_guarded(records: list[list[str]]) -> None:
    """Separators, quotes and line ends within a cell make no other cell, and no formula."""
    found = read(lines(records))
    assert [[cell.removeprefix("'") for cell in record] for record in found] == [
        [cell.removeprefix("'") for cell in record] or [""] for record in records
    ]
    assert not any(
        cell[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") and cell for r in found for cell in r
    )


def test_a_text_without_a_utf8_form_is_replaced() -> None:
    """One such id must not end the export of all others."""
    assert lines([["a\ud800"]]) == b"a?\r\n"


def test_sums_have_a_column_for_each_group() -> None:
    """Costs exact, and empty where none is known."""
    sums = [
        Sums(group=("2026-11-25T00:00:00Z", "=alice"), requests=3, good=2, cost_usd=Decimal("0.1")),
        Sums(group=("2026-11-26T00:00:00Z", ""), requests=1, unknown_usage=1, unknown_cost=1),
    ]
    header, first, second = read(sums_lines(sums, ("day", "key")))
    assert header[:5] == ["day", "key", "requests", "good", "errors"]
    assert first[:5] == ["2026-11-25T00:00:00Z", "'=alice", "3", "2", "1"]
    assert dict(zip(header, first, strict=True))["costUsd"] == "0.1"
    shown = dict(zip(header, second, strict=True))
    assert (shown["costUsd"], shown["total_tokens"], shown["unknownCost"]) == ("", "", "1")
