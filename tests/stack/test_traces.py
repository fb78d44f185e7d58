"""A request's trace, from the caller's header to a receiver, joined with all that is said of it."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from drive import LIMIT_S, Answer, drive, http_scope
from otlp_receiver import Received, grpc_receiver, http_receiver, values
from prometheus_client.openmetrics import parser as openmetrics_parser
from serving import STREAM_HEAD, Call, chunked, provider, response

from radgateway import create_gateway
from radgateway.assembly.foundation import Foundation
from radgateway.config import load_config
from radgateway.telemetry.genai_names import CURRENT, LATEST, OPT_IN_VARIABLE
from radgateway.telemetry.instruments import Instruments
from radgateway.telemetry.log_writer import LogWriter
from radgateway.telemetry.logs import LineFormat
from radgateway.telemetry.request_log import RequestLog

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ROUTE = "/v1/chat/completions"
PAUSE_S = 0.15
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"w"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":18}}\n\n'


async def fails(call: Call) -> None:
    """A provider that has too much to do."""
    await call.say(response(b"{}", "503 Service Unavailable"))


async def streams(call: Call) -> None:
    """One that sends an event, thinks, and sends the rest."""
    await call.say(STREAM_HEAD + chunked(EVENT))
    await asyncio.sleep(PAUSE_S)
    await call.say(chunked(EVENT, USAGE, b"data: [DONE]\n\n") + b"0\r\n\r\n")


def config(first: str, second: str, endpoint: str, rate: float = 1.0) -> dict[str, Any]:
    """Two providers, of which the first is asked first."""
    return {
        "keys": [{"name": "alice", "secret": "key-of-alice"}],
        "admin_keys": [{"name": "ops", "secret": "key-of-ops"}],
        "providers": {
            "first": {"kind": "openai", "base_url": first},
            "second": {"kind": "openai", "base_url": second},
        },
        "models": {
            "m": {
                "candidates": [
                    {"provider": "first", "model": "m1"},
                    {"provider": "second", "model": "m2"},
                ]
            }
        },
        "storage": {"usage": "memory://"},
        "telemetry": {
            "metrics": True,
            "tracing": {"enabled": True, "otlp_endpoint": endpoint, "sampling_rate": rate},
        },
    }


async def ask(gateway: Any) -> Answer:
    """A streaming request of a caller that traces."""
    headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer key-of-alice"),
        ("traceparent", f"00-{TRACE}-{SPAN}-00"),
        ("tracestate", "vendor=kept"),
    ]
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    return await drive(gateway, http_scope(ROUTE, headers=headers), json.dumps(body).encode())


@pytest.mark.servers
@pytest.mark.parametrize("receiver", [http_receiver, grpc_receiver], ids=["http", "grpc"])
def test_one_trace_id_joins_everything(
    receiver: Callable[[], AbstractContextManager[Received]],
) -> None:
    """Header, spans, both providers, log line, usage row and exemplar tell of the same request."""
    log = io.BytesIO()

    async def run(endpoint: str) -> tuple[Answer, list[bytes], Any, str, str]:
        writer = LogWriter(log)
        request_log = RequestLog(writer, LineFormat("1", "test"))
        async with provider(fails) as first, provider(streams) as second:
            made = config(first.url, second.url, endpoint)
            gateway = create_gateway(made, on_end=request_log.emit)
            answer = await ask(gateway)
            accept = [("accept", "application/openmetrics-text;version=1.0.0")]
            scrape = await drive(gateway, http_scope("/metrics", method="GET", headers=accept))
            admin = [("authorization", "Bearer key-of-ops")]
            usage = http_scope("/v0/management/usage", method="GET", headers=admin)
            async with asyncio.timeout(LIMIT_S):
                while not (rows := json.loads((await drive(gateway, usage)).body)["data"]):
                    await asyncio.sleep(0.01)  # the writer ships batches
            await gateway.aclose()
            await writer.aclose()
            heads = [first.calls[0].head, second.calls[0].head]
            return answer, heads, rows[0], scrape.body.decode(), second.url

    with receiver() as received:
        endpoint = received.url.removeprefix("grpc://")
        answer, heads, row, scraped, url = asyncio.run(run(endpoint))
        root = received.wait_for("gateway_request")

    assert answer.status == 200
    assert answer.header("x-trace-id") == TRACE
    assert {span.trace_id.hex() for span in received.spans} == {TRACE}
    assert root.parent_span_id.hex() == SPAN
    assert {span.trace_state for span in received.spans} == {"vendor=kept"}

    # Each provider was told of the span of its own attempt, and of what others keep of the trace.
    executes = received.named("provider_execute")
    for execute, head in zip(executes, heads, strict=True):
        assert f"traceparent: 00-{TRACE}-{execute.span_id.hex()}-01".encode() in head.lower()
        assert b"tracestate: vendor=kept" in head.lower()

    # The attempt's span lasts until its last byte, not until its headers.
    failed, served = executes
    assert [event.name for event in failed.events] == ["connect"]
    assert [event.name for event in served.events] == ["connect", "first_byte", "stream_end"]
    lasted_s = (served.end_time_unix_nano - served.start_time_unix_nano) / 1e9
    assert lasted_s >= PAUSE_S
    gap_s = values(served.events[2].attributes)["stream.longest_gap_s"]
    assert PAUSE_S * 0.9 <= gap_s <= lasted_s
    attributes = values(served.attributes)
    assert attributes["server.address"] == "127.0.0.1"
    assert attributes["server.port"] == int(url.rpartition(":")[2])
    assert attributes["gen_ai.usage.output_tokens"] == attributes["usage.output_tokens"] == 18
    assert values(root.attributes)["retry.attempt_count"] == 2

    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    (line,) = [line for line in lines if line["fields"]["route"] == ROUTE]
    assert line["trace_id"] == row["traceId"] == TRACE
    assert line["request_id"] == row["requestId"] == answer.header("x-request-id")
    assert values(root.attributes)["radgateway.request_id"] == line["request_id"]

    parse: Any = openmetrics_parser.text_string_to_metric_families
    exemplars = {
        (family.name, sample.exemplar.labels["trace_id"])
        for family in parse(scraped)
        for sample in family.samples
        if sample.exemplar is not None
    }
    names = ("request_duration_seconds", "time_to_first_token_seconds", "provider_latency_seconds")
    assert exemplars == {(f"rad_gateway_{name}", TRACE) for name in names}


@pytest.mark.parametrize(
    ("value", "latest", "warned"),
    [
        ("", False, []),
        ("http,gen_ai_latest_experimental", True, []),
        ("gen_ai_latest_experimentl", False, ["gen_ai_latest_experimentl"]),
    ],
)
def test_the_environment_chooses_the_names(
    value: str,
    latest: bool,
    warned: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By OpenTelemetry's own variable; a slip in it is told once, at the start."""
    monkeypatch.setenv(OPT_IN_VARIABLE, value)
    made = config("http://127.0.0.1:1", "http://127.0.0.1:1", "http://127.0.0.1:1", rate=0.0)
    foundation = Foundation(load_config(made, {}), Instruments(), pytest.fail)
    assert foundation.genai_names is (LATEST if latest else CURRENT)
    assert [
        vars(record)["word"]
        for record in caplog.records
        if record.getMessage() == "radgateway.tracing.opt_in_unknown"
    ] == warned
    assert foundation.tracer_provider is not None
    foundation.tracer_provider.shutdown()


@pytest.mark.servers
def test_what_is_not_recorded_is_passed_on_all_the_same() -> None:
    """With a ratio of 0 the ids reach the provider, the flag says no, and there is no exemplar."""

    async def run(endpoint: str) -> tuple[bytes, bytes]:
        async with provider(streams) as one:
            gateway = create_gateway(config(one.url, one.url, endpoint, rate=0.0))
            await ask(gateway)
            accept = [("accept", "application/openmetrics-text;version=1.0.0")]
            scrape = await drive(gateway, http_scope("/metrics", method="GET", headers=accept))
            await gateway.aclose()
            return one.calls[0].head, scrape.body

    with http_receiver() as received:
        head, scraped = asyncio.run(run(received.url))
        assert received.requests == []
    assert f"traceparent: 00-{TRACE}-".encode() in head.lower()
    assert b"-00\r\n" in head.lower()
    assert b"trace_id" not in scraped
