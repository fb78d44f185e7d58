from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from drive import drive, http_scope

from radgateway.asgi import StreamBroken
from radgateway.exchange import Exchange, current_exchange, exchange_of
from radgateway.inbound.request_context import RequestContextMiddleware, accepted_id


async def ok(scope: Any, receive: Any, send: Any) -> None:
    """An app that is not ours; it sets an id of its own, which must not win."""
    assert current_exchange.get() is exchange_of(scope)
    headers = [(b"X-Request-Id", b"theirs")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("abc-123_x.y:z", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("a" * 10_000, False),
        ("", False),
        ("with space", False),
        ("line\r\nx-evil: 1", False),
        ("caf\xe9", False),
        ('"><script>', False),
    ],
)
def test_a_clients_id_is_kept_only_where_it_is_safe(sent: str, kept: bool) -> None:
    """An id goes into logs and headers as it is, so only what is harmless there is taken."""
    app = RequestContextMiddleware(ok)
    answer = asyncio.run(drive(app, http_scope("/x", headers=[("x-request-id", sent)])))
    got = answer.header("x-request-id")
    assert (got == sent) is kept
    assert got is not None
    assert accepted_id(got.encode()) == got
    assert [name.lower() for name, _ in answer.headers].count(b"x-request-id") == 1


def ended(app: Any, path: str = "/v1/messages") -> tuple[Any, Exchange]:
    """Drive an app and return its answer and its finished record."""
    records: list[Exchange] = []
    wrapped = RequestContextMiddleware(app, on_end=records.append)
    answer = asyncio.run(drive(wrapped, http_scope(path), raises=True))
    return answer, records[0]


def test_the_record_is_complete_when_the_request_ends() -> None:
    """Status, times and route are there for whoever reports."""
    _, record = ended(ok)
    assert record.outcome == "success"
    assert record.reported_status == 200
    assert record.route == "/v1/messages"
    assert record.ended is not None
    assert record.started <= (record.first_byte or 0) <= record.ended


def test_a_bug_is_answered_in_the_dialect_and_still_raised() -> None:
    """The caller gets a proper 500 and the server gets the exception to report."""

    async def bug(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    answer, record = ended(bug)
    assert isinstance(answer.error, ZeroDivisionError)
    assert answer.status == 500
    assert json.loads(answer.body)["error"]["code"] == "internal_error"
    assert record.error_code == "internal_error"


def test_nothing_is_answered_twice() -> None:
    """After the start there is no second one, whatever is raised."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise StreamBroken("x")

    answer, record = ended(broken)
    assert answer.status == 200
    assert not answer.complete
    assert record.ended is None


def test_an_app_that_answers_nothing_counts_as_a_failure() -> None:
    """No answer is not a success."""

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        return

    _, record = ended(silent)
    assert record.reported_status == 500
    assert record.outcome == "upstream_error"


@pytest.mark.parametrize("given", ["sk-proj-0123456789abcdef", "AKIA0123456789ABCDEF"])
def test_a_key_in_place_of_an_id_is_replaced(given: str) -> None:
    """An id goes into logs, spans and rows, and on to the provider: no place for a secret."""
    assert accepted_id(given.encode()) is None
    assert accepted_id(b"task-scheduler-0123456789") == "task-scheduler-0123456789"
