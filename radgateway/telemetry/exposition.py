"""MetricsEndpoint: the text that Prometheus scrapes, rendered without holding up requests.

Rendering thousands of series takes hundreds of milliseconds of pure Python, so it happens in a
thread that lets go of the interpreter lock every hundred lines, and is made to where it can't.
OpenMetrics is spoken to who asks for it. Where workers share a directory, any of them answers for
all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import cast

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from radgateway.asgi import Headers, Receive, Scope, Send, decline, header, respond
from radgateway.errors import Refusal, answer
from radgateway.short_turns import SHORT_TURNS, paced
from radgateway.telemetry.instruments import Instruments
from radgateway.telemetry.multiprocess import drop_dead_gauges, live_workers, shared_directory

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = b"application/openmetrics-text; version=1.0.0; charset=utf-8"


class MetricsEndpoint:
    """Answers GET and HEAD with all metrics of `instruments`; other methods with a 405."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._rendering: dict[bool, asyncio.Task[bytes]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scrape."""
        if scope["type"] != "http":
            await decline(scope, receive, send)
            return
        if scope["method"] not in ("GET", "HEAD"):
            refusal = Refusal(
                "method_not_allowed",
                "Metrics are read with GET.",
                headers=[(b"allow", b"GET, HEAD")],
            )
            await answer(scope, send, refusal)
            return
        accept = header(scope["headers"], b"accept") or b""
        open_metrics = b"application/openmetrics-text" in accept.lower()
        text = await self._rendered(open_metrics)
        headers: Headers = [(b"content-type", OPENMETRICS if open_metrics else TEXT)]
        if scope["method"] == "HEAD":
            headers.append((b"content-length", b"%d" % len(text)))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await respond(send, 200, headers, text)

    async def _rendered(self, open_metrics: bool) -> bytes:
        # Scrapes that come together share one rendering, so no number of them fills the threads.
        task = self._rendering.get(open_metrics)
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            task = asyncio.create_task(asyncio.to_thread(self._text, open_metrics))
            self._rendering[open_metrics] = task
        return await asyncio.shield(task)

    def _text(self, open_metrics: bool) -> bytes:
        self._instruments.read_memory_limit()
        return render(self._instruments.registry, open_metrics)


def render(registry: CollectorRegistry, open_metrics: bool = False) -> bytes:
    """The registry as text, or that of all workers where they share a directory. Blocks."""
    # Short turns for the parts that can't pause: the client library gathers a metric's samples in
    # one go, and those of all workers too.
    with SHORT_TURNS:
        return _text(registry, open_metrics)


def _text(registry: CollectorRegistry, open_metrics: bool) -> bytes:
    directory = shared_directory()
    if directory is not None:
        drop_dead_gauges(directory)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
        registry.register(WorkerProcesses(live_workers(directory)))
    source = cast(CollectorRegistry, _Unhurried(registry))
    if open_metrics:
        return openmetrics.generate_latest(source)  # type: ignore[no-untyped-call, no-any-return]
    return generate_latest(source)


class WorkerProcesses(Collector):
    """The `process_` metrics of several processes as one's: sums, and the earliest start.

    A worker that has ended takes its processor time out of the sum, which a rate takes for a
    counter that was reset.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._collectors = [ProcessCollector(pid=_always(pid), registry=None) for pid in pids]

    def collect(self) -> Iterable[Metric]:
        """One metric of each name, over all the processes."""
        merged: dict[str, Metric] = {}
        for collector in self._collectors:
            for metric in collector.collect():
                known = merged.setdefault(metric.name, metric)
                if known is metric:
                    continue
                (mine,), (more,) = known.samples, metric.samples
                both = min if metric.name == "process_start_time_seconds" else _sum
                known.samples = [mine._replace(value=both(mine.value, more.value))]
        return merged.values()


def _always(pid: int) -> Callable[[], int]:
    return lambda: pid


def _sum(one: float, other: float) -> float:
    return one + other


class _Unhurried:
    """A registry's metrics without `_created` samples, read at a pace that lets others run."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            metric.samples = _Paced(s for s in metric.samples if not s.name.endswith("_created"))
            yield metric


class _Paced(list[Sample]):
    """Samples that pause for a moment now and then while they are read."""

    def __iter__(self) -> Iterator[Sample]:
        return paced(super().__iter__())
