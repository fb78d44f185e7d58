"""RequestLog: one canonical line for each request, written when it has ended.

One line that says everything about a request is worth more than ten that each say a part
(Stripe's "canonical log lines"). It is called from the outermost layer, so it sees the outcome.
"""

from __future__ import annotations

import logging
from typing import Any

from radgateway.exchange import Attempt, Exchange
from radgateway.telemetry.declared import AUTH_FAILURES
from radgateway.telemetry.log_writer import LogWriter
from radgateway.telemetry.logs import LineFormat
from radgateway.telemetry.redaction import scrub_name
from radgateway.usage.prices import request_cost_usd

MESSAGE = "radgateway.request"


class RequestLog:
    """Writes the line where its level is at or above `level` (a number of the stdlib's).

    ERROR for a 5xx and for an answer broken off, WARN for a 4xx, INFO for the rest and
    for a client that left, which is its own affair though it counts as a 499. Failed
    authentication is INFO and always written (the strategy, 5.2), whatever the level.
    """

    def __init__(self, writer: LogWriter, form: LineFormat, *, level: int = logging.INFO) -> None:
        self._write = writer.write
        self._line = form.line
        self._level = level

    def emit(self, exchange: Exchange) -> None:
        """Write the line of a finished request; never blocks."""
        status = exchange.reported_status
        level, number = "info", logging.INFO
        if exchange.error_code in AUTH_FAILURES:
            number = logging.CRITICAL
        elif exchange.disconnected:
            pass
        elif status >= 500 or exchange.interrupted is not None:
            level, number = "error", logging.ERROR
        elif status >= 400:
            level, number = "warning", logging.WARNING
        if number < self._level:
            return
        self._write(
            self._line(level, MESSAGE, fields_of(exchange), exchange.request_id, exchange.trace_id)
        )


def fields_of(exchange: Exchange) -> dict[str, Any]:
    """What the line says of a request; what is not known or did not happen is left out."""
    started = exchange.started
    ended = exchange.ended
    now = ended if ended is not None else exchange.clock()
    fields: dict[str, Any] = {
        "outcome": exchange.outcome,
        "status": exchange.reported_status,
        "method": exchange.method,
        "route": exchange.route,
        "duration_ms": _ms(now - started),
    }
    if exchange.first_byte is not None:
        fields["ttft_ms"] = _ms(exchange.first_byte - started)
    if exchange.principal is not None:
        fields["principal"] = exchange.principal.name
    if exchange.model is not None:
        fields["model"] = scrub_name(exchange.model)
        fields["stream"] = exchange.stream
    if exchange.backed_off_s:
        fields["backed_off_ms"] = _ms(exchange.backed_off_s)
    if exchange.queued_s:
        fields["queued_ms"] = _ms(exchange.queued_s)
    if exchange.limited is not None:
        fields["limited"] = exchange.limited
    if exchange.error_code is not None:
        fields["error_code"] = exchange.error_code
    if exchange.interrupted is not None:
        fields["interrupted"] = exchange.interrupted
    if exchange.final is not None:
        _add_attempts(fields, exchange.final, exchange.attempts, now)
    return fields


def _add_attempts(
    fields: dict[str, Any], final: Attempt, attempts: list[Attempt], now: float
) -> None:
    fields["provider"] = final.provider
    usage = final.usage
    if usage is not None:
        if usage.input_tokens is not None:
            fields["input_tokens"] = usage.input_tokens
        if usage.output_tokens is not None:
            fields["output_tokens"] = usage.output_tokens
        fields["usage_source"] = usage.source
    cost = request_cost_usd(attempts)
    if cost is not None:
        fields["cost_usd"] = f"{cost:f}"
    fields["attempts"] = [_attempt(attempt, now) for attempt in attempts]


def _attempt(attempt: Attempt, now: float) -> dict[str, Any]:
    said: dict[str, Any] = {
        "provider": attempt.provider,
        "model": scrub_name(attempt.model),  # a wildcard's is the caller's too
        "status": attempt.status,
        "duration_ms": _ms(attempt.latency_s(now)),
    }
    if attempt.failure is not None:
        said["failure"] = attempt.failure
    if attempt.hedge:
        said["hedge"] = True
    return said


def _ms(seconds: float) -> float:
    return int(seconds * 1e6) / 1e3
