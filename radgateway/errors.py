"""Every answer that is the gateway's own: the catalogue of codes, written in the caller's dialect.

A component refuses by answering, never by raising through ASGI: `await answer(scope, send,
Refusal("rate_limited", ...))`. `Refusal` is an exception only so that plain functions without
ASGI (a parser, a pool) can hand one to the layer that called them. Codes are stable: clients and
alerts may rely on them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from radgateway.asgi import Headers, Scope, Send, StreamBroken, respond, route_path
from radgateway.exchange import attempt_of, exchange_of
from radgateway.telemetry.redaction import scrub

if TYPE_CHECKING:
    from radgateway.dialects.base import Dialect


class Kind(NamedTuple):
    """What a code means on the wire."""

    status: int
    category: str
    """The dialect-neutral error type; each dialect has its own word for it."""
    should_retry: bool | None = None
    """Sent as `x-should-retry` where the answer is known (the official SDKs obey it)."""


CATALOGUE: dict[str, Kind] = {
    # what the caller sent
    "invalid_request": Kind(400, "invalid", False),
    "invalid_json": Kind(400, "invalid", False),
    "missing_model": Kind(400, "invalid", False),
    "invalid_model": Kind(400, "invalid", False),
    "invalid_config": Kind(400, "invalid", False),
    "dialect_mismatch": Kind(400, "invalid", False),
    "missing_api_key": Kind(401, "authentication", False),
    "invalid_api_key": Kind(401, "authentication", False),
    "invalid_token": Kind(401, "authentication", False),
    "token_expired": Kind(401, "authentication", False),
    "token_not_yet_valid": Kind(401, "authentication", False),
    "admin_key_required": Kind(403, "permission", False),
    "faults_not_allowed": Kind(403, "permission", False),
    "unknown_model": Kind(404, "not_found", False),
    "unknown_path": Kind(404, "not_found", False),
    "unknown_incident": Kind(404, "not_found", False),
    "method_not_allowed": Kind(405, "invalid", False),
    "needs_restart": Kind(409, "invalid", False),
    "request_timeout": Kind(408, "invalid"),
    "wrong_state": Kind(409, "invalid", False),
    "body_too_large": Kind(413, "too_large", False),
    "unsupported_media_type": Kind(415, "invalid", False),
    # what we decline to do now
    "rate_limited": Kind(429, "rate_limit"),
    "budget_exceeded": Kind(429, "rate_limit", False),
    "overloaded": Kind(503, "overloaded"),
    "auth_unavailable": Kind(503, "overloaded"),
    "secrets_expired": Kind(503, "overloaded"),
    "queue_timeout": Kind(503, "overloaded"),
    "deadline_exceeded": Kind(504, "timeout"),
    "draining": Kind(503, "overloaded"),
    "bulkhead_full": Kind(503, "overloaded"),
    "breaker_open": Kind(503, "overloaded"),
    "no_provider_available": Kind(503, "overloaded"),
    "retry_budget_exhausted": Kind(503, "overloaded", False),
    # what a provider did
    "upstream_unreachable": Kind(502, "upstream"),
    "upstream_connection_lost": Kind(502, "upstream"),
    "upstream_bad_response": Kind(502, "upstream"),
    "upstream_error": Kind(502, "upstream"),
    "upstream_stream_error": Kind(502, "upstream"),
    "upstream_truncated": Kind(502, "upstream"),
    "upstream_pool_timeout": Kind(503, "overloaded"),
    "connect_timeout": Kind(504, "timeout"),
    "first_byte_timeout": Kind(504, "timeout"),
    "idle_timeout": Kind(504, "timeout"),
    "total_timeout": Kind(504, "timeout"),
    # what we did
    "reload_failed": Kind(500, "internal"),
    "internal_error": Kind(500, "internal"),
}

OWN_REFUSALS = frozenset(
    {"bulkhead_full", "breaker_open", "upstream_pool_timeout", "deadline_exceeded"}
)
"""Answers of ours for want of our own room or the client's patience; they say nothing about the
provider."""

SOURCE_GATEWAY = (b"x-radgateway-error-source", b"gateway")
SOURCE_UPSTREAM = (b"x-radgateway-error-source", b"upstream")


class Refusal(Exception):
    """One answer of ours: a code of the catalogue and a message that says what to do.

    `retry_after_s` (seconds) is sent rounded up to whole seconds, as RFC 9110 §10.2.3 asks.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retry_after_s: float | None = None,
        headers: Headers | None = None,
    ) -> None:
        message = scrub(message)  # it may quote a caller or a provider
        super().__init__(message)
        self.code = code
        self.kind = CATALOGUE[code]
        self.message = message
        self.retry_after_s = retry_after_s
        self.headers = headers or []

    @property
    def status(self) -> int:
        """The HTTP status the code is answered with."""
        return self.kind.status

    @property
    def retry_after(self) -> bytes | None:
        """The Retry-After value in whole seconds, at least 1, or None."""
        if self.retry_after_s is None:
            return None
        return b"%d" % max(1, math.ceil(self.retry_after_s))


def dialect_of(scope: Scope) -> Dialect:
    """The dialect the caller speaks: from the record, else from the path, else OpenAI's."""
    exchange = exchange_of(scope)
    if exchange is not None and exchange.operation is not None:
        return exchange.operation.dialect
    from radgateway.surface import dialect_of_path  # noqa: PLC0415 - the table imports dialects

    return dialect_of_path(route_path(scope))


async def answer(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Write a refusal as a complete response in the caller's dialect."""
    exchange, attempt = exchange_of(scope), attempt_of(scope)
    if attempt is not None:
        # Below the router this is one attempt's failure; the router decides what the caller gets.
        attempt.failure = refusal.code
    elif exchange is not None:
        exchange.error_code = refusal.code
    request_id = exchange.request_id if exchange is not None else ""
    headers: Headers = [(b"content-type", b"application/json"), SOURCE_GATEWAY, *refusal.headers]
    retry_after = refusal.retry_after
    if retry_after is not None:
        headers.append((b"retry-after", retry_after))
    if refusal.kind.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if refusal.kind.should_retry else b"false"))
    body = dialect_of(scope).error_body(refusal, request_id)
    await respond(send, refusal.status, headers, body)


async def end_broken(scope: Scope, send: Send, refusal: Refusal, *, events: bool) -> None:
    """End a response that had begun and can't go on.

    An event stream gets an error event in the caller's dialect, and ends without its dialect's
    mark of completion. Any other body raises `StreamBroken`: cut is the only honest end.
    """
    exchange, attempt = exchange_of(scope), attempt_of(scope)
    if attempt is not None:
        attempt.failure = refusal.code
    elif exchange is not None:
        exchange.interrupted = refusal.code
    if not events:
        raise StreamBroken(refusal.code)
    body = dialect_of(scope).error_event(refusal)
    await send({"type": "http.response.body", "body": body, "more_body": False})
