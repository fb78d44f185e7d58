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

What they carry is made in `span_attributes.py` and declared in `declared_spans.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opentelemetry.sdk.trace import Event, ReadableSpan, Tracer
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode
from opentelemetry.util.types import AttributeValue

from radgateway.exchange import HEDGE_LOST, Attempt, Exchange
from radgateway.telemetry.genai_names import CURRENT, GenAINames, GenAIProvider
from radgateway.telemetry.span_attributes import (
    CUT,
    Moment,
    attempt_attributes,
    attempt_moments,
    request_attributes,
    request_moments,
)
from radgateway.telemetry.traceparent import new_span_id

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSET = Status(StatusCode.UNSET)
_NANO = 1_000_000_000


class SpanEmitter:
    """Turns a finished exchange into spans and hands them to a tracer's processors."""

    __slots__ = ("_names", "_providers", "_tracer")

    def __init__(
        self,
        tracer: Tracer,
        providers: Mapping[str, GenAIProvider],
        names: GenAINames = CURRENT,
    ) -> None:
        self._tracer = tracer
        self._providers = providers
        self._names = names

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
            attributes=request_attributes(exchange, self._names),
            moments=request_moments(exchange),
        )

    def _dispatch(self, trace: _Trace, root: SpanContext, exchange: Exchange, ended: float) -> None:
        attempts = exchange.attempts
        dispatch_id = new_span_id()
        parent = trace.context(dispatch_id)
        last = attempts[0].started
        for ordinal, attempt in enumerate(attempts, 1):
            end = attempt.ended if attempt.ended is not None else ended
            last = max(last, end)
            provider = self._providers.get(attempt.provider)
            trace.emit(
                "provider_execute",
                parent,
                attempt.span_id or new_span_id(),
                attempt.started,
                end,
                kind=SpanKind.CLIENT,
                status=_attempt_status(attempt),
                attributes=attempt_attributes(exchange, attempt, ordinal, provider, self._names),
                moments=attempt_moments(exchange, attempt, end),
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

    __slots__ = ("_id", "_offset", "_state", "_tracer")

    def __init__(self, tracer: Tracer, exchange: Exchange) -> None:
        self._tracer = tracer
        self._id = int(exchange.trace_id, 16)
        self._offset = exchange.started_at - exchange.started
        state = exchange.tracestate
        self._state = TraceState.from_header([state]) if state else None

    def context(self, span_id: str, *, remote: bool = False) -> SpanContext:
        """A place in this trace."""
        return SpanContext(self._id, int(span_id, 16), remote, _SAMPLED, self._state)

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
        moments: Sequence[Moment] = (),
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
                events=[Event(m.name, m.attributes, self._nano(m.at)) for m in moments],
                kind=kind,
                status=status,
                start_time=self._nano(start),
                end_time=self._nano(end),
                instrumentation_scope=tracer._instrumentation_scope,
            )
        )

    def _nano(self, at: float) -> int:
        return int((self._offset + at) * _NANO)


def _request_status(exchange: Exchange) -> Status:
    outcome = exchange.outcome
    if outcome == "interrupted":
        return Status(StatusCode.ERROR, exchange.interrupted or CUT)
    if outcome != "client_disconnected" and exchange.reported_status >= 500:
        return Status(StatusCode.ERROR, exchange.error_code)
    return _UNSET


def _attempt_status(attempt: Attempt) -> Status:
    if attempt.failure is None or attempt.failure == HEDGE_LOST:
        return _UNSET
    return Status(StatusCode.ERROR, attempt.failure)
