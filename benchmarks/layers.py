"""`python -m benchmarks.layers`: what each layer of the stack costs a request, in one process.

The gateway is built as `serve` builds it, over the mock provider. A request is sent through its
first layer with an app below that answers at once, then through the first two, and so on; what a
layer costs is what its line has more than the one before. No sockets, no server, no parsing:
those are the difference between these numbers and those of `python -m benchmarks`.

The same with an app below that streams: what a chunk costs is what a long stream costs more than a
short one, by the number of chunks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.wrk import BODY

_KEY = "layers-0123456789abcdef0123456789abcdef"
_VARIABLES = {"RADGATEWAY_CONFIG": "", "BENCHMARK_API_KEY": _KEY}
_CONFIG = """\
environment: staging
keys: [{{name: bench, secret: env:BENCHMARK_API_KEY, limits: ["1000000000/minute"]}}]
providers: {{bench: {{kind: mock}}}}
models:
  bench-model:
    candidates:
      - {{provider: bench, model: bench-model, price: {{input: 0.15, output: 0.6}}}}
storage: {{usage: "sqlite:///{folder}/usage.db"}}
telemetry:
  log_level: info
  tracing: {{enabled: true, exporter: stdout, sampling_rate: 0.1}}
"""
_BODY = BODY.encode()
_ANSWER = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"bench-model","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Four."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":12,"completion_tokens":18,"total_tokens":30}}'
)
_EVENT = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"bench-model",'
    b'"choices":[{"index":0,"delta":{"content":" four"},"logprobs":null,"finish_reason":null}]}\n\n'
)
_CHUNKS = 200
"""More chunks in a long stream than in a short one."""
_STREAMS_SHARE = 20
"""Of so many requests one is a stream, or streams would take most of the time."""
_HEADERS = [
    (b"host", b"127.0.0.1"),
    (b"content-type", b"application/json"),
    (b"authorization", b"Bearer " + _KEY.encode()),
    (b"content-length", b"%d" % len(_BODY)),
]
_STREAM_BODY = _BODY[:-1] + b', "stream": true, "stream_options": {"include_usage": true}}'
_STREAM_HEADERS = [*_HEADERS[:-1], (b"content-length", b"%d" % len(_STREAM_BODY))]


@dataclass
class Prefix:
    """The stack down to one layer; `last` is where the app below it is put, or None for all."""

    name: str
    last: Any
    us: list[float] = field(default_factory=list)
    """CPU microseconds a request, one for each round."""
    short_us: list[float] = field(default_factory=list)
    long_us: list[float] = field(default_factory=list)
    """The same for streams of one chunk and of `_CHUNKS` more; none where the app below is the
    stack's own."""

    @property
    def chunk_us(self) -> float | None:
        """CPU microseconds a chunk, from the fastest streams: noise only ever adds."""
        if not self.long_us:
            return None
        return (min(self.long_us) - min(self.short_us)) / _CHUNKS


async def null_app(_scope: Any, receive: Any, send: Any) -> None:
    """Read the body and answer: the least that an app below the stack can do."""
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _ANSWER, "more_body": False})


def streaming_app(chunks: int) -> Any:
    """The same for a stream of so many chunks and the end mark."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(chunks):
            await send({"type": "http.response.body", "body": _EVENT, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    return app


def prefixes_of(gateway: Any) -> list[Prefix]:
    """Every prefix of the stack, outermost first; a router is followed to its one provider."""
    found = []
    layer, pending = gateway, ""
    while layer is not None:
        name = pending + type(layer).__name__
        inner = getattr(layer, "app", None)
        providers = getattr(layer, "providers", None)
        if inner is None and providers:
            # A router can't stand without a provider: it is measured with that one's first layer.
            layer, pending = next(iter(providers.values())), f"{name} + "
            continue
        found.append(Prefix(name, layer if inner is not None else None))
        layer, pending = inner, ""
    return found


async def request(app: Any, *, stream: bool = False) -> None:
    """Send one request and see that it was answered with a 200."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "query_string": b"",
        "root_path": "",
        "headers": list(_STREAM_HEADERS if stream else _HEADERS),
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8090),
        "state": {},
    }
    body = _STREAM_BODY if stream else _BODY
    message: Any = {"type": "http.request", "body": body, "more_body": False}
    status = 0

    async def receive() -> Any:
        nonlocal message
        if message is None:
            await asyncio.get_running_loop().create_future()  # the client stays
        given, message = message, None
        return given

    async def send(sent: Any) -> None:
        nonlocal status
        status = sent.get("status", status)

    await app(scope, receive, send)
    if status != 200:
        raise SystemExit(f"benchmarks: the stack answered {status} instead of 200")


async def measure(gateway: Any, rounds: int, requests: int) -> list[Prefix]:
    """Time every prefix in each round."""
    prefixes = prefixes_of(gateway)
    base = Prefix("an app that answers at once", None)
    for number in range(rounds):
        print(f"round {number + 1}/{rounds}", file=sys.stderr, flush=True)
        base.us.append(await _time(null_app, requests))
        await _time_streams(base, lambda app: app, requests)
        for prefix in prefixes:
            with _cut_below(prefix.last, null_app):
                prefix.us.append(await _time(gateway, requests))
            if prefix.last is not None:
                over = partial(_over, gateway, prefix.last)
                await _time_streams(prefix, over, requests)
    await gateway.aclose()
    return [base, *prefixes]


@contextlib.contextmanager
def _cut_below(layer: Any, app: Any) -> Iterator[None]:
    if layer is None:
        yield
        return
    holder = getattr(layer, "served", layer)  # a Gateway's app is one of what it serves
    inner = holder.app
    holder.app = app
    try:
        yield
    finally:
        holder.app = inner


def _over(gateway: Any, layer: Any, app: Any) -> Any:
    """The stack down to a layer, with an app below it, as an app."""

    async def stack(*arguments: Any) -> None:
        with _cut_below(layer, app):
            await gateway(*arguments)

    return stack


async def _time(app: Any, requests: int, *, stream: bool = False) -> float:
    for _ in range(max(1, requests // 10)):
        await request(app, stream=stream)
    # CPU time and not the wall's: it leaves out what else runs on the machine, and takes in the
    # threads that write usage and logs.
    began = time.process_time()
    for _ in range(requests):
        await request(app, stream=stream)
    return (time.process_time() - began) / requests * 1e6


async def _time_streams(prefix: Prefix, over: Callable[[Any], Any], requests: int) -> None:
    streams = max(10, requests // _STREAMS_SHARE)
    for chunks, times in ((1, prefix.short_us), (1 + _CHUNKS, prefix.long_us)):
        times.append(await _time(over(streaming_app(chunks)), streams, stream=True))


def table(prefixes: list[Prefix]) -> str:
    """The prefixes, one a line, each at its fastest: noise only ever adds."""
    lines = [f"{'down to':45} {'us in all':>10} {'us more':>10} {'us a chunk':>11}", "-" * 79]
    before: float | None = None
    for prefix in prefixes:
        fastest = min(prefix.us)
        own = "" if before is None else f"{fastest - before:.1f}"
        chunk = "" if prefix.chunk_us is None else f"{prefix.chunk_us:.2f}"
        lines.append(f"{prefix.name:45} {fastest:10.1f} {own:>10} {chunk:>11}")
        before = fastest
    return "\n".join(lines)


def run(rounds: int, requests: int) -> list[Prefix]:
    """Build the gateway in a folder of its own, and measure; its logs and spans go nowhere."""
    with (
        tempfile.TemporaryDirectory(prefix="radgateway-layers-") as folder,
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        config = Path(folder) / "gateway.yaml"
        config.write_text(_CONFIG.format(folder=folder))
        os.environ.update({**_VARIABLES, "RADGATEWAY_CONFIG": str(config)})
        handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            from radgateway.server import build

            async def main() -> list[Prefix]:
                return await measure(build(), rounds, requests)

            return uvloop.run(main())
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.layers",
        description="What each layer costs a request, and all a chunk, in CPU microseconds.",
        epilog="Compare lines of one run; the machine's speed is in all of them.",
    )
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument(
        "--requests", type=int, default=2000, help="for each line and round; default: 2000"
    )
    parser.add_argument("--quick", action="store_true", help="2 rounds of 500 requests")
    options = parser.parse_args()
    rounds, requests = (2, 500) if options.quick else (options.rounds, options.requests)
    if not 1 <= rounds <= 100 or not 10 <= requests <= 1_000_000:
        parser.error("rounds must be 1 to 100, requests 10 to 1,000,000")
    print(table(run(rounds, requests)))


if __name__ == "__main__":
    main()
