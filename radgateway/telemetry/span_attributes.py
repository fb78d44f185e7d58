"""What the spans say of a request and its attempts: the strategy's attributes and the standards'.

The strategy's seven stand beside OpenTelemetry's for HTTP, which are stable, and for generative AI
(`genai_names.py`). Tokens in the standard's names are on the attempts alone: a backend that adds
them up would count them twice. What a caller chose is without secrets.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from opentelemetry.util.types import AttributeValue

from radgateway.exchange import Attempt, Exchange, Usage
from radgateway.telemetry.genai_names import GenAINames, GenAIProvider, operation_name
from radgateway.telemetry.redaction import scrub, scrub_name

Attributes = dict[str, AttributeValue]

CUT: Final = "cancelled"
"""Why an answer was not completed where its record gives no other reason."""

_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)


class Moment(NamedTuple):
    """An event of a span, at a time in monotonic seconds."""

    name: str
    at: float
    attributes: Attributes | None = None


def request_attributes(exchange: Exchange, names: GenAINames) -> Attributes:
    """What `gateway_request` carries."""
    method, status = exchange.method, exchange.reported_status
    attributes: Attributes = {
        "http.request.method": method if method in _METHODS else "_OTHER",
        "http.route": exchange.route,
        "url.path": scrub(exchange.path),
        "radgateway.request_id": exchange.request_id,
        "response.status": status,
        "retry.attempt_count": len(exchange.attempts),
    }
    if exchange.status is not None:
        attributes["http.response.status_code"] = exchange.status
    if exchange.model is not None:
        model = scrub_name(exchange.model)
        attributes["request.model"] = attributes[names.request_model] = model
    if exchange.operation is not None:
        attributes["request.api_type"] = exchange.operation.api_type
        attributes[names.operation] = operation_name(exchange.operation)
    if exchange.final is not None:
        attributes["response.provider"] = exchange.final.provider
        _add_usage(attributes, exchange.final.usage)
    reason = _error_type(exchange, status)
    if reason is not None:
        attributes["error.type"] = reason
    return attributes


def request_moments(exchange: Exchange) -> list[Moment]:
    """The events of `gateway_request`."""
    if exchange.queued_until is None:
        return []
    return [Moment("queue", exchange.queued_until, {"queue.duration_s": exchange.queued_s})]


def attempt_attributes(
    exchange: Exchange,
    attempt: Attempt,
    ordinal: int,
    provider: GenAIProvider | None,
    names: GenAINames,
) -> Attributes:
    """What `provider_execute` carries; `ordinal` is 1 for a request's first attempt."""
    model = scrub_name(attempt.model)  # a wildcard's is the caller's
    attributes: Attributes = {
        "request.model": model,
        "response.provider": attempt.provider,
        "retry.attempt_count": ordinal,
        names.request_model: model,
        names.provider: provider.name if provider is not None else attempt.provider,
    }
    if exchange.operation is not None:
        attributes["request.api_type"] = exchange.operation.api_type
        attributes[names.operation] = operation_name(exchange.operation)
    if provider is not None and provider.address:
        attributes["server.address"] = provider.address
        attributes["server.port"] = provider.port
    if ordinal > 1:
        attributes["http.request.resend_count"] = ordinal - 1
    if attempt.status is not None:
        attributes["response.status"] = attributes["http.response.status_code"] = attempt.status
    if attempt.failure is not None:
        attributes["error.type"] = attempt.failure
    if attempt.hedge:
        attributes["retry.hedge"] = True
    if exchange.stream:
        attributes[names.request_stream] = True
        if attempt.first_byte is not None:
            attributes[names.first_chunk_s] = attempt.first_byte - attempt.started
    _add_usage(attributes, attempt.usage)
    _add_standard_usage(attributes, attempt.usage, names)
    return attributes


def attempt_moments(exchange: Exchange, attempt: Attempt, ended: float) -> list[Moment]:
    """The events of `provider_execute`, in the order they happened in."""
    moments: list[Moment] = []
    if attempt.connect_s is not None:
        at = attempt.started + attempt.connect_s
        moments.append(Moment("connect", at, {"connect.duration_s": attempt.connect_s}))
    if attempt.first_byte is not None:
        moments.append(Moment("first_byte", attempt.first_byte))
        if exchange.stream:
            gap: Attributes = {"stream.longest_gap_s": attempt.longest_gap_s}
            moments.append(Moment("stream_end", ended, gap))
    return moments


def _error_type(exchange: Exchange, status: int) -> str | None:
    if exchange.disconnected:
        return "client_disconnected"
    reason = exchange.interrupted or exchange.error_code
    if reason is None and exchange.outcome == "interrupted":
        return CUT
    # An upstream's error has no code of ours; the conventions then want the status.
    return str(status) if reason is None and status >= 500 else reason


def _add_usage(attributes: Attributes, usage: Usage | None) -> None:
    if usage is None:
        return
    if usage.input_tokens is not None:
        attributes["usage.input_tokens"] = usage.input_tokens
    if usage.output_tokens is not None:
        attributes["usage.output_tokens"] = usage.output_tokens


def _add_standard_usage(attributes: Attributes, usage: Usage | None, names: GenAINames) -> None:
    if usage is None:
        return
    for name, count in (
        (names.input_tokens, usage.input_tokens),
        (names.output_tokens, usage.output_tokens),
        (names.cache_read_tokens, usage.cached_tokens),
        (names.cache_write_tokens, usage.cache_write_tokens),
        (names.reasoning_tokens, usage.reasoning_tokens),
    ):
        if count is not None:
            attributes[name] = count
