"""TracingMiddleware: W3C trace context in and out, and the spans of the requests it samples.

Stands right inside RequestContextMiddleware. It decides sampling by itself, by its ratio on the
trace id, as OpenTelemetry's TraceIdRatioBased does: services with one ratio keep the same traces,
and a caller's sampled flag forces nothing on us. A request that is not sampled gets its ids and
costs nothing more. Answers nothing; adds `X-Trace-Id` to every response.
"""

from __future__ import annotations

import random

from opentelemetry import trace
from opentelemetry.sdk.trace import Tracer

from radgateway.alone import joined_fully, mark_break
from radgateway.asgi import ASGIApp, Receive, Scope, Send, request_header
from radgateway.exchange import Exchange
from radgateway.telemetry.spans import SpanEmitter
from radgateway.telemetry.traceparent import new_span_id, new_trace_id, parse_traceparent

_RANGE = 1 << 64


class TracingMiddleware:
    """Joins or starts a trace for each request and records the share `sampling_rate` of them.

    `tracer_provider` is an OpenTelemetry SDK provider, by default the global one at the time this
    is constructed; without an SDK ids still flow and nothing is recorded. `sampling_rate` is a
    ratio from 0 to 1. `rng` makes the ids.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        sampling_rate: float = 1.0,
        rng: random.Random | None = None,
    ) -> None:
        if not 0.0 <= sampling_rate <= 1.0:
            raise ValueError(f"sampling_rate must be between 0 and 1, not {sampling_rate!r}")
        self.app = app
        self._rng = rng or random.Random()
        self._emitter = _emitter_of(tracer_provider or trace.get_tracer_provider())
        self._bound = round(sampling_rate * _RANGE) if self._emitter is not None else 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope, receive, send, exchange = joined_fully(scope, receive, send)
        remote_parent = self._begin(scope, exchange)
        exchange.own_headers.append((b"x-trace-id", exchange.trace_id.encode("ascii")))
        if not exchange.sampled:
            await self.app(scope, receive, send)
            return
        assert self._emitter is not None
        try:
            await self.app(scope, receive, send)
        except Exception:
            mark_break(exchange)
            raise
        finally:
            self._emitter.emit(exchange, remote_parent)

    def _begin(self, scope: Scope, exchange: Exchange) -> str | None:
        """Give the record its ids and its sampling; the caller's span id where there is one."""
        remote = parse_traceparent(request_header(scope, b"traceparent"))
        exchange.trace_id = remote.trace_id if remote is not None else new_trace_id(self._rng)
        exchange.span_id = new_span_id(self._rng)
        bound = self._bound
        # The low 64 bits, below the ratio of their range (opentelemetry.sdk.trace.sampling).
        exchange.sampled = bound > 0 and int(exchange.trace_id[16:], 16) < bound
        if exchange.sampled:
            exchange.spans = []
        return remote.span_id if remote is not None else None


def _emitter_of(provider: trace.TracerProvider) -> SpanEmitter | None:
    tracer = provider.get_tracer("radgateway")
    return SpanEmitter(tracer) if isinstance(tracer, Tracer) else None
