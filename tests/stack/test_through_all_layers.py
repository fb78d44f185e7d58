"""A stream on its way through all layers: its bytes do not change, and no chunk has a span."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

from drive import Answer, drive, http_scope
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

from radgateway import describe
from radgateway.asgi import ASGIApp
from radgateway.composition import compose
from radgateway.exchange import Principal
from radgateway.inbound.admission import AdmissionQueue
from radgateway.inbound.auth import ApiKeyAuth, ApiKeys
from radgateway.inbound.drain import Drain, DrainGuard
from radgateway.inbound.keepalive import StreamKeepalive
from radgateway.inbound.rate_limit import RateLimiter
from radgateway.inbound.request_context import RequestContextMiddleware
from radgateway.provider.breaker import CircuitBreaker
from radgateway.provider.bulkhead import Bulkhead
from radgateway.provider.deadline import Deadline
from radgateway.provider.faults import FaultInjector, Faults
from radgateway.routing.models import Candidate, Provider, Route
from radgateway.routing.retry_budget import RetryBudget
from radgateway.routing.router import ProviderRouter
from radgateway.telemetry.instruments import Instruments
from radgateway.telemetry.metrics import MetricsMiddleware
from radgateway.telemetry.tracing import TracingMiddleware
from radgateway.upstream.interface import Timeouts
from radgateway.usage.recorder import UsageRecorder

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"w"},"logprobs":1.0e0}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
KEYS = ApiKeys([(Principal("caller"), "key-1")])
TIMEOUTS = Timeouts(first_byte_s=60, idle_s=60, total_s=600)


class Noting(SpanProcessor):
    """Notes the name of every span that is begun or ended."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        self.begun.append(span.name)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span.name)


def stack(provider: ASGIApp, noting: Noting) -> ASGIApp:
    """Every layer that a stream passes in the reference app, and the provider as an app."""
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(noting)
    protected = compose(
        provider,
        CircuitBreaker,
        partial(Bulkhead, max_concurrency=10),
        partial(Deadline, timeouts=TIMEOUTS),
        partial(FaultInjector, faults=Faults()),
    )
    router = ProviderRouter(
        {"p": Provider(protected, include_usage=False)}, {"m": Route((Candidate("p"),))}
    )
    return compose(
        router,
        RequestContextMiddleware,
        partial(TracingMiddleware, tracer_provider=tracer_provider),
        partial(MetricsMiddleware, instruments=Instruments()),
        partial(DrainGuard, drain=Drain()),
        partial(ApiKeyAuth, keys=KEYS),
        partial(RateLimiter, limits="1000/minute"),
        partial(UsageRecorder, put=lambda row: None),
        partial(AdmissionQueue, max_concurrency=10, max_queue=10),
        StreamKeepalive,
        RetryBudget,
    )


def stream(parts: Sequence[bytes], noting: Noting | None = None) -> Answer:
    """What a caller gets of a stream that comes from the provider in these parts."""

    async def provider(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def story() -> Answer:
        app = stack(provider, noting or Noting())
        scope = http_scope("/v1/chat/completions", headers=[("x-api-key", "key-1")])
        return await drive(app, scope, b'{"model":"m","stream":true}')

    return asyncio.run(story())


def test_it_is_the_stack_of_the_reference_app() -> None:
    """Ten layers and more, or the promises below would be about something smaller."""
    order = describe(stack(stack, Noting()))  # type: ignore[arg-type]
    assert len(order.names) + len(order.branches["p"].names) - 2 >= 14


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.just(EVENT),
            st.binary(max_size=40).map(lambda raw: b": " + raw.replace(b"\n", b"") + b"\n\n"),
            st.text(max_size=20).map(lambda text: b"event: \xc3\xa9\r\ndata: " + text.encode()),
        ),
        max_size=12,
    ),
    st.lists(st.integers(0, 800), max_size=20),
    st.sampled_from([b"", b": after the end\n\n"]),
)
def test_a_stream_passes_byte_for_byte(events: list[bytes], cuts: list[int], rest: bytes) -> None:
    """Whatever the events hold and wherever the network cuts them."""
    whole = b"".join([EVENT, *events, b"\n\n", USAGE, DONE])
    edges = [0, *sorted({min(cut, len(whole)) for cut in cuts}), len(whole)]
    parts = [whole[a:b] for a, b in itertools.pairwise(edges)]
    got = stream([*parts, rest])
    assert (got.status, got.body, got.complete) == (200, whole + rest, True)


def test_past_the_commit_point_chunks_go_out_as_they_came() -> None:
    """One for one and as the same object: nothing is copied, joined or cut."""
    parts = [EVENT, *(EVENT.replace(b"w", b"%d" % number) for number in range(50)), USAGE, DONE]
    got = stream(parts)
    assert len(got.chunks) == len(parts) + 1
    assert all(one is other for one, other in zip(got.chunks[1:], parts[1:], strict=False))


def test_no_chunk_has_a_span() -> None:
    """A stream of a thousand has the spans of one of two, all made when it has ended."""
    counted = []
    for chunks in (2, 1000):
        noting = Noting()
        assert stream([EVENT] * chunks + [USAGE, DONE], noting).complete
        assert not noting.begun
        counted.append(sorted(noting.ended))
    assert counted[0] == counted[1]
    assert "gateway_request" in counted[0]
    assert len(counted[0]) == 6
