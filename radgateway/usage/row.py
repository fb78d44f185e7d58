"""The row a request leaves in the ledger, made from its record when it ends.

A row is plain data: it holds nothing of the request alive, and goes to any store as JSON. Ids are
our own, since a caller may send the same X-Request-Id twice; they make inserts idempotent.

Journals hold rows as arrays, also those of the version before. So a field more goes to the end of
its row, with None for rows that have none, and no field changes its place.
"""

from __future__ import annotations

import os
import random
import re
import time
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from radgateway.exchange import Attempt, Exchange, Usage
from radgateway.telemetry.redaction import scrub_name
from radgateway.usage.prices import request_cost_usd

USAGE_ID: Final = re.compile(r"[0-9a-f]{32}")
"""The form of a row's id (`new_usage_id`)."""

_UNKNOWN = Usage(source="absent")


class AttemptRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One call to one candidate. Durations in milliseconds, the cost a decimal or None."""

    provider: str
    model: str
    status: int | None
    failure: str | None
    sent: bool
    hedge: bool
    offset_ms: float
    """From the start of the request to the start of this attempt."""
    duration_ms: float
    first_byte_ms: float | None
    waited_ms: float
    connect_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    usage_source: str
    cost_usd: str | None
    price_version: str | None
    """The table of prices it was charged by; None where none knows its price."""


class UsageRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One request. The order of the fields is that of the ledger's columns."""

    usage_id: str
    started_at: float
    """Unix seconds."""
    request_id: str
    trace_id: str
    api_key_name: str
    api_type: str
    route: str
    method: str
    model: str
    """As the caller named it."""
    selected_model: str
    provider: str
    status: int
    outcome: str
    error_code: str | None
    interrupted: str | None
    stream: bool
    duration_ms: float
    ttft_ms: float | None
    queued_ms: float
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    usage_source: str
    cost_usd: str | None
    """Of all attempts together."""
    price_version: str | None
    attempts: tuple[AttemptRow, ...]

    @property
    def total_tokens(self) -> int | None:
        """Input and output together, or None while either is unknown."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens

    def as_management(self) -> dict[str, Any]:
        """The row as `GET /v0/management/usage` shows it: the original's fields, then ours.

        `cost_total` is a number as in the original, null where the cost is not known.
        """
        started = datetime.fromtimestamp(self.started_at, UTC)
        return {
            "timestamp": started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "requestId": self.request_id,
            "traceId": self.trace_id,
            "apiKeyName": self.api_key_name,
            "incomingApiType": self.api_type,
            "incomingModel": self.model,
            "selectedModel": self.selected_model,
            "provider": self.provider,
            "responseStatus": "success" if self.outcome == "success" else "error",
            "durationMs": round(self.duration_ms),
            "usage": {
                "prompt_tokens": self.input_tokens,
                "completion_tokens": self.output_tokens,
                "total_tokens": self.total_tokens,
                "cost_total": float(self.cost_usd) if self.cost_usd is not None else None,
                "cached_tokens": self.cached_tokens,
                "cache_write_tokens": self.cache_write_tokens,
                "reasoning_tokens": self.reasoning_tokens,
            },
            "usageId": self.usage_id,
            "outcome": self.outcome,
            "status": self.status,
            "errorCode": self.error_code,
            "interrupted": self.interrupted,
            "stream": self.stream,
            "ttftMs": self.ttft_ms,
            "usageSource": self.usage_source,
            "costUsd": self.cost_usd,
            "priceVersion": self.price_version,
            "attempts": [
                {
                    "provider": attempt.provider,
                    "model": attempt.model,
                    "status": attempt.status,
                    "error": attempt.failure,
                    "hedge": attempt.hedge,
                    "durationMs": attempt.duration_ms,
                    "usage": {
                        "prompt_tokens": attempt.input_tokens,
                        "completion_tokens": attempt.output_tokens,
                        "cached_tokens": attempt.cached_tokens,
                        "cache_write_tokens": attempt.cache_write_tokens,
                        "reasoning_tokens": attempt.reasoning_tokens,
                    },
                    "usageSource": attempt.usage_source,
                    "costUsd": attempt.cost_usd,
                    "priceVersion": attempt.price_version,
                }
                for attempt in self.attempts
            ],
        }


def new_usage_id() -> str:
    """Milliseconds, then 80 random bits, in hex: unique, and in the order of insertion.

    The bits come from a generator seeded by the system, and anew in every forked process, so that
    no two share an id; asking the system each time would cost more than making the row.
    """
    return f"{time.time_ns() // 1_000_000:012x}{_random.getrandbits(80):020x}"


def usage_id_at(unix_s: float) -> str:
    """The lowest id of a time: every row that was made before has a lower one."""
    return f"{max(0, int(unix_s * 1000)):012x}{0:020x}"


_random = random.Random()
os.register_at_fork(after_in_child=_random.seed)


def row_of(exchange: Exchange, *, usage_id: str | None = None, ending: bool = False) -> UsageRow:
    """The row of a request that ends now; `ending` where its last byte is about to go out."""
    started = exchange.started
    ended = exchange.ended
    now = ended if ended is not None else exchange.clock()
    operation, principal, final = exchange.operation, exchange.principal, exchange.final
    usage = (final.usage if final is not None else None) or _UNKNOWN
    cost = request_cost_usd(exchange.attempts)
    first_byte = exchange.first_byte
    if first_byte is None and ending:
        first_byte = now
    return UsageRow(
        usage_id or new_usage_id(),
        exchange.started_at,
        exchange.request_id,
        exchange.trace_id,
        principal.name if principal is not None else "",
        operation.api_type if operation is not None else "",
        exchange.route,
        exchange.method,
        scrub_name(exchange.model) if exchange.model is not None else "",
        scrub_name(final.model) if final is not None else "",
        final.provider if final is not None else "",
        exchange.reported_status,
        exchange.outcome_if(ended=ending or ended is not None),
        exchange.error_code,
        exchange.interrupted,
        exchange.stream,
        _ms(now - started),
        _ms(first_byte - started) if first_byte is not None else None,
        _ms(exchange.queued_s),
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
        usage.source,
        f"{cost:f}" if cost is not None else None,
        _version(final),
        tuple([_attempt_row(attempt, started, now) for attempt in exchange.attempts]),
    )


def _attempt_row(attempt: Attempt, started: float, now: float) -> AttemptRow:
    usage = attempt.usage or _UNKNOWN
    first_byte, connect_s, cost = attempt.first_byte, attempt.connect_s, attempt.cost_usd
    return AttemptRow(
        attempt.provider,
        scrub_name(attempt.model),  # a wildcard's is the caller's
        attempt.status,
        attempt.failure,
        attempt.sent,
        attempt.hedge,
        _ms(attempt.started - started),
        _ms(attempt.latency_s(now)),
        _ms(first_byte - attempt.started) if first_byte is not None else None,
        _ms(attempt.waited_s),
        _ms(connect_s) if connect_s is not None else None,
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
        usage.source,
        f"{cost:f}" if cost is not None else None,
        _version(attempt),
    )


def _version(attempt: Attempt | None) -> str | None:
    price = attempt.price if attempt is not None else None
    return price.version or None if price is not None else None


def _ms(seconds: float) -> float:
    return int(seconds * 1e6) / 1e3
