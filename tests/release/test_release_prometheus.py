"""What is asked of Prometheus and the incidents, over sockets: what can't be told is a reason."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
from release.release_servers import Answer, matrix, reply, replying, serving, vector
from slo.server_process import free_address

from radgateway.release import prometheus
from radgateway.release.connection import client
from radgateway.release.finding import Unmeasured
from radgateway.release.incidents import Incident, P1Tally, open_incidents, p1_tally
from radgateway.release.prometheus import MAX_BYTES, Prometheus, Unanswered


@contextlib.contextmanager
def asked(answer: Answer) -> Iterator[Prometheus]:
    with serving(answer) as url, client("--prometheus", url, None, {}) as made:
        yield Prometheus(made)


def reading(answer: Answer) -> Any:
    with asked(answer) as one:
        return one.reading("up", 1000.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.005", "0.005"), ("1e-3", "0.001"), ("0", "0"), ("+Inf", "Infinity"), ("-1", "-1")],
)
def test_a_figure_is_exact(text: str, value: str) -> None:
    """The digits that Prometheus writes, and no binary neighbour of them."""
    assert reading(replying(vector(text))) == Decimal(value)


def hangs(handler: BaseHTTPRequestHandler, path: str, query: dict[str, str]) -> None:
    time.sleep(0.5)  # longer than the test's client waits


def drips(handler: BaseHTTPRequestHandler, path: str, query: dict[str, str]) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)  # never silent for as long as a read may take


def floods(handler: BaseHTTPRequestHandler, path: str, query: dict[str, str]) -> None:
    reply(handler, 200, b" " * (MAX_BYTES + 1))


def breaks_off(handler: BaseHTTPRequestHandler, path: str, query: dict[str, str]) -> None:
    handler.send_response(200)
    handler.send_header("content-length", "100")
    handler.end_headers()
    handler.wfile.write(b'{"status": "success"')


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (replying(vector()), "no data, or too few requests"),
        (replying(vector("NaN")), "not a number"),
        (replying(vector("1", "2")), "2 series, not one"),
        (replying({"status": "error", "error": "bad query"}, 400), "it answers 400: bad query"),
        (replying({**vector("1"), "warnings": ["a store is away"]}), "it warns: a store is away"),
        (replying({"status": "success", "data": {"resultType": "scalar"}}), "has a scalar"),
        (replying([]), "no form that Prometheus has"),
        (replying({"status": "success"}), "no form that Prometheus has"),
        (
            replying({"status": "success", "data": {"resultType": "vector", "result": [{}]}}),
            "no form that Prometheus has",
        ),
        (replying(vector("many")), "no form that Prometheus has"),
        (lambda handler, path, query: reply(handler, 502, b"<html>"), "it answers 502 without"),
        (lambda handler, path, query: reply(handler, 200, b"[" * 10_000), "it answers 200 without"),
        (floods, "larger than"),
        (breaks_off, "no answer"),
    ],
)
def test_what_is_no_figure_says_why(answer: Answer, why: str) -> None:
    """None of these is a zero, and none an exception that ends the table."""
    found = reading(answer)
    assert isinstance(found, Unmeasured)
    assert why in found.why


def test_waiting_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a server that is silent, and for one that never gets to the end."""
    monkeypatch.setattr(prometheus, "TIMEOUT_S", 0.2)
    for answer, why in ((hangs, "timed out"), (drips, "no whole answer within 0.2 s")):
        with serving(answer) as url, httpx.Client(base_url=url, timeout=0.3) as made:
            began = time.monotonic()
            found = Prometheus(made).reading("up", 1000.0)
        assert isinstance(found, Unmeasured)
        assert why in found.why
        assert time.monotonic() - began < 5


def test_nobody_there_is_a_reason() -> None:
    """As in the middle of the outage that is asked about."""
    with client("--prometheus", f"http://{free_address()}", None, {}) as made:
        found = Prometheus(made).reading("up", 1000.0)
        rows = Prometheus(made).row("up", 1000.0, 60, 3)
    assert isinstance(found, Unmeasured)
    assert rows == [found] * 3


def test_a_row_has_a_reading_for_each_moment() -> None:
    """Also for those of which nothing is known; the last is the moment that was asked for."""
    seen: dict[str, str] = {}

    def answer(handler: BaseHTTPRequestHandler, path: str, query: dict[str, str]) -> None:
        seen.update(query, path=path)
        replying(matrix((820, "0.1"), (940, "NaN"), (1000, "0.3")))(handler, path, query)

    with asked(answer) as one:
        row = one.row("up", 1000.7, 60, 4)
    assert seen == {
        "path": "/api/v1/query_range",
        "query": "up",
        "start": "820",
        "end": "1000",
        "step": "60",
    }
    assert row[0] == Decimal("0.1")
    assert row[3] == Decimal("0.3")
    assert [isinstance(each, Unmeasured) for each in row] == [False, True, True, False]


def test_a_row_of_several_series_is_none() -> None:
    """Which of them would be judged?"""
    two = matrix((1000, "1"))
    two["data"]["result"] *= 2
    with asked(replying(two)) as one:
        assert one.row("up", 1000.0, 60, 2) == [Unmeasured("2 series, not one")] * 2


def test_a_canarys_values_are_all_of_them() -> None:
    """NaN among them; and an answer that is none is an error for the limit of errors."""
    with asked(replying(vector("1", "2.5"))) as one:
        assert one.values("up") == [1.0, 2.5]
    with asked(replying(vector("one"))) as one, pytest.raises(Unanswered, match="no form"):
        one.values("up")


def test_a_token_goes_into_the_header_alone(tmp_path: Path) -> None:
    """From a file or the environment; never from the command line, nor in an address."""
    seen: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler, path: str, query: dict[str, str]) -> None:
        seen.append(handler.headers.get("authorization"))
        replying(vector("1"))(handler, path, query)

    file = tmp_path / "token"
    file.write_text("t0ken\n")
    with serving(answer) as url:
        for reference in (f"file:{file}", "env:TOKEN"):
            with client("--prometheus", url, reference, {"TOKEN": "t0ken"}) as made:
                assert Prometheus(made).reading("up", 1.0) == 1
    assert seen == ["Bearer t0ken"] * 2
    refused: tuple[tuple[str, str | None, str], ...] = (
        ("http://127.0.0.1", "t0ken", "--prometheus-token must be env:NAME or file:PATH"),
        ("http://127.0.0.1", "env:NONE", "--prometheus-token: "),
        ("http://user:t0ken@127.0.0.1", None, "must not carry a password"),
        ("127.0.0.1:9090", None, "must be an http:// or https:// address"),
    )
    for address, wanted, message in refused:
        with pytest.raises(ValueError, match=message) as caught:
            client("--prometheus", address, wanted, {})
        assert "t0ken@" not in str(caught.value)


# incidents


def incidents(payload: Any, status: int = 200) -> Any:
    with serving(replying(payload, status)) as url, client("--incidents", url, None, {}) as made:
        return open_incidents(made)


def test_open_incidents_are_asked_for() -> None:
    """By the path of the incident app, only those that are open."""
    seen: list[Any] = []

    def answer(handler: BaseHTTPRequestHandler, path: str, query: dict[str, str]) -> None:
        seen.append((path, query))
        replying({"data": [{"severity": "SEV-1", "title": "all down", "id": "1"}]})(
            handler, path, query
        )

    with serving(answer) as url, client("--incidents", url, None, {}) as made:
        assert open_incidents(made) == [Incident("SEV-1", "all down")]
    assert seen == [("/v0/incidents", {"open": "true"})]


STRANGE = "in no form that this version knows"


@pytest.mark.parametrize(
    ("payload", "status", "why"),
    [
        ({"error": {}}, 401, "answers 401"),
        ([], 200, STRANGE),
        ({"data": None}, 200, STRANGE),
        ({"data": [{"severity": "sev1"}]}, 200, STRANGE),
        ({"data": [{"severity": 1}]}, 200, STRANGE),
        ({"data": ["SEV-1"]}, 200, STRANGE),
        ({"data": [{"severity": "SEV-2"}], "nextCursor": "INC-1"}, 200, "more incidents are open"),
    ],
)
def test_incidents_that_can_not_be_read_are_no_peace(payload: Any, status: int, why: str) -> None:
    """One that is not understood, or on the next page, may be the one."""
    found = incidents(payload, status)
    assert isinstance(found, Unmeasured)
    assert why in found.why


def test_a_sev_1_on_the_first_page_is_enough() -> None:
    """Whatever comes after it."""
    page = {"data": [{"severity": "SEV-1", "title": "all down"}], "nextCursor": "INC-1"}
    assert incidents(page) == [Incident("SEV-1", "all down")]


def reviewed(payload: Any) -> Any:
    with serving(replying(payload)) as url, client("--incidents", url, None, {}) as made:
        return p1_tally(made, 7)


def test_the_review_of_p1_alerts_is_asked_for() -> None:
    """Of as many days as the criterion looks at."""
    seen: list[Any] = []
    p1 = {"name": "P1", "incidents": 40, "falsePositives": 1, "unmarked": 2}

    def answer(handler: BaseHTTPRequestHandler, path: str, query: dict[str, str]) -> None:
        seen.append((path, query))
        replying({"priorities": [p1, {**p1, "name": "P2"}]})(handler, path, query)

    with serving(answer) as url, client("--incidents", url, None, {}) as made:
        assert p1_tally(made, 7) == P1Tally(40, 1, 2)
    assert seen == [("/v0/incidents/review", {"since": "-7d"})]


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"priorities": []},
        {"priorities": [{"name": "P1"}]},
        {"priorities": [{"name": "P1", "incidents": 1, "falsePositives": 2, "unmarked": 0}]},
        {"priorities": [{"name": "P1", "incidents": 1, "falsePositives": -1, "unmarked": 0}]},
        {"priorities": [{"name": "P1", "incidents": None, "falsePositives": 0, "unmarked": 0}]},
    ],
)
def test_a_review_that_can_not_be_read_is_none(payload: Any) -> None:
    """And not one without false positives."""
    assert reviewed(payload) == Unmeasured(f"the incident app answers {STRANGE}")


def test_no_incident_is_none() -> None:
    """An empty list is an answer."""
    assert incidents({"data": []}) == []
