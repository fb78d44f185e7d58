"""Bodies and what providers said: where an environment shows them, and bounded."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from radgateway.dialects.base import Ask
from radgateway.exchange import Exchange
from radgateway.telemetry.detail_log import BODY_LIMIT, DETAIL, Detail, DetailLog
from radgateway.telemetry.log_writer import LogWriter
from radgateway.telemetry.logs import LineFormat

ALL = Detail(bodies=True, statements=True, providers=True)


def shown(
    exchange: Exchange, detail: Detail = ALL, level: int = logging.DEBUG
) -> list[dict[str, Any]]:
    """What is written for one request."""
    stream = io.BytesIO()
    writer = LogWriter(stream)
    log = DetailLog(writer, LineFormat("1", "local"), detail=detail, level=level)
    log.emit(exchange)
    assert writer.close()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def asked(body: bytes, content_type: bytes = b"application/json") -> Exchange:
    """A finished request with a body."""
    exchange = Exchange("req-1", "POST", lambda: 10.0)
    exchange.status, exchange.ended = 200, 10.5
    exchange.ask = Ask("/v1/chat/completions", content_type, body, "m", False)
    return exchange


def test_a_body_is_shown_without_its_secrets() -> None:
    """By the names in it and by the look of its values."""
    body = {"model": "m", "password": "hunter2", "messages": [{"content": "my sk-abcdefghijkl"}]}
    (line,) = shown(asked(json.dumps(body).encode()))
    assert (line["message"], line["level"]) == ("radgateway.request.body", "debug")
    assert line["request_id"] == "req-1"
    assert line["fields"]["body"] == {
        "model": "m",
        "password": "[redacted]",
        "messages": [{"content": "my [redacted]"}],
    }


@pytest.mark.parametrize(
    "body", [b'"' + b"x" * BODY_LIMIT + b'"', b"--form\r\n", b'{"a":\xff}', b"[" * 10_000]
)
def test_a_body_that_is_large_or_no_json_is_its_size(body: bytes) -> None:
    """A line stays a line, and what can't be read can't be redacted by name."""
    (line,) = shown(asked(body))
    assert line["fields"] == {"bytes": len(body), "content_type": "application/json"}


def test_each_attempt_is_told_with_what_the_provider_said() -> None:
    """Times, sizes and the headers that tell of limits; no other header."""
    exchange = asked(b"{}")
    first = exchange.begin_attempt("a", "m1", None)
    first.failure, first.sent, first.ended = "connect_timeout", False, 10.1
    second = exchange.begin_attempt("b", "m2", None)
    second.status, second.connect_s, second.first_byte = 200, 0.002, 10.2
    second.response_headers = [
        (b"Content-Type", b"application/json"),
        (b"x-ratelimit-remaining-tokens", b"149"),
        (b"anthropic-ratelimit-x", b"sk-abcdefghijkl"),
        (b"set-cookie", b"session=1"),
        (b"x-internal", b"1"),
    ]
    _, one, two = shown(exchange)
    assert (one["message"], one["level"]) == ("radgateway.provider.exchange", "info")
    assert one["fields"]["failure"] == "connect_timeout"
    assert one["fields"]["sent"] is False
    assert "status" not in one["fields"]
    fields = two["fields"]
    assert (fields["attempt"], fields["provider"], fields["model"]) == (2, "b", "m2")
    assert (fields["connect_ms"], fields["first_byte_ms"]) == (2.0, pytest.approx(200, abs=0.01))
    assert fields["headers"] == {
        "content-type": "application/json",
        "x-ratelimit-remaining-tokens": "149",
        "anthropic-ratelimit-x": "[redacted]",
    }


def test_headers_are_bounded() -> None:
    """However many a provider sends of a kind that is shown."""
    exchange = asked(b"{}")
    exchange.begin_attempt("a", "m", None).response_headers = [
        (b"x-ratelimit-%d" % number, b"1") for number in range(1000)
    ]
    assert len(shown(exchange)[1]["fields"]["headers"]) == 32


@pytest.mark.parametrize(
    ("detail", "level", "messages"),
    [
        (DETAIL["local"], logging.DEBUG, ["body", "exchange"]),
        (DETAIL["local"], logging.INFO, ["exchange"]),
        (DETAIL["alpha"], logging.DEBUG, ["exchange"]),
        (DETAIL["alpha"], logging.WARNING, []),
        (Detail(), logging.DEBUG, []),
    ],
)
def test_the_environment_and_the_level_decide(
    detail: Detail, level: int, messages: list[str]
) -> None:
    """Both have to allow a line: bodies never leave a developer's machine."""
    exchange = asked(b"{}")
    exchange.begin_attempt("a", "m", None)
    lines = shown(exchange, detail, level)
    assert [line["message"].rpartition(".")[2] for line in lines] == messages
    log = DetailLog(LogWriter(io.BytesIO()), LineFormat("1", "x"), detail=detail, level=level)
    assert log.silent is (not messages)
