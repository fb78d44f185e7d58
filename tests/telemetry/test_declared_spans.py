"""The spans are what was declared, in both directions."""

from __future__ import annotations

import asyncio
import inspect
import re
from typing import Any

from drive import drive, http_scope
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import radgateway.inbound.auth
import radgateway.inbound.rate_limit
import radgateway.routing.dispatch
import radgateway.usage.recorder
from radgateway.exchange import Exchange, Usage, exchange_of, open_exchange
from radgateway.surface import operation_of
from radgateway.telemetry.declared_spans import ATTRIBUTES, SPANS
from radgateway.telemetry.genai_names import GenAIProvider
from radgateway.telemetry.tracing import TracingMiddleware

TYPES = {"string": str, "int": int, "double": float, "boolean": bool}
STRATEGY_SPANS = {
    "gateway_request",
    "provider_dispatch",
    "provider_execute",
    "authentication",
    "rate_limit_check",
    "usage_record",
}
STRATEGY_ATTRIBUTES = {
    "request.model",
    "request.api_type",
    "response.provider",
    "response.status",
    "retry.attempt_count",
    "usage.input_tokens",
    "usage.output_tokens",
}


def everything(exchange: Exchange) -> None:
    """A record in which all has happened that spans can tell of."""
    start = exchange.started
    assert exchange.spans is not None
    for name in ("authentication", "rate_limit_check", "retry_backoff", "usage_record"):
        exchange.spans.append((name, start, start + 0.001))
    exchange.model, exchange.stream, exchange.error_code = "m", True, "rate_limited"
    exchange.queued_s, exchange.queued_until = 0.1, start + 0.1
    for hedge in (False, True):
        attempt = exchange.begin_attempt("p", "m", None, hedge=hedge)
        attempt.status, attempt.failure, attempt.connect_s = 200, "idle_timeout", 0.01
        attempt.first_byte = start + 0.2
        attempt.usage = Usage(5, 4, 3, 2, 1)


def recorded() -> list[ReadableSpan]:
    """The spans of that record."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        exchange = exchange_of(scope)
        assert exchange is not None
        everything(exchange)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        scope, send, exchange = open_exchange(scope, send, "r1")
        exchange.path = scope["path"]
        exchange.operation = operation_of(scope["path"])
        layer = TracingMiddleware(
            inner,
            tracer_provider=provider,
            providers={"p": GenAIProvider("openai", "api.openai.com", 443)},
        )
        await layer(scope, receive, send)

    asyncio.run(drive(outer, http_scope("/v1/chat/completions")))
    return list(exporter.get_finished_spans())


def test_the_spans_of_a_full_record_are_those_declared() -> None:
    """Names, kinds, parents, attributes, their types, and events: all of them and no other."""
    spans = recorded()
    names = {span.context.span_id: span.name for span in spans if span.context is not None}
    seen: dict[str, set[str]] = {}
    events: dict[str, dict[str, frozenset[str]]] = {}
    for span in spans:
        declared = SPANS[span.name]
        assert span.kind.name == declared.kind
        assert (names[span.parent.span_id] if span.parent else None) == declared.parent
        for name, value in (span.attributes or {}).items():
            assert type(value) is TYPES[ATTRIBUTES[name].type], name
            seen.setdefault(span.name, set()).add(name)
        for event in span.events:
            events.setdefault(span.name, {})[event.name] = frozenset(event.attributes or {})
    assert {name: frozenset(seen.get(name, ())) for name in SPANS} == {
        name: span.attributes for name, span in SPANS.items()
    }
    assert {name: events.get(name, {}) for name in SPANS} == {
        name: span.events for name, span in SPANS.items()
    }


def test_every_attribute_is_somewhere() -> None:
    """What is declared and belongs to no span is a mistake."""
    used = {name for span in SPANS.values() for name in span.attributes}
    used |= {name for span in SPANS.values() for names in span.events.values() for name in names}
    assert used == set(ATTRIBUTES)


def test_the_strategys_are_there() -> None:
    """Six spans and seven attributes, on the request as a whole and on each attempt."""
    assert set(SPANS) >= STRATEGY_SPANS
    for name in ("gateway_request", "provider_execute"):
        assert SPANS[name].attributes >= STRATEGY_ATTRIBUTES


def test_layers_leave_spans_that_are_declared() -> None:
    """The names that layers write into the record, read from their sources."""
    left: set[str] = set()
    for module in (
        radgateway.inbound.auth,
        radgateway.inbound.rate_limit,
        radgateway.routing.dispatch,
        radgateway.usage.recorder,
    ):
        found = re.findall(r'spans\.append\(\s*\("(\w+)"', inspect.getsource(module))
        assert found, module
        left |= set(found)
    made_here = {"gateway_request", "provider_dispatch", "provider_execute"}
    assert left | made_here == set(SPANS)
