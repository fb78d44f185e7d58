"""Spans reach a receiver over the network, and a dead one holds nothing up."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from drive import drive, http_scope
from opentelemetry.sdk.resources import Resource
from otlp_receiver import Received, grpc_receiver, http_receiver

from radgateway.telemetry.trace_export import build_tracer_provider, close_tracer_provider
from radgateway.telemetry.tracing import TracingMiddleware


async def answer_ok(scope: Any, receive: Any, send: Any) -> None:
    """A bare app."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.servers
@pytest.mark.parametrize("receiver", [http_receiver, grpc_receiver], ids=["http", "grpc"])
def test_spans_reach_an_otlp_receiver(
    receiver: Callable[[], AbstractContextManager[Received]],
) -> None:
    """Over either binding, with the service's name, all of them flushed at the end."""
    with receiver() as received:
        provider = build_tracer_provider("otlp", received.url, version="1.2", environment="test")

        async def run() -> bool:
            layer = TracingMiddleware(answer_ok, tracer_provider=provider)
            for _ in range(3):
                await drive(layer, http_scope("/"))
            return await close_tracer_provider(provider)

        assert asyncio.run(run())
    assert set(received.paths) <= {"/v1/traces"}
    assert received.resource["service.name"] == "rad-gateway"
    assert received.resource["service.version"] == "1.2"
    assert received.resource["deployment.environment.name"] == "test"
    assert [span.name for span in received.spans] == ["gateway_request"] * 3
    assert received.requests[0].resource_spans[0].scope_spans[0].scope.name == "radgateway"


@pytest.mark.servers
def test_closing_ends_in_time_though_nobody_receives() -> None:
    """A receiver that takes connections and never answers costs the close its limit at most."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        provider = build_tracer_provider("otlp", f"http://127.0.0.1:{silent.getsockname()[1]}")

        async def run() -> float:
            layer = TracingMiddleware(answer_ok, tracer_provider=provider)
            await drive(layer, http_scope("/"))
            began = time.monotonic()
            await close_tracer_provider(provider, timeout_s=0.2)
            return time.monotonic() - began

        assert asyncio.run(run()) < 2.0
    # The exporter's own thread gives up once the socket above is gone.
    for thread in threading.enumerate():
        if thread.name == "radgateway-tracing-close":
            thread.join(10)


def test_stdout_prints_spans(capsys: pytest.CaptureFixture[str]) -> None:
    """For a look without any collector: one JSON object a line, as the log lines beside it."""
    provider = build_tracer_provider("stdout")

    async def run() -> None:
        layer = TracingMiddleware(answer_ok, tracer_provider=provider)
        for _ in range(2):
            await drive(layer, http_scope("/"))
        assert await close_tracer_provider(provider)

    asyncio.run(run())
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["gateway_request"] * 2


@pytest.mark.parametrize("endpoint", ["localhost:4317", "http://localhost:4317", "grpc://c:9"])
def test_grpc_is_chosen_by_port_or_scheme(endpoint: str) -> None:
    """The strategy's `jaeger-collector:4317` speaks gRPC."""
    provider = build_tracer_provider("otlp", endpoint)
    processor = provider._active_span_processor._span_processors[0]
    assert ".grpc." in type(processor.span_exporter).__module__  # type: ignore[attr-defined]
    provider.shutdown()


def test_what_it_does_not_know_is_named() -> None:
    """A wrong exporter or endpoint is an error at start-up that says what is right."""
    with pytest.raises(ValueError, match="'otlp' or 'stdout'"):
        build_tracer_provider("zipkin")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="otlp_endpoint"):
        build_tracer_provider("otlp", "ftp://x")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the exporter installed the error says what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(RuntimeError, match=r"radgateway\[otlp\]"):
        build_tracer_provider("otlp", "http://localhost:4318")


def test_the_resource_is_hashed_once_and_equals_its_like() -> None:
    """Exporters group spans by resource: equal ones are one group, whichever object they are."""
    one, other = (build_tracer_provider("stdout", version="1").resource for _ in range(2))
    assert one == other
    assert hash(one) == hash(other) == hash(Resource(one.attributes, one.schema_url))
    assert one != build_tracer_provider("stdout", version="2").resource
