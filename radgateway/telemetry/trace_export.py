"""Where spans go: an OpenTelemetry provider with a batching exporter, and its orderly end.

The exporters for OTLP are an extra, imported only where one is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.util.types import AttributeValue

Exporter = Literal["otlp", "stdout"]

GRPC_PORT = 4317
"""The port OTLP over gRPC is registered for; 4318 is HTTP's (the OTLP specification)."""


def build_tracer_provider(
    exporter: Exporter,
    endpoint: str = "http://localhost:4318",
    *,
    version: str = "",
    environment: str = "",
    service: str = "rad-gateway",
    on_export: Callable[[bool], object] | None = None,
) -> TracerProvider:
    """A provider that exports in batches from a thread of its own, through a bounded queue.

    `endpoint` is an OTLP receiver: `host:4317`, `grpc://host:port` and any URL with port 4317
    speak gRPC, any other URL HTTP with protobuf, at `/v1/traces` where it names no path.
    `on_export` is told, in the exporting thread, whether each batch was taken. Raises ValueError
    for an exporter or endpoint it does not know, and RuntimeError naming the extra where the
    exporter is not installed.
    """
    if exporter == "otlp":
        exporting = _otlp_exporter(endpoint)
    elif exporter == "stdout":
        exporting = ConsoleSpanExporter(out=sys.stdout, formatter=_one_line)
    else:
        raise ValueError(f"exporter must be 'otlp' or 'stdout', not {exporter!r}")
    resource = Resource.create(
        {
            "service.name": service,
            "service.version": version,
            "deployment.environment.name": environment,
        }
    )
    provider = TracerProvider(resource=_HashedResource(resource.attributes, resource.schema_url))
    if on_export is not None:
        exporting = _Watched(exporting, on_export)
    provider.add_span_processor(BatchSpanProcessor(exporting))
    return provider


def _one_line(span: ReadableSpan) -> str:
    # The log lines beside it are one JSON object a line, and stay readable as such.
    text: str = span.to_json(indent=None)
    return text + "\n"


class _Watched(SpanExporter):
    """An exporter that says how each of its exports went."""

    def __init__(self, exporter: SpanExporter, on_export: Callable[[bool], object]) -> None:
        self._exporter = exporter
        self._on_export = on_export

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        taken = False
        try:
            result = self._exporter.export(spans)
            taken = result is SpanExportResult.SUCCESS
        finally:
            self._on_export(taken)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class _HashedResource(Resource):
    """A resource that works its hash out once: exporters group spans by it, and the library's
    writes all attributes out as JSON each time, a sixth of what exporting a span costs."""

    def __init__(self, attributes: Mapping[str, AttributeValue], schema_url: str) -> None:
        super().__init__(attributes, schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)


async def close_tracer_provider(provider: TracerProvider, timeout_s: float = 5.0) -> bool:
    """Export what is queued and shut down, off the event loop; False where the time ran out."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def shut_down() -> None:
        provider.shutdown()
        with contextlib.suppress(RuntimeError):  # the loop did not wait for us and is closed
            loop.call_soon_threadsafe(done.set)

    # A daemon thread, since an executor's is joined at exit and would wait for a dead collector.
    threading.Thread(target=shut_down, name="radgateway-tracing-close", daemon=True).start()
    try:
        async with asyncio.timeout(timeout_s):
            await done.wait()
    except TimeoutError:
        return False
    return True


def _otlp_exporter(endpoint: str) -> SpanExporter:
    url = urlsplit(endpoint if "://" in endpoint else f"grpc://{endpoint}")
    if url.scheme not in ("http", "https", "grpc", "grpcs") or not url.hostname:
        raise ValueError(
            f"otlp_endpoint must be host:port or an http(s):// or grpc(s):// URL, not {endpoint!r}"
        )
    try:
        if url.scheme.startswith("grpc") or url.port == GRPC_PORT:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
                OTLPSpanExporter as GRPCExporter,
            )

            secure = url.scheme in ("https", "grpcs")
            return GRPCExporter(
                endpoint=url.netloc if url.port else f"{url.netloc}:{GRPC_PORT}",
                insecure=not secure,
                timeout=5,
            )
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter as HTTPExporter,
        )
    except ImportError as error:
        raise RuntimeError(
            "Exporting spans over OTLP needs an extra: pip install 'radgateway[otlp]'"
        ) from error
    path = url.path if url.path not in ("", "/") else "/v1/traces"
    return HTTPExporter(endpoint=f"{url.scheme}://{url.netloc}{path}", timeout=5)
