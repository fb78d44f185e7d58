"""`python -m benchmarks.telemetry`: what metrics, logs and traces cost, and a scrape of them.

The three telemetry layers of the stack stand over an app that leaves a record as the router does,
with a key, a model, an attempt, tokens and a cost. A request goes through them with nothing told,
then with one thing more each time; log lines go to the null device, spans by OTLP over HTTP to a
process of their own. A stream of many chunks and one of a single chunk tell what a chunk costs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import systems
from benchmarks.layers import request
from radgateway.assembly.log_lines import RequestLines
from radgateway.composition import compose
from radgateway.config import GatewayConfig
from radgateway.exchange import Exchange, Principal, Usage, exchange_of
from radgateway.inbound.request_context import RequestContextMiddleware
from radgateway.telemetry.exposition import MetricsEndpoint
from radgateway.telemetry.instruments import Instruments, LabelSets
from radgateway.telemetry.log_writer import LogWriter
from radgateway.telemetry.logs import LineFormat, Logging
from radgateway.telemetry.metrics import MetricsMiddleware
from radgateway.telemetry.trace_export import build_tracer_provider, close_tracer_provider
from radgateway.telemetry.tracing import TracingMiddleware
from radgateway.usage.prices import Price

_CHUNKS = 200
_SERIES = 5_000
_ALICE = Principal("alice")
_PRICE = Price(Decimal("0.15"), Decimal("0.6"))
_LABELS = LabelSets(
    providers=frozenset({"bench"}),
    models=frozenset({"bench-model"}),
    candidates=frozenset({("bench", "bench-model")}),
)


@dataclass
class Row:
    """One state of the telemetry; `app(chunks)` is the stack over a response of so many chunks."""

    what: str
    app: Callable[[int], Any]
    us: list[float] = field(default_factory=list)
    long_us: list[float] = field(default_factory=list)
    """CPU microseconds a request, one for each round: of one chunk, and of `_CHUNKS` more."""

    @property
    def chunk_us(self) -> float:
        """CPU microseconds a chunk, from the fastest: noise only ever adds."""
        return (min(self.long_us) - min(self.us)) / _CHUNKS


def recorded(chunks: int) -> Any:
    """An app that leaves what the layers from authentication to the router leave in the record."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        exchange = exchange_of(scope)
        assert exchange is not None
        _begin(exchange)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(chunks):
            await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
        _end(exchange)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    return app


def _begin(exchange: Exchange) -> None:
    exchange.principal, exchange.model, exchange.stream = _ALICE, "bench-model", True
    attempt = exchange.begin_attempt("bench", "bench-model", _PRICE)
    attempt.status, attempt.connect_s = 200, 0.001
    attempt.first_byte = exchange.clock()
    if exchange.spans is not None:
        for name in ("authentication", "rate_limit_check", "usage_record"):
            exchange.spans.append((name, exchange.started, attempt.first_byte))


def _end(exchange: Exchange) -> None:
    attempt = exchange.attempts[0]
    attempt.ended = exchange.clock()
    attempt.usage, attempt.cost_usd = Usage(12, 18), Decimal("0.0000126")


def rows(endpoint: str, nowhere: Any) -> tuple[list[Row], Any]:
    """The states, each with one thing more than the one before, and the tracer provider."""
    config = GatewayConfig(environment="staging")
    writer = LogWriter(nowhere)
    lines = RequestLines(config, Logging(writer, LineFormat("1", "staging"), 20))
    provider = build_tracer_provider("otlp", endpoint, version="1", environment="staging")
    instruments = Instruments(labels=_LABELS)
    quiet = partial(RequestContextMiddleware)
    logged = partial(RequestContextMiddleware, on_end=lines)
    measured = partial(MetricsMiddleware, instruments=instruments)

    def traced(rate: float) -> Any:
        return partial(TracingMiddleware, tracer_provider=provider, sampling_rate=rate)

    def stack(*layers: Any) -> Callable[[int], Any]:
        return lambda chunks: compose(recorded(chunks), *layers)

    return [
        Row("nothing told (RequestContextMiddleware alone)", stack(quiet)),
        Row("+ metrics", stack(quiet, measured)),
        Row("+ log line", stack(logged, measured)),
        Row("+ tracing that records nothing", stack(logged, traced(0.0), measured)),
        Row("+ 10 % recorded and exported: the defaults", stack(logged, traced(0.1), measured)),
    ], provider


async def measure(made: Sequence[Row], rounds: int, requests: int) -> None:
    """Time every state in each round."""
    for number in range(rounds):
        print(f"round {number + 1}/{rounds}", file=sys.stderr, flush=True)
        for row in made:
            row.us.append(await _time(row.app(1), requests))
            row.long_us.append(await _time(row.app(1 + _CHUNKS), max(10, requests // 20)))


async def _time(app: Any, requests: int) -> float:
    for _ in range(max(1, requests // 10)):
        await request(app, stream=True)
    # CPU time and not the wall's: it leaves out what else runs on the machine, and takes in the
    # threads that write lines and export spans.
    began = time.process_time()
    for _ in range(requests):
        await request(app, stream=True)
    return (time.process_time() - began) / requests * 1e6


@dataclass
class Scrape:
    """What scrapes of one format cost: each list has one figure for each of them."""

    what: str
    cpu_ms: list[float] = field(default_factory=list)
    took_ms: list[float] = field(default_factory=list)
    stall_ms: list[float] = field(default_factory=list)
    """The longest that the event loop was late meanwhile."""


async def scrapes(times: int) -> tuple[int, list[Scrape]]:
    """Scrape the same metrics in both formats; how many series there are, and the figures."""
    names = frozenset(f"p{number}" for number in range(125))
    instruments = Instruments(labels=LabelSets(providers=names))
    for name in names:
        instruments.provider_latency(name).observe(1.0, {"trace_id": "ab" * 16})
    endpoint = MetricsEndpoint(instruments)
    found = [Scrape("text"), Scrape("OpenMetrics, with exemplars")]
    series = 0
    for accept, scrape in zip(("text/plain", "application/openmetrics-text"), found, strict=True):
        for _ in range(times):
            text = await _scrape(endpoint, accept, scrape)
        series = sum(1 for line in text.splitlines() if not line.startswith(b"#"))
    if series < _SERIES:
        raise SystemExit(f"benchmarks: {series} series instead of {_SERIES}")
    return series, found


async def _scrape(endpoint: Any, accept: str, scrape: Scrape) -> bytes:
    parts: list[bytes] = []
    scope = {"type": "http", "method": "GET", "headers": [(b"accept", accept.encode())]}

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        parts.append(message.get("body", b""))

    cpu, began = time.process_time(), time.perf_counter()
    task = asyncio.create_task(endpoint(scope, receive, send))
    longest_s = 0.0
    while not task.done():
        turn = time.perf_counter()
        await asyncio.sleep(0.001)
        longest_s = max(longest_s, time.perf_counter() - turn - 0.001)
    await task
    scrape.cpu_ms.append((time.process_time() - cpu) * 1e3)
    scrape.took_ms.append((time.perf_counter() - began) * 1e3)
    scrape.stall_ms.append(longest_s * 1e3)
    return b"".join(parts)


def table(made: Sequence[Row], series: int, scraped: Sequence[Scrape]) -> str:
    """All figures, each at its least: what else the machine does only ever adds."""
    lines = [f"{'telemetry':46} {'us a request':>12} {'us more':>8} {'us a chunk':>11}", "-" * 80]
    first = min(made[0].us)
    for row in made:
        fastest = min(row.us)
        lines.append(f"{row.what:46} {fastest:12.1f} {fastest - first:8.1f} {row.chunk_us:11.2f}")
    lines += [
        "",
        f"{f'a scrape of {series:,} series':46} {'CPU ms':>12} {'ms':>8} {'stall ms':>11}",
        "-" * 80,
    ]
    lines += [
        f"{scrape.what:46} {min(scrape.cpu_ms):12.1f} {min(scrape.took_ms):8.1f} "
        f"{min(scrape.stall_ms):11.2f}"
        for scrape in scraped
    ]
    return "\n".join(lines)


def run(rounds: int, requests: int) -> str:
    """Start the receiver of spans, measure, and end it; the table."""
    cores = sorted(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory(prefix="radgateway-telemetry-") as folder,
        open(os.devnull, "wb") as nowhere,
        systems.upstream(Path(folder) / "receiver", cores[-1]) as receiver,
    ):
        made, provider = rows(f"http://127.0.0.1:{receiver.port}", nowhere)

        async def main() -> str:
            await measure(made, rounds, requests)
            await close_tracer_provider(provider)
            return table(made, *await scrapes(8 * rounds))

        return uvloop.run(main())


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.telemetry",
        description="CPU microseconds of telemetry a request and a chunk, and what a scrape costs.",
        epilog="Compare lines of one run; the machine's speed is in all of them.",
    )
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument(
        "--requests", type=int, default=4000, help="for each line and round; default: 4000"
    )
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1000 requests")
    options = parser.parse_args()
    rounds, requests = (2, 1000) if options.quick else (options.rounds, options.requests)
    if not 1 <= rounds <= 100 or not 10 <= requests <= 1_000_000:
        parser.error("rounds must be 1 to 100, requests 10 to 1,000,000")
    print(run(rounds, requests))


if __name__ == "__main__":
    main()
