"""GET /v0/management/usage: the requests in the ledger, a page at a time, summed, or exported."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from radgateway.asgi import ASGIApp
from radgateway.errors import Refusal
from radgateway.operations.listing import Export, Listing
from radgateway.operations.query_parameters import (
    EXPORT_MAX,
    ROWS_DEFAULT,
    USAGE,
    Query,
    check_known,
    cursor_of,
    filter_of,
    groups_of,
    whole_number,
)
from radgateway.short_turns import in_short_turns, paced
from radgateway.usage.csv_form import ROW_COLUMNS, lines, row_cells, sums_lines
from radgateway.usage.ledger import LedgerUnavailable
from radgateway.usage.query import PAGE_MAX, SUMS_MAX, GroupBy, Page, Sums, UsageFilter
from radgateway.usage.row import UsageRow
from radgateway.usage.sums_form import answer_shown, are_all, sums_shown, total_of
from radgateway.usage.writer import UsageWriter

T = TypeVar("T")


class Records(NamedTuple):
    """The CSV records that requests make: what they are called, their columns, and each one's."""

    name: str
    columns: tuple[str, ...]
    of: Callable[[UsageRow], Iterable[Sequence[Any]]]


_ROWS = Records("usage", ROW_COLUMNS, lambda row: [row_cells(row)])


def usage_view(usage: UsageWriter, clock: Callable[[], float] = time.time) -> ASGIApp:
    """The endpoint. `clock` gives Unix seconds, which ages in the query are counted from."""

    async def as_json(query: Query) -> tuple[int, Any]:
        check_known(query, USAGE)
        by = groups_of(query)
        if by:
            found, total = await _sums(usage, filter_of(query, clock()), by)
            # Off the loop: thousands of sums, or a page of rows, take milliseconds to write.
            return 200, await asyncio.to_thread(in_short_turns, _sums_payload, found, total, by)
        page = await page_of_query(usage, query, clock())
        return 200, await asyncio.to_thread(in_short_turns, _rows_payload, page)

    async def as_csv(query: Query) -> Export:
        check_known(query, USAGE)
        by = groups_of(query)
        if by:
            found, total = await _sums(usage, filter_of(query, clock()), by)
            if not are_all(found, total):
                raise Refusal(
                    "invalid_request",
                    f"There are more groups than the {SUMS_MAX} that are given: narrow them with "
                    "`since` and `until`, or group by less.",
                )
            text = await asyncio.to_thread(in_short_turns, sums_lines, found, by)
            return Export(export_name("usage-sums", clock()), _once(text))
        return await export(usage, query, clock(), _ROWS)

    return Listing(as_json, as_csv)


async def asked(answer: Awaitable[T]) -> T:
    """What the ledger answers. Raises `Refusal` where it does not."""
    try:
        return await answer
    except LedgerUnavailable:
        raise Refusal("overloaded", "The usage ledger does not answer.", retry_after_s=5) from None


async def page_of_query(usage: UsageWriter, query: Query, now: float) -> Page:
    """The page that a query asks for. Raises `Refusal`."""
    wanted, cursor = filter_of(query, now), cursor_of(query)
    limit = whole_number(query, "limit", ROWS_DEFAULT, PAGE_MAX)
    return await asked(usage.page(wanted, limit, cursor))


async def export(
    usage: UsageWriter,
    query: Query,
    now: float,
    records: Records,
) -> Export:
    """All requests that fit a query as CSV, newest first. Raises `Refusal`.

    More than `EXPORT_MAX` of them are refused rather than cut, unless the query has a `limit`.
    """
    if "cursor" in query:
        raise Refusal("invalid_request", "A CSV export has no pages, and so takes no `cursor`.")
    wanted = filter_of(query, now)
    most = whole_number(query, "limit", EXPORT_MAX, EXPORT_MAX)
    first = await asked(usage.page(wanted, min(most, PAGE_MAX)))
    if "limit" not in query and first.next_cursor is not None:
        # Counted after the first page was read, so the count has all that will be exported.
        (count,) = await asked(usage.sums(wanted))
        if count.requests > most:
            raise Refusal(
                "invalid_request",
                f"{count.requests} requests fit, and an export has {most} at most: narrow it with "
                "`since` and `until`, or take the newest ones with `limit`.",
            )

    async def parts() -> AsyncGenerator[bytes, None]:
        page, left = first, most
        yield await asyncio.to_thread(in_short_turns, _text, page.rows, records, records.columns)
        while page.next_cursor is not None:
            left -= len(page.rows)
            if left <= 0:
                return
            page = await asked(usage.page(wanted, min(left, PAGE_MAX), page.next_cursor))
            yield await asyncio.to_thread(in_short_turns, _text, page.rows, records)

    return Export(export_name(records.name, now), parts())


def export_name(name: str, now: float) -> str:
    """A file name that says what it is and of when."""
    return f"radgateway-{name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}.csv"


async def _once(text: bytes) -> AsyncGenerator[bytes, None]:
    yield text


def _text(rows: list[UsageRow], records: Records, *header: tuple[str, ...]) -> bytes:
    return lines([*header, *(record for row in rows for record in records.of(row))])


async def _sums(
    usage: UsageWriter, wanted: UsageFilter, by: tuple[GroupBy, ...]
) -> tuple[list[Sums], Sums]:
    """The sums by group, and of all that fits, also where there are more groups than given."""
    found = await asked(usage.sums(wanted, by))
    if len(found) < SUMS_MAX:
        return found, await asyncio.to_thread(in_short_turns, total_of, found)
    (total,) = await asked(usage.sums(wanted))
    return found, total


def _rows_payload(page: Page) -> msgspec.Raw:
    data = [written(row.as_management()) for row in paced(page.rows)]
    return written({"data": data, "total": len(data), "nextCursor": page.next_cursor})


def _sums_payload(found: list[Sums], total: Sums, by: tuple[GroupBy, ...]) -> msgspec.Raw:
    data = [written(sums_shown(each, by)) for each in paced(found)]
    return written(answer_shown(data, found, total, by))


def written(payload: Any) -> msgspec.Raw:
    """Something as JSON. Of many things each by itself: all at once would hold the interpreter."""
    return msgspec.Raw(msgspec.json.encode(payload))
