"""One line for each request says all that its record does, at the level of its kind."""

from __future__ import annotations

import io
import json
import logging
from decimal import Decimal
from typing import Any

import pytest

from radgateway.exchange import HEDGE_LOST, Exchange, Principal, Usage
from radgateway.surface import OPERATIONS
from radgateway.telemetry.log_writer import LogWriter
from radgateway.telemetry.logs import LineFormat
from radgateway.telemetry.request_log import RequestLog


def logged(exchange: Exchange, level: int = logging.DEBUG) -> list[dict[str, Any]]:
    """What is written for one request."""
    stream = io.BytesIO()
    writer = LogWriter(stream)
    RequestLog(writer, LineFormat("1", "production"), level=level).emit(exchange)
    assert writer.close()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def ended(status: int | None = 200, **fields: Any) -> Exchange:
    """A finished record."""
    exchange = Exchange("req-1", "POST", lambda: 10.0)
    exchange.status, exchange.ended = status, 10.5
    for name, value in fields.items():
        setattr(exchange, name, value)
    return exchange


def test_the_line_tells_the_whole_story() -> None:
    """Outcome, who, what, each attempt, tokens, cost and times."""
    exchange = ended(
        trace_id="ab" * 16, model="fast", stream=True, principal=Principal("alice"), first_byte=10.2
    )
    exchange.operation = OPERATIONS["/v1/chat/completions"]
    first, second = (exchange.begin_attempt(name, "m", None) for name in ("a", "b"))
    first.status, first.failure, first.ended = 503, "http_503", 10.1
    second.status, second.usage, second.ended = 200, Usage(12, 18), 10.5
    second.cost_usd = Decimal("0.0000126")
    (line,) = logged(exchange)
    assert (line["message"], line["level"]) == ("radgateway.request", "info")
    assert (line["request_id"], line["trace_id"]) == ("req-1", "ab" * 16)
    assert line["fields"] == {
        "outcome": "success",
        "status": 200,
        "method": "POST",
        "route": "/v1/chat/completions",
        "duration_ms": 500.0,
        "ttft_ms": pytest.approx(200, abs=0.01),
        "principal": "alice",
        "model": "fast",
        "stream": True,
        "provider": "b",
        "input_tokens": 12,
        "output_tokens": 18,
        "usage_source": "reported",
        "cost_usd": "0.0000126",
        "attempts": [
            {
                "provider": "a",
                "model": "m",
                "status": 503,
                "duration_ms": pytest.approx(100, abs=0.01),
                "failure": "http_503",
            },
            {"provider": "b", "model": "m", "status": 200, "duration_ms": 500.0},
        ],
    }


@pytest.mark.parametrize(
    ("exchange", "level"),
    [
        (ended(200), "info"),
        (ended(404, error_code="unknown_model"), "warning"),
        (ended(429, error_code="rate_limited"), "warning"),
        (ended(502, error_code="upstream_error"), "error"),
        (ended(None), "error"),
        (ended(200, interrupted="idle_timeout"), "error"),
        (ended(401, error_code="invalid_api_key"), "info"),
        (ended(None, disconnected=True), "info"),
    ],
)
def test_the_level_is_of_the_kind_of_event(exchange: Exchange, level: str) -> None:
    """ERROR for what is broken, WARN for what was refused, INFO for failed authentication."""
    assert [line["level"] for line in logged(exchange)] == [level]


@pytest.mark.parametrize(
    ("exchange", "written"),
    [
        (ended(200), False),
        (ended(404, error_code="unknown_model"), True),
        (ended(502, error_code="upstream_error"), True),
        (ended(401, error_code="missing_api_key"), True),
        (ended(None, disconnected=True), False),
    ],
)
def test_production_logs_at_warn_and_failed_authentication_too(
    exchange: Exchange, written: bool
) -> None:
    """The strategy's rule for production, whose INFO line a plain WARN level would lose."""
    assert bool(logged(exchange, logging.WARNING)) is written


def test_a_callers_model_name_is_no_way_to_write_secrets_or_lines() -> None:
    """It is shortened, scrubbed and escaped; a surrogate does not cost the line."""
    (line,) = logged(ended(404, model="sk-abcdefghijkl\n{}" + "x" * 10_000))
    assert line["fields"]["model"].startswith("[redacted]\n{}")
    assert len(line["fields"]["model"]) < 300
    assert len(logged(ended(404, model="\ud800"))) == 1


def test_no_other_name_a_caller_chose_is_either() -> None:
    """A wildcard's model, which the attempts have from the caller."""
    secret = "sk-abcdefghijkl"
    exchange = ended(model=secret)
    exchange.begin_attempt("a", secret + "\n" + "x" * 10_000, None).status = 200
    (line,) = logged(exchange)
    assert line["fields"]["model"] == "[redacted]"
    assert len(line["fields"]["attempts"][0]["model"]) < 300
    assert secret not in json.dumps(line)


def test_the_line_is_about_the_attempt_that_answered() -> None:
    """Where a hedge lost, that is the one before; and the time between attempts is told."""
    exchange = ended(model="fast", backed_off_s=0.25)
    exchange.begin_attempt("a", "m", None).status = 200
    exchange.begin_attempt("b", "m", None, hedge=True).failure = HEDGE_LOST
    (line,) = logged(exchange)
    fields = line["fields"]
    assert (fields["provider"], fields["backed_off_ms"]) == ("a", 250.0)
    assert [a.get("hedge") for a in fields["attempts"]] == [None, True]
    assert [a.get("failure") for a in fields["attempts"]] == [None, HEDGE_LOST]
