"""TracingMiddleware: W3C trace context in and out, and the spans of the requests it samples.

Stands right inside RequestContextMiddleware. It decides sampling by itself. A trace that begins
here is decided by its id, as OpenTelemetry's TraceIdRatioBased does, so that services below us with
the same ratio keep the same ones. One that a caller began is decided by chance: not only its
sampled flag is the caller's choice but its id too, and neither forces a recording on us. A request
that is not sampled gets its ids and costs nothing more. Answers nothing; adds `X-Trace-Id` to
every response.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.sdk.trace import Tracer

from radgateway.alone import joined_fully, mark_break
from radgateway.asgi import ASGIApp, Receive, Scope, Send, request_header
from radgateway.exchange import Exchange
from radgateway.telemetry.genai_names import CURRENT, GenAINames, GenAIProvider
from radgateway.telemetry.spans import SpanEmitter
from radgateway.telemetry.traceparent import (
    new_span_id,
    new_trace_id,
    parse_traceparent,
    parse_tracestate,
)

_RANGE = 1 << 64


class TracingMiddleware:
    """Joins or starts a trace for each request and records the share `sampling_rate` of them.

    `tracer_provider` is an OpenTelemetry SDK provider, by default the global one at the time this
    is constructed; without an SDK ids still flow and nothing is recorded. `sampling_rate` is a
    ratio from 0 to 1. `providers` are what the conventions for generative AI call the providers,
    `names` the generation of their attributes. `rng` makes the ids.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        sampling_rate: float = 1.0,
        providers: Mapping[str, GenAIProvider] | None = None,
        names: GenAINames = CURRENT,
        rng: random.Random | None = None,
    ) -> None:
        if not 0.0 <= sampling_rate <= 1.0:
            raise ValueError(f"sampling_rate must be between 0 and 1, not {sampling_rate!r}")
        self.app = app
        self._rng = rng or random.Random()
        tracer = (tracer_provider or trace.get_tracer_provider()).get_tracer("radgateway")
        self._emitter = (
            SpanEmitter(tracer, providers or {}, names) if isinstance(tracer, Tracer) else None
        )
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
        rng, bound = self._rng, self._bound
        if remote is None:
            exchange.trace_id = new_trace_id(rng)
            # The low 64 bits, below the ratio of their range (opentelemetry.sdk.trace.sampling).
            drawn = int(exchange.trace_id[16:], 16)
        else:
            exchange.trace_id = remote.trace_id
            exchange.tracestate = parse_tracestate(scope["headers"])
            drawn = rng.getrandbits(64)
        exchange.span_id = new_span_id(rng)
        exchange.sampled = drawn < bound
        if exchange.sampled:
            exchange.spans = []
        return remote.span_id if remote is not None else None
