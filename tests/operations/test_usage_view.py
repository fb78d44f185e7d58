"""GET usage: the ledger's requests filtered, paged, summed and exported."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from drive import Answer, drive, http_scope
from usage_rows import LEDGERS, stored, usage_row

from radgateway.asgi import ASGIApp, StreamBroken
from radgateway.operations import query_parameters
from radgateway.operations import usage_view as module
from radgateway.operations.usage_view import usage_view
from radgateway.usage.ledger import Ledger, LedgerUnavailable, MemoryLedger
from radgateway.usage.query import SUMS_MAX
from radgateway.usage.row import UsageRow
from radgateway.usage.writer import UsageWriter

NOW = 1_795_600_800.0


@pytest.fixture(params=LEDGERS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Each kind of ledger."""
    made = LEDGERS[request.param](tmp_path)
    yield made
    made.close()


def run(ledger: Ledger, story: Callable[[ASGIApp], Coroutine[Any, Any, None]]) -> None:
    """Run a story with the endpoint over a ledger, at NOW."""

    async def told() -> None:
        usage = UsageWriter(ledger)
        await story(usage_view(usage, lambda: NOW))
        await usage.aclose()

    asyncio.run(told())


async def ask(app: ASGIApp, method: str = "GET", accept: str | None = None, **query: Any) -> Answer:
    """One request."""
    headers = [("accept", accept)] if accept is not None else []
    scope = http_scope("/", method=method, headers=headers, query=urlencode(query))
    return await drive(app, scope)


async def show(app: ASGIApp, **query: Any) -> Any:
    """What it answers, which has to be a 200."""
    answer = await ask(app, **query)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def rows(answer: Answer) -> list[dict[str, str]]:
    """The records of a CSV answer."""
    return list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))


def many(count: int) -> list[UsageRow]:
    """Rows a second apart, the last of them a second ago."""
    return [usage_row(NOW - count + index) for index in range(count)]


def test_pages_hold_every_row_once(ledger: Ledger) -> None:
    """Newest first, to the null at the end, whatever comes in between."""
    expected = [row.usage_id for row in stored(ledger, many(123))]

    async def story(app: ASGIApp) -> None:
        for limit in (1, 50, 123, 500):
            seen: list[str] = []
            query: dict[str, Any] = {"limit": limit}
            while True:
                page = await show(app, **query)
                assert page["total"] == len(page["data"]) <= limit
                seen += [row["usageId"] for row in page["data"]]
                if page["nextCursor"] is None:
                    break
                query["cursor"] = page["nextCursor"]
                ledger.write([usage_row(NOW)])  # newer than all of them
            assert [each for each in seen if each in expected] == expected
            assert len(seen) == len(set(seen))

    run(ledger, story)


def test_the_page_has_fifty_rows_where_nobody_says(ledger: Ledger) -> None:
    """And at most 500."""
    stored(ledger, many(501))

    async def story(app: ASGIApp) -> None:
        assert (await show(app))["total"] == 50
        assert (await show(app, limit=9999))["total"] == 500

    run(ledger, story)


FILTERED = [
    ({"key": "bob"}, 2),
    ({"key": ""}, 1),
    ({"model": "m-2"}, 2),
    ({"model": "m"}, 6),
    ({"provider": "anthropic"}, 2),
    ({"outcome": "upstream_error"}, 1),
    ({"request_id": "asked-for"}, 1),
    ({"trace_id": "ab" * 16}, 1),
    ({"since": "-90s"}, 3),
    ({"until": "-90s"}, 4),
    ({"since": "-150s", "until": "-50s"}, 3),
    ({"key": "bob", "provider": "openai"}, 1),
    ({"key": "nobody"}, 0),
]


def varied() -> list[UsageRow]:
    """Seven rows that differ in what can be filtered by, the newest 30 s old."""
    return [
        usage_row(NOW - 400, api_key_name="bob", selected_model="m-2"),
        usage_row(NOW - 300, api_key_name="bob", provider="anthropic"),
        usage_row(NOW - 200, provider="anthropic", request_id="asked-for"),
        usage_row(NOW - 100, outcome="upstream_error", status=502, cost_usd=None),
        usage_row(NOW - 80, selected_model="m-2", trace_id="ab" * 16),
        usage_row(NOW - 60, api_key_name="", model="other"),
        usage_row(NOW - 30, input_tokens=None),
    ]


@pytest.mark.parametrize(("query", "count"), FILTERED)
def test_filters_hold_for_rows_sums_and_exports_alike(
    ledger: Ledger, query: dict[str, str], count: int
) -> None:
    """A table and the total below it speak of the same requests."""
    stored(ledger, varied())

    async def story(app: ASGIApp) -> None:
        assert (await show(app, **query))["total"] == count
        sums = await show(app, group_by="outcome", **query)
        assert sums["sum"]["requests"] == count
        assert sum(each["requests"] for each in sums["data"]) == count
        assert len(rows(await ask(app, format="csv", **query))) == count

    run(ledger, story)


def test_sums_are_exact_and_say_what_they_miss(ledger: Ledger) -> None:
    """By what is asked, with the total of all; costs to the last decimal."""
    stored(ledger, varied())

    async def story(app: ASGIApp) -> None:
        answer = await show(app, group_by="key,provider")
        assert answer["groupBy"] == ["key", "provider"]
        assert (answer["nextCursor"], answer["complete"]) == (None, True)
        by = {tuple(each["group"].values()): each for each in answer["data"]}
        assert set(by) == {
            ("alice", "openai"),
            ("alice", "anthropic"),
            ("bob", "openai"),
            ("bob", "anthropic"),
            ("", "openai"),
        }
        alice = by["alice", "openai"]
        assert (alice["requests"], alice["good"], alice["errors"]) == (3, 2, 1)
        assert (alice["unknownCost"], alice["unknownUsage"]) == (1, 1)
        assert alice["costUsd"] == "0.0000252"
        assert answer["sum"]["costUsd"] == str(Decimal("0.0000126") * 6)
        assert answer["sum"]["usage"]["prompt_tokens"] == 12 * 6

    run(ledger, story)


def test_hours_and_days_come_in_order(ledger: Ledger) -> None:
    """As RFC 3339 in UTC."""
    stored(ledger, [usage_row(NOW - hours * 3600) for hours in (0, 1, 1, 30)])

    async def story(app: ASGIApp) -> None:
        hours = await show(app, group_by="hour")
        assert [(each["group"]["hour"], each["requests"]) for each in hours["data"]] == [
            ("2026-11-24T04:00:00Z", 1),
            ("2026-11-25T09:00:00Z", 2),
            ("2026-11-25T10:00:00Z", 1),
        ]
        days = await show(app, group_by="day")
        assert [each["group"]["day"] for each in days["data"]] == [
            "2026-11-24T00:00:00Z",
            "2026-11-25T00:00:00Z",
        ]

    run(ledger, story)


def test_more_groups_than_are_given_are_in_the_total(ledger: Ledger) -> None:
    """And the answer says that it does not have them all; a file could not, and is refused."""
    stored(ledger, [usage_row(selected_model=f"m{n}") for n in range(SUMS_MAX + 1)])

    async def story(app: ASGIApp) -> None:
        answer = await show(app, group_by="model")
        assert (answer["total"], answer["complete"]) == (SUMS_MAX, False)
        assert answer["sum"]["requests"] == SUMS_MAX + 1
        refused = await ask(app, format="csv", group_by="model")
        assert refused.status == 400
        assert f"more groups than the {SUMS_MAX}" in refused.body.decode()

    run(ledger, story)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"sinse": "-1h"}, "did you mean 'since'?"),
        ({"limit": "0"}, "`limit` must be"),
        ({"cursor": "nonsense"}, "`cursor` must be the `nextCursor`"),
        ({"group_by": "modle"}, "did you mean 'model'?"),
        ({"group_by": "key", "limit": "5"}, "sums come all at once"),
        ({"format": "xml"}, "`format` must be json or csv"),
        ({"format": "csv", "cursor": "0" * 32}, "has no pages"),
        ({"format": "csv", "since": "x"}, "`since` is no time"),
        ({"format": "csv", "group_by": "x"}, "`group_by` has no 'x'"),
    ],
)
def test_a_query_that_means_nothing_is_a_400(query: dict[str, str], words: str) -> None:
    """In the form of any error of ours."""

    async def story(app: ASGIApp) -> None:
        answer = await ask(app, **query)
        error = json.loads(answer.body)["error"]
        assert (answer.status, error["code"]) == (400, "invalid_request")
        assert words in error["message"]
        assert answer.header("x-radgateway-error-source") == "gateway"

    run(MemoryLedger(), story)


def test_an_export_is_a_file_of_all_rows(ledger: Ledger) -> None:
    """More than a page, newest first, in parts, under a name; HEAD has the same head alone."""
    expected = [row.usage_id for row in stored(ledger, many(1234))]

    async def story(app: ASGIApp) -> None:
        answer = await ask(app, format="csv")
        assert [record["usageId"] for record in rows(answer)] == expected
        assert len([chunk for chunk in answer.chunks if chunk]) == 3
        assert max(map(len, answer.chunks)) < 200_000
        assert answer.header("content-type") == "text/csv; charset=utf-8; header=present"
        assert (
            answer.header("content-disposition")
            == 'attachment; filename="radgateway-usage-20261125T100000Z.csv"'
        )
        head = await ask(app, "HEAD", format="csv")
        assert (head.status, head.headers, head.body) == (200, answer.headers, b"")
        newest = await ask(app, format="csv", limit=700)
        assert [record["usageId"] for record in rows(newest)] == expected[:700]

    run(ledger, story)


def test_an_export_of_nothing_has_its_header() -> None:
    """Which tells an empty ledger from a broken one."""

    async def story(app: ASGIApp) -> None:
        answer = await ask(app, format="csv")
        assert answer.body.startswith(b"timestamp,usageId,")
        assert rows(answer) == []

    run(MemoryLedger(), story)


def test_sums_can_be_exported(ledger: Ledger) -> None:
    """The same as shown, a column for each group."""
    stored(ledger, varied())

    async def story(app: ASGIApp) -> None:
        answer = await ask(app, format="csv", group_by="key")
        assert {(r["key"], r["requests"], r["costUsd"]) for r in rows(answer)} == {
            ("alice", "4", "0.0000378"),
            ("bob", "2", "0.0000252"),
            ("", "1", "0.0000126"),
        }
        assert "usage-sums-2026" in (answer.header("content-disposition") or "")

    run(ledger, story)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/csv", "text/csv"),
        ("text/csv;q=0.5, */*;q=0.1", "text/csv"),
        ("application/json, text/csv;q=0.9", "application/json"),
        ("text/csv;q=0", "application/json"),
        ("text/csv;q=x", "application/json"),
        ("text/html, */*", "application/json"),
        ("*/*", "application/json"),
        (None, "application/json"),
    ],
)
def test_accept_may_ask_for_csv(accept: str | None, kind: str) -> None:
    """By name only; `format` overrules it."""

    async def story(app: ASGIApp) -> None:
        assert (await ask(app, accept=accept)).header(
            "content-type",
        ).split(";")[0] == kind  # type: ignore[union-attr]
        assert (await ask(app, accept=accept, format="json")).header(
            "content-type"
        ) == "application/json"

    run(MemoryLedger(), story)


def test_an_export_that_would_be_cut_is_refused(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an export looks whole; whoever wants the newest rows says how many."""
    monkeypatch.setattr(module, "EXPORT_MAX", 600)
    stored(ledger, many(601))

    async def story(app: ASGIApp) -> None:
        refused = await ask(app, format="csv")
        assert refused.status == 400
        assert "601 requests fit, and an export has 600 at most" in refused.body.decode()
        assert len(rows(await ask(app, format="csv", limit=600))) == 600
        assert len(rows(await ask(app, format="csv", since="-600s"))) == 600

    run(ledger, story)
    assert query_parameters.EXPORT_MAX == 100_000


class Failing(MemoryLedger):
    """A ledger that answers a number of times, and then not."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.answers = answers

    def page(self, *asked: Any) -> Any:
        """A page, while there are answers left."""
        self.answers -= 1
        if self.answers < 0:
            raise LedgerUnavailable("gone")
        return super().page(*asked)

    def sums(self, *asked: Any) -> Any:
        """Sums, the same."""
        if self.answers <= 0:
            raise LedgerUnavailable("gone")
        return super().sums(*asked)


@pytest.mark.parametrize("query", [{}, {"group_by": "key"}, {"format": "csv"}])
def test_a_ledger_that_does_not_answer_is_a_503(query: dict[str, str]) -> None:
    """With when to ask again, and nothing of the store's own words."""

    async def story(app: ASGIApp) -> None:
        answer = await ask(app, **query)
        assert (answer.status, answer.header("retry-after")) == (503, "5")
        assert b"gone" not in answer.body

    run(Failing(0), story)


def test_an_export_that_breaks_off_is_cut() -> None:
    """The connection breaks, so what has arrived can't be taken for the whole."""
    ledger = Failing(2)
    stored(ledger, many(1200))

    async def story(app: ASGIApp) -> None:
        scope = http_scope("/", method="GET", query="format=csv")
        answer = await drive(app, scope, raises=True)
        assert isinstance(answer.error, StreamBroken)
        assert answer.status == 200
        assert not answer.complete

    run(ledger, story)


def test_an_export_ends_with_its_client() -> None:
    """Nothing more is read once nobody takes it."""
    ledger = Failing(10**6)
    stored(ledger, many(2000))

    async def story(app: ASGIApp) -> None:
        left = asyncio.Event()

        async def leave(answer: Answer) -> None:
            left.set()
            await asyncio.sleep(0.05)

        asked = ledger.answers
        scope = http_scope("/", method="GET", query="format=csv")
        answer = await drive(app, scope, leave=left, on_chunk=leave)
        assert not answer.complete
        assert asked - ledger.answers <= 2

    run(ledger, story)


def test_only_get_and_head() -> None:
    """HEAD of JSON has GET's length."""

    async def story(app: ASGIApp) -> None:
        refused = await ask(app, "POST")
        assert (refused.status, refused.header("allow")) == (405, "GET, HEAD")
        shown, head = await ask(app), await ask(app, "HEAD")
        assert (head.headers, head.body) == (shown.headers, b"")

    run(MemoryLedger(), story)


@pytest.mark.parametrize("query", [{}, {"group_by": "key"}, {"format": "csv"}])
def test_no_answer_is_written_on_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, query: dict[str, str]
) -> None:
    """A page takes milliseconds to write, and thousands of sums tens of them."""
    threads: list[threading.Thread] = []

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            threads.append(threading.current_thread())
            return function(*arguments)

        return call

    for name in ("_rows_payload", "_sums_payload", "_text"):
        monkeypatch.setattr(module, name, noted(getattr(module, name)))
    ledger = MemoryLedger()
    stored(ledger, many(3))

    async def story(app: ASGIApp) -> None:
        assert (await ask(app, **query)).status == 200

    run(ledger, story)
    assert threads
    assert threading.main_thread() not in threads
