"""Trace context flows always, spans exist for the sampled share, made from the record."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from drive import Answer, drive, http_scope
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from radgateway.exchange import HEDGE_LOST, Exchange, Usage, exchange_of, open_exchange
from radgateway.surface import operation_of
from radgateway.telemetry.genai_names import LATEST, GenAIProvider
from radgateway.telemetry.tracing import TracingMiddleware

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Recorder:
    """A provider that keeps its spans."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """All finished spans."""
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> ReadableSpan:
        """The one span of a name."""
        (span,) = [s for s in self.spans if s.name == name]
        return span


async def answer_ok(send: Any, status: int = 200) -> None:
    """A whole response with a header of its own."""
    headers = [(b"X-Trace-Id", b"theirs"), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


def traced(
    fill: Callable[[Exchange], None] = lambda exchange: None,
    *,
    headers: Sequence[tuple[str, str]] = (),
    status: int = 200,
    **options: Any,
) -> tuple[Answer, Exchange]:
    """One request through the layer, as it stands in the gateway."""
    seen: list[Exchange] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        exchange = exchange_of(scope)
        assert exchange is not None
        seen.append(exchange)
        fill(exchange)
        await answer_ok(send, status)

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        scope, send, exchange = open_exchange(scope, send, "r1")
        exchange.operation = operation_of(scope["path"])
        await TracingMiddleware(inner, **options)(scope, receive, send)

    answer = asyncio.run(drive(outer, http_scope("/v1/chat/completions", headers=headers)))
    return answer, seen[0]


def test_the_callers_trace_goes_on() -> None:
    """Its trace id is ours and in X-Trace-Id, once; its span is our parent."""
    recorder = Recorder()
    answer, exchange = traced(
        headers=[("traceparent", f"00-{TRACE}-{SPAN}-00")], tracer_provider=recorder.provider
    )
    assert exchange.trace_id == TRACE
    assert [v for k, v in answer.headers if k.lower() == b"x-trace-id"] == [TRACE.encode()]
    span = recorder.named("gateway_request")
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == SPAN
    assert span.parent.is_remote
    assert f"{span.context.span_id:016x}" == exchange.span_id


def test_a_malformed_header_starts_a_trace_of_our_own() -> None:
    """As if there were none."""
    recorder = Recorder()
    _, exchange = traced(headers=[("traceparent", "00-x")], tracer_provider=recorder.provider)
    assert len(exchange.trace_id) == 32
    assert recorder.named("gateway_request").parent is None


def test_six_spans_make_one_tree() -> None:
    """Each stage and each attempt has its span, at the time it happened, below its parent."""
    recorder = Recorder()

    def fill(exchange: Exchange) -> None:
        assert exchange.spans is not None
        start = exchange.started
        exchange.model = "fast"
        exchange.spans.append(("authentication", start, start + 0.001))
        exchange.spans.append(("rate_limit_check", start + 0.001, start + 0.002))
        for provider, failure in (("a", "http_503"), ("b", None)):
            attempt = exchange.begin_attempt(provider, "m", None)
            attempt.status = 503 if failure else 200
            attempt.failure = failure
            attempt.usage = None if failure else Usage(12, 18)
            attempt.ended = exchange.clock()
        exchange.spans.append(("usage_record", exchange.clock(), exchange.clock()))

    _, exchange = traced(fill, tracer_provider=recorder.provider)
    names = sorted(span.name for span in recorder.spans)
    assert names == sorted(
        [
            "authentication",
            "gateway_request",
            "provider_dispatch",
            "provider_execute",
            "provider_execute",
            "rate_limit_check",
            "usage_record",
        ]
    )
    root, dispatch = recorder.named("gateway_request"), recorder.named("provider_dispatch")
    for span in recorder.spans:
        assert span.context is not None
        assert f"{span.context.trace_id:032x}" == exchange.trace_id
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time
        assert root.start_time is not None
        assert span.start_time >= root.start_time
        parent = {"gateway_request": None, "provider_execute": dispatch}.get(span.name, root)
        assert (span.parent and span.parent.span_id) == (
            parent and parent.context and parent.context.span_id
        )
    executes = [span for span in recorder.spans if span.name == "provider_execute"]
    # the ids that went out in traceparent
    assert [f"{s.context.span_id:016x}" for s in executes if s.context] == [
        attempt.span_id for attempt in exchange.attempts
    ]
    assert [s.status.status_code for s in executes] == [StatusCode.ERROR, StatusCode.UNSET]
    assert executes[0].kind is SpanKind.CLIENT
    assert root.kind is SpanKind.SERVER


def test_the_strategys_attributes_are_there() -> None:
    """All seven, on the request's span."""
    recorder = Recorder()

    def fill(exchange: Exchange) -> None:
        exchange.model = "fast"
        attempt = exchange.begin_attempt("openai", "gpt-4o-mini", None)
        attempt.status, attempt.usage = 200, Usage(12, 18)

    traced(fill, tracer_provider=recorder.provider)
    attributes = dict(recorder.named("gateway_request").attributes or {})
    expected = {
        "request.model": "fast",
        "request.api_type": "chat",
        "response.provider": "openai",
        "response.status": 200,
        "retry.attempt_count": 1,
        "usage.input_tokens": 12,
        "usage.output_tokens": 18,
    }
    assert {name: attributes[name] for name in expected} == expected


def test_the_standards_attributes_stand_beside_them() -> None:
    """HTTP's on both spans; tokens in generative AI's names on the attempt alone."""
    recorder = Recorder()

    def fill(exchange: Exchange) -> None:
        exchange.model, exchange.stream, exchange.path = "fast", True, "/v1/chat/completions"
        attempt = exchange.begin_attempt("vendor", "gpt-4o-mini", None)
        attempt.status, attempt.first_byte = 200, attempt.started + 0.5
        attempt.usage = Usage(12, 18, cached_tokens=10, cache_write_tokens=2, reasoning_tokens=4)

    traced(
        fill,
        tracer_provider=recorder.provider,
        providers={"vendor": GenAIProvider("groq", "api.groq.com", 443)},
    )
    root = dict(recorder.named("gateway_request").attributes or {})
    execute = dict(recorder.named("provider_execute").attributes or {})
    assert root["http.request.method"] == "POST"
    assert root["http.response.status_code"] == execute["http.response.status_code"] == 200
    assert root["url.path"] == root["http.route"] == "/v1/chat/completions"
    assert {name for name in root if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name",
        "gen_ai.request.model",
    }
    assert {name: value for name, value in execute.items() if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "groq",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": pytest.approx(0.5),
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 18,
        "gen_ai.usage.cache_read.input_tokens": 10,
        "gen_ai.usage.cache_creation.input_tokens": 2,
        "gen_ai.usage.reasoning.output_tokens": 4,
    }
    assert (execute["server.address"], execute["server.port"]) == ("api.groq.com", 443)


def test_the_newest_names_are_for_who_asks() -> None:
    """In the place of the others, never beside them."""
    recorder = Recorder()

    def fill(exchange: Exchange) -> None:
        attempt = exchange.begin_attempt("vendor", "m", None)
        attempt.status, attempt.usage = 200, Usage(12, 18, cache_write_tokens=2)

    traced(fill, tracer_provider=recorder.provider, names=LATEST)
    execute = dict(recorder.named("provider_execute").attributes or {})
    assert execute["gen_ai.usage.cache_write.input_tokens"] == 2
    assert "gen_ai.usage.cache_creation.input_tokens" not in execute


def test_what_happened_on_the_way_is_an_event_at_its_time() -> None:
    """Out of the queue, connected, the first byte and the end of a stream."""
    recorder = Recorder()

    def fill(exchange: Exchange) -> None:
        start = exchange.started
        exchange.queued_s, exchange.queued_until, exchange.stream = 0.25, start + 0.25, True
        attempt = exchange.begin_attempt("a", "m", None)
        attempt.started, attempt.connect_s = start + 0.3, 0.01
        attempt.first_byte, attempt.ended = start + 0.5, start + 2.0
        attempt.longest_gap_s = 0.75

    traced(fill, tracer_provider=recorder.provider)
    root, execute = recorder.named("gateway_request"), recorder.named("provider_execute")
    assert root.start_time is not None

    def shown(span: ReadableSpan) -> list[tuple[str, float, dict[str, Any]]]:
        return [
            (e.name, round((e.timestamp - root.start_time) / 1e9, 3), dict(e.attributes or {}))  # type: ignore[operator]
            for e in span.events
        ]

    assert shown(root) == [("queue", 0.25, {"queue.duration_s": 0.25})]
    assert shown(execute) == [
        ("connect", 0.31, {"connect.duration_s": 0.01}),
        ("first_byte", 0.5, {}),
        ("stream_end", 2.0, {"stream.longest_gap_s": 0.75}),
    ]


def test_the_names_a_caller_chose_can_not_spoil_a_span() -> None:
    """No secret in them, and nothing that could not be encoded, which would cost a whole batch."""
    recorder = Recorder()

    def fill(exchange: Exchange) -> None:
        exchange.model = "\ud800 sk-proj-0123456789abcdef"
        exchange.path, exchange.method = "/v1/sk-proj-0123456789abcdef", "BREW"
        exchange.begin_attempt("a", exchange.model, None)

    traced(fill, tracer_provider=recorder.provider)
    for span in recorder.spans:
        text = "".join(str(value) for value in (span.attributes or {}).values())
        assert "0123456789abcdef" not in text
        text.encode()
    assert (recorder.named("gateway_request").attributes or {})["http.request.method"] == "_OTHER"


@pytest.mark.parametrize("state", ["a=1,b@x=2", "", "broken"])
def test_what_other_vendors_keep_of_a_trace_stays_with_it(state: str) -> None:
    """On the spans as in the request to the provider; where it is not valid, nothing."""
    recorder = Recorder()
    _, exchange = traced(
        headers=[("traceparent", f"00-{TRACE}-{SPAN}-00"), ("tracestate", state)],
        tracer_provider=recorder.provider,
    )
    assert exchange.tracestate == ("" if state == "broken" else state)
    span = recorder.named("gateway_request")
    assert span.context is not None
    assert span.context.trace_state.to_header() == exchange.tracestate


def test_a_hedge_that_lost_is_no_error() -> None:
    """Its span says what it was and why it ended."""
    recorder = Recorder()

    def fill(exchange: Exchange) -> None:
        exchange.begin_attempt("a", "m", None).status = 200
        exchange.begin_attempt("b", "m", None, hedge=True).failure = HEDGE_LOST

    traced(fill, tracer_provider=recorder.provider)
    _, lost = (span for span in recorder.spans if span.name == "provider_execute")
    assert lost.status.status_code is StatusCode.UNSET
    assert lost.attributes is not None
    assert (lost.attributes["retry.hedge"], lost.attributes["error.type"]) == (True, HEDGE_LOST)
    assert recorder.named("gateway_request").attributes["response.provider"] == "a"  # type: ignore[index]


@pytest.mark.parametrize(
    ("status", "field", "given", "code", "error_type"),
    [
        (502, "error_code", "upstream_error", StatusCode.ERROR, "upstream_error"),
        (429, "error_code", "rate_limited", StatusCode.UNSET, "rate_limited"),
        (200, "interrupted", "idle_timeout", StatusCode.ERROR, "idle_timeout"),
        (200, "disconnected", True, StatusCode.UNSET, "client_disconnected"),
        (200, "stream", True, StatusCode.UNSET, None),
        (500, "stream", True, StatusCode.ERROR, "500"),
        (502, "disconnected", True, StatusCode.UNSET, "client_disconnected"),
    ],
)
def test_the_status_of_a_request(
    status: int, field: str, given: Any, code: StatusCode, error_type: str | None
) -> None:
    """Our failures are errors; the caller's and its leaving are not."""
    recorder = Recorder()
    traced(lambda e: setattr(e, field, given), status=status, tracer_provider=recorder.provider)
    span = recorder.named("gateway_request")
    assert span.status.status_code is code
    assert (span.attributes or {}).get("error.type") == error_type


def test_a_caller_can_not_force_a_recording() -> None:
    """With a ratio of 0 a sampled flag changes nothing: ids flow, no span is made."""
    recorder = Recorder()
    answer, exchange = traced(
        headers=[("traceparent", f"00-{TRACE}-{SPAN}-01")],
        tracer_provider=recorder.provider,
        sampling_rate=0.0,
    )
    assert recorder.spans == ()
    assert not exchange.sampled
    assert exchange.spans is None
    assert answer.header("x-trace-id") == TRACE


def test_a_caller_can_not_force_a_recording_by_its_trace_id_either() -> None:
    """An id made to be below any ratio is drawn like all others: a tenth of them is recorded."""
    recorder = Recorder()
    low = f"{'a' * 16}{1:016x}"

    async def run() -> None:
        layer = TracingMiddleware(
            respond, tracer_provider=recorder.provider, sampling_rate=0.1, rng=random.Random(3)
        )
        for _ in range(2000):
            scope = http_scope("/", headers=[("traceparent", f"00-{low}-{SPAN}-01")])
            await layer(scope, no_receive, no_send)

    async def respond(scope: Any, receive: Any, send: Any) -> None:
        return None

    asyncio.run(run())
    assert 150 < len(recorder.spans) < 250


async def no_receive() -> Any:
    """A client that is gone."""
    return {"type": "http.disconnect"}


async def no_send(message: Any) -> None:
    """A client that does not listen."""


def test_the_ratio_is_kept_and_agrees_with_opentelemetrys_sampler() -> None:
    """A tenth of the traces, the same that any service with this ratio keeps."""
    from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

    recorder = Recorder()
    sampler, rng, kept = TraceIdRatioBased(0.1), random.Random(7), 0

    async def run() -> int:
        kept = 0
        layer = TracingMiddleware(
            app, tracer_provider=recorder.provider, sampling_rate=0.1, rng=rng
        )
        for _ in range(2000):
            await layer(http_scope("/"), no_receive, no_send)
        return kept

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal kept
        exchange = exchange_of(scope)
        assert exchange is not None
        kept += exchange.sampled
        theirs = sampler.should_sample(None, int(exchange.trace_id, 16), "x")
        assert (theirs.decision is Decision.RECORD_AND_SAMPLE) == exchange.sampled

    asyncio.run(run())
    assert 150 < kept < 250
    assert len(recorder.spans) == kept


def test_without_an_sdk_ids_flow_all_the_same() -> None:
    """A host that configured no OpenTelemetry gets ids and pays for nothing else."""
    answer, exchange = traced(tracer_provider=NoOpTracerProvider())
    assert answer.header("x-trace-id") == exchange.trace_id
    assert not exchange.sampled


def test_alone_around_starlette() -> None:
    """As the only layer of somebody's app: one span for each request, errors included."""
    recorder = Recorder()

    def broken(request: Any) -> Any:
        raise RuntimeError("bug")

    app = Starlette(
        routes=[Route("/hi", lambda request: PlainTextResponse("hi")), Route("/broken", broken)]
    )
    app.add_middleware(TracingMiddleware, tracer_provider=recorder.provider)
    answer = asyncio.run(drive(app, http_scope("/hi", method="GET")))
    assert len(answer.header("x-trace-id") or "") == 32
    with pytest.raises(RuntimeError):
        asyncio.run(drive(app, http_scope("/broken", method="GET")))
    assert [span.status.status_code for span in recorder.spans] == [
        StatusCode.UNSET,
        StatusCode.ERROR,
    ]


def test_a_cancelled_request_has_its_span() -> None:
    """Cancellation passes through after the spans were made."""
    recorder = Recorder()

    async def run() -> None:
        async def hangs(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.Event().wait()

        layer = TracingMiddleware(hangs, tracer_provider=recorder.provider)
        task = asyncio.create_task(drive(layer, http_scope("/")))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert [span.name for span in recorder.spans] == ["gateway_request"]


def test_an_answer_that_was_cancelled_midway_is_an_error() -> None:
    """Whoever cancels it says no reason; that it is not whole is one."""
    recorder = Recorder()

    async def run() -> None:
        begun = asyncio.Event()

        async def hangs(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            begun.set()
            await asyncio.Event().wait()

        layer = TracingMiddleware(hangs, tracer_provider=recorder.provider)
        task = asyncio.create_task(drive(layer, http_scope("/")))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    span = recorder.named("gateway_request")
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "cancelled"


def test_other_scopes_pass_as_they_are() -> None:
    """Websockets and lifespans reach the app as the same objects."""
    seen: list[Any] = []

    async def app(*given: Any) -> None:
        seen.extend(given)

    given: list[Any] = [{"type": "lifespan"}, object(), object()]
    asyncio.run(TracingMiddleware(app)(*given))
    assert all(a is b for a, b in zip(seen, given, strict=True))


def test_a_ratio_out_of_range_is_named() -> None:
    """A setting that can't be is an error at once."""
    with pytest.raises(ValueError, match="sampling_rate"):
        TracingMiddleware(lambda *_: None, sampling_rate=1.5)  # type: ignore[arg-type]


def test_importing_the_layer_does_not_import_exporters() -> None:
    """The OTLP exporters are an extra and load only where one is built."""
    script = (
        "import sys, radgateway.telemetry.tracing, radgateway.telemetry.trace_export;"
        "sys.exit(any(m.startswith('opentelemetry.exporter') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=30).returncode == 0
