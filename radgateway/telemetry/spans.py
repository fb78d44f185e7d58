"""The six spans of a request, and its pauses, made from its record when it ends.

Nothing of OpenTelemetry runs while a request does: six nested SDK spans cost 260 microseconds,
and 112 where they are not even sampled. Layers leave (name, start, end) in `exchange.spans`, the
router a span id in each attempt, and the finished spans go to the provider's processors from
here. Processors therefore see `on_end` only, never `on_start`.

    gateway_request                  the whole request, a SERVER span
      authentication                 ApiKeyAuth
      rate_limit_check               RateLimiter
      retry_backoff                  ProviderRouter, where it waits before trying the same again
      provider_dispatch              from the first attempt's start to the last one's end
        provider_execute             each attempt, a CLIENT span; its id went out in traceparent
      usage_record                   UsageRecorder
"""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan, Tracer
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode
from opentelemetry.util.types import AttributeValue

from radgateway.exchange import HEDGE_LOST, Attempt, Exchange
from radgateway.telemetry.traceparent import new_span_id

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSET = Status(StatusCode.UNSET)
_NANO = 1_000_000_000


class SpanEmitter:
    """Turns a finished exchange into spans and hands them to a tracer's processors."""

    __slots__ = ("_tracer",)

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def emit(self, exchange: Exchange, remote_parent: str | None) -> None:
        """Send the spans of a sampled request; children first, as they ended."""
        trace = _Trace(self._tracer, exchange)
        root = trace.context(exchange.span_id)
        ended = exchange.ended if exchange.ended is not None else exchange.clock()
        for name, start, end in exchange.spans or ():
            trace.emit(name, root, new_span_id(), start, end)
        if exchange.attempts:
            self._dispatch(trace, root, exchange, ended)
        parent = trace.context(remote_parent, remote=True) if remote_parent else None
        trace.emit(
            "gateway_request",
            parent,
            exchange.span_id,
            exchange.started,
            max(ended, *(end for _, _, end in exchange.spans)) if exchange.spans else ended,
            kind=SpanKind.SERVER,
            status=_request_status(exchange),
            attributes=_request_attributes(exchange),
        )

    def _dispatch(self, trace: _Trace, root: SpanContext, exchange: Exchange, ended: float) -> None:
        attempts = exchange.attempts
        dispatch_id = new_span_id()
        parent = trace.context(dispatch_id)
        last = attempts[0].started
        for ordinal, attempt in enumerate(attempts, 1):
            end = attempt.ended if attempt.ended is not None else ended
            last = max(last, end)
            trace.emit(
                "provider_execute",
                parent,
                attempt.span_id or new_span_id(),
                attempt.started,
                end,
                kind=SpanKind.CLIENT,
                status=_attempt_status(attempt),
                attributes=_attempt_attributes(exchange, attempt, ordinal),
            )
        trace.emit(
            "provider_dispatch",
            root,
            dispatch_id,
            attempts[0].started,
            last,
            attributes={"retry.attempt_count": len(attempts)},
        )


class _Trace:
    """What the spans of one request share: its id, and the way from its clock to Unix time."""

    __slots__ = ("_id", "_offset", "_tracer")

    def __init__(self, tracer: Tracer, exchange: Exchange) -> None:
        self._tracer = tracer
        self._id = int(exchange.trace_id, 16)
        self._offset = exchange.started_at - exchange.started

    def context(self, span_id: str, *, remote: bool = False) -> SpanContext:
        """A place in this trace."""
        return SpanContext(self._id, int(span_id, 16), remote, _SAMPLED)

    def emit(
        self,
        name: str,
        parent: SpanContext | None,
        span_id: str,
        start: float,
        end: float,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        status: Status = _UNSET,
        attributes: dict[str, AttributeValue] | None = None,
    ) -> None:
        """One finished span, its times in the exchange's monotonic seconds."""
        tracer = self._tracer
        tracer.span_processor.on_end(
            ReadableSpan(
                name,
                context=self.context(span_id),
                parent=parent,
                resource=tracer.resource,
                attributes=attributes or {},
                kind=kind,
                status=status,
                start_time=int((self._offset + start) * _NANO),
                end_time=int((self._offset + end) * _NANO),
                instrumentation_scope=tracer._instrumentation_scope,
            )
        )


def _request_status(exchange: Exchange) -> Status:
    if exchange.interrupted is not None:
        return Status(StatusCode.ERROR, exchange.interrupted)
    if exchange.reported_status >= 500:
        return Status(StatusCode.ERROR, exchange.error_code)
    return _UNSET


def _attempt_status(attempt: Attempt) -> Status:
    if attempt.failure is None or attempt.failure == HEDGE_LOST:
        return _UNSET
    return Status(StatusCode.ERROR, attempt.failure)


def _request_attributes(exchange: Exchange) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "http.request.method": exchange.method,
        "http.route": exchange.route,
        "radgateway.request_id": exchange.request_id,
        "response.status": exchange.reported_status,
        "retry.attempt_count": len(exchange.attempts),
    }
    if exchange.model is not None:
        attributes["request.model"] = exchange.model
    if exchange.operation is not None:
        attributes["request.api_type"] = exchange.operation.api_type
    if exchange.final is not None:
        attributes["response.provider"] = exchange.final.provider
        _add_usage(attributes, exchange.final)
    if exchange.disconnected:
        attributes["error.type"] = "client_disconnected"
    elif (reason := exchange.interrupted or exchange.error_code) is not None:
        attributes["error.type"] = reason
    return attributes


def _attempt_attributes(
    exchange: Exchange, attempt: Attempt, ordinal: int
) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "request.model": attempt.model,
        "response.provider": attempt.provider,
        "retry.attempt_count": ordinal,
    }
    if exchange.operation is not None:
        attributes["request.api_type"] = exchange.operation.api_type
    if attempt.status is not None:
        attributes["response.status"] = attempt.status
    if attempt.failure is not None:
        attributes["error.type"] = attempt.failure
    if attempt.hedge:
        attributes["retry.hedge"] = True
    _add_usage(attributes, attempt)
    return attributes


def _add_usage(attributes: dict[str, AttributeValue], attempt: Attempt) -> None:
    usage = attempt.usage
    if usage is None:
        return
    if usage.input_tokens is not None:
        attributes["usage.input_tokens"] = usage.input_tokens
    if usage.output_tokens is not None:
        attributes["usage.output_tokens"] = usage.output_tokens
