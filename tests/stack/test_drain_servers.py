"""The end of a process under each server: real processes, real signals, streams in flight."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import Process, started

pytestmark = [pytest.mark.servers, pytest.mark.slow]

CHAT = "/v1/chat/completions"
HEADERS = {"x-api-key": "key-1"}
ADMIN = {"x-api-key": "key-admin"}
STREAMS = 8
ENDLESS = 42
"""With the brief ones fifty, which a drain has to bear."""

CONFIG = """
environment: local
keys: [{name: k, secret: key-1}]
admin_keys: [{name: ops, secret: key-admin}]
providers:
  endless: {kind: mock, tokens_per_s: 1}  # as good as: it outlasts the start of fifty clients
  brief: {kind: mock, tokens_per_s: 10}
  silent: {kind: mock, latency_ms: 60000}
  fast: {kind: mock}
models:
  endless: {candidates: [{provider: endless}]}
  brief: {candidates: [{provider: brief}]}
  silent: {candidates: [{provider: silent}]}
  fast: {candidates: [{provider: fast}]}
storage: {usage: "sqlite:///usage.db"}
server: {drain_timeout_s: 1.5, stream_drain_timeout_s: 3}
"""

HYPERCORN_API = """
import asyncio
from hypercorn.asyncio import serve
from hypercorn.config import Config
from radgateway.server import build

config = Config()
config.bind = ["127.0.0.1:{port}"]
asyncio.run(serve(build(), config))
"""


Server = Callable[[int], list[str]]
"""How a server is started on a port."""


def module(name: str, *arguments: str) -> Server:
    return lambda port: ["-m", name, *(text.format(port=port) for text in arguments)]


GRANIAN = ("--interface", "asgi", "--port", "{port}", "--factory", "radgateway.server:build")
SERVERS: dict[str, Server] = {
    "serve": module("radgateway", "serve", "--config", "gateway.yaml", "--port", "{port}"),
    "serve-2": module(
        *("radgateway", "serve", "--config", "gateway.yaml", "--port", "{port}"),
        *("--workers", "2"),
    ),
    "uvicorn": module("uvicorn", "--factory", "radgateway.server:build", "--port", "{port}"),
    "uvicorn-2": module(
        *("uvicorn", "--factory", "radgateway.server:build", "--port", "{port}"),
        *("--workers", "2"),
    ),
    "uvicorn-asyncio": module(
        *("uvicorn", "--factory", "radgateway.server:build", "--port", "{port}"),
        *("--loop", "asyncio"),
    ),
    "granian": module("granian", *GRANIAN),
    "granian-2": module("granian", *GRANIAN, "--workers", "2"),
    "granian-asyncio": module("granian", *GRANIAN, "--loop", "asyncio"),
    "hypercorn": module(
        "hypercorn", "radgateway.server:build()", "--workers", "0", "--bind", "127.0.0.1:{port}"
    ),
    "hypercorn-uvloop": module(
        *("hypercorn", "radgateway.server:build()", "--workers", "0"),
        *("--worker-class", "uvloop", "--bind", "127.0.0.1:{port}"),
    ),
    "hypercorn-api": lambda port: ["-c", HYPERCORN_API.format(port=port)],
}


@dataclass
class Stream:
    """One client of a stream, in a thread of its own."""

    url: str
    model: str
    lines: list[str] = field(default_factory=list)
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        body = chat(self.model, stream=True)
        try:
            with httpx.stream("POST", self.url, json=body, headers=HEADERS, timeout=30) as answer:
                for line in answer.iter_lines():
                    self.lines += [line] if line else []
        except httpx.HTTPError as error:
            self.error = error

    def wait_for_first(self) -> None:
        deadline = time.monotonic() + 15
        while not self.lines and self.error is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.lines, self.error


def chat(model: str, *, stream: bool = False) -> dict[str, Any]:
    words = "word " * (400 if model == "endless" else 12)
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": words}]}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@contextmanager
def running(server: Server, directory: Path, config: str = CONFIG) -> Iterator[tuple[Process, str]]:
    """A server that answers."""
    (directory / "gateway.yaml").write_text(config)
    port = free_port()
    environ = {"RADGATEWAY_CONFIG": "gateway.yaml"}
    with started(server(port), directory, environ) as process:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 20
        while True:
            try:
                if httpx.get(url + "/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            assert process.process.poll() is None, process.output
            assert time.monotonic() < until, process.output
            time.sleep(0.05)
        yield process, url


def rows(directory: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What the ledger holds of each model."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    with closing(sqlite3.connect(directory / "usage.db")) as database:
        for model, *rest in database.execute(
            "SELECT model, outcome, status, interrupted, error_code FROM radgateway_requests"
        ):
            found.setdefault(model, []).append(tuple(rest))
    return found


@pytest.mark.parametrize("name", SERVERS)
def test_a_signal_drains(name: str, tmp_path: Path) -> None:
    """With fifty streams in flight: readiness first, refusals with their reason, limits kept, last
    words said, rows written, and all of it within seconds."""
    server = SERVERS[name]
    with running(server, tmp_path) as (process, url):
        endless = [Stream(url + CHAT, "endless") for _ in range(ENDLESS)]
        brief = [Stream(url + CHAT, "brief") for _ in range(STREAMS)]
        plain: list[Any] = []

        def ask() -> None:
            try:
                plain.append(
                    httpx.post(url + CHAT, json=chat("silent"), headers=HEADERS, timeout=30)
                )
            except httpx.HTTPError as error:
                plain.append(error)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        for stream in (*endless, *brief):
            stream.wait_for_first()
        began = time.monotonic()
        process.process.send_signal(signal.SIGTERM)
        with httpx.Client(base_url=url, headers=HEADERS) as other:
            while (ready := other.get("/health/ready")).status_code != 503:
                assert time.monotonic() - began < 2
                time.sleep(0.01)
            assert ready.json()["status"] == "draining"
            assert ready.headers["connection"] == "close"
            refused = other.post(CHAT, json=chat("fast"))
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "draining"
        assert refused.headers["retry-after"] == "5"
        assert refused.headers["connection"] == "close"
        assert process.process.wait(15) == 0, process.output
        took_s = time.monotonic() - began
        asking.join(10)
        for stream in (*endless, *brief):
            stream.thread.join(10)
            assert stream.error is None, stream.error
    assert 2.5 < took_s < 8
    assert {stream.lines[-1] for stream in brief} == {"data: [DONE]"}
    for stream in endless:
        assert json.loads(stream.lines[-1].removeprefix("data: "))["error"]["code"] == "draining"
    assert plain[0].status_code == 503
    assert plain[0].json()["error"]["code"] == "draining"
    kept = rows(tmp_path)
    assert kept["endless"] == [("interrupted", 200, "draining", None)] * ENDLESS
    assert kept["brief"] == [("success", 200, None, None)] * STREAMS
    assert kept["silent"] == [("refused", 503, None, "draining")]
    assert "Traceback" not in process.output, process.output


def test_one_signal_told_twice_is_one(tmp_path: Path) -> None:
    """A terminal and systemd tell the whole group, and the parent of workers tells them again."""
    with running(SERVERS["serve-2"], tmp_path) as (process, url):
        streams = [Stream(url + CHAT, "brief") for _ in range(STREAMS)]
        for stream in streams:
            stream.wait_for_first()
        os.killpg(process.process.pid, signal.SIGTERM)
        assert process.process.wait(15) == 0
        for stream in streams:
            stream.thread.join(10)
    assert {stream.lines[-1] for stream in streams} == {"data: [DONE]"}


@pytest.mark.parametrize("name", ["serve", "granian", "hypercorn"])
def test_a_second_signal_ends_the_wait(name: str, tmp_path: Path) -> None:
    """Whoever insists is heard, two seconds later; the streams still hear why."""
    config = CONFIG.replace("stream_drain_timeout_s: 3", "stream_drain_timeout_s: 60")
    with running(SERVERS[name], tmp_path, config=config) as (process, url):
        stream = Stream(url + CHAT, "endless")
        stream.wait_for_first()
        began = time.monotonic()
        os.killpg(process.process.pid, signal.SIGTERM)
        time.sleep(2.5)
        assert stream.thread.is_alive()
        os.killpg(process.process.pid, signal.SIGTERM)
        assert process.process.wait(15) == 0
        assert time.monotonic() - began < 8
        stream.thread.join(10)
    assert b'"draining"' in stream.lines[-1].encode()


@pytest.mark.parametrize("name", ["serve", "serve-2", "granian-2", "hypercorn"])
def test_an_admin_call_drains_as_a_signal_does(name: str, tmp_path: Path) -> None:
    """All workers of the process, whichever of them was asked; only an administrator may."""
    with running(SERVERS[name], tmp_path) as (process, url):
        streams = [Stream(url + CHAT, "endless") for _ in range(STREAMS)]
        for stream in streams:
            stream.wait_for_first()
        path = url + "/v0/management/drain"
        assert httpx.post(path, headers=HEADERS).status_code == 403
        answer = httpx.post(path, headers=ADMIN)
        assert answer.status_code == 202
        assert answer.json()["status"] == "draining"
        assert process.process.wait(15) == 0
        for stream in streams:
            stream.thread.join(10)
            assert '"draining"' in stream.lines[-1]
    assert rows(tmp_path)["endless"] == [("interrupted", 200, "draining", None)] * STREAMS
    (line,) = (line for line in process.lines if "radgateway.admin.drain" in line)
    assert json.loads(line)["fields"]["by"] == "ops"


def test_with_a_delay_work_is_served_while_readiness_says_no(tmp_path: Path) -> None:
    """A balancer that polls sees it before anybody is refused."""
    config = CONFIG.replace("server: {", "server: {drain_delay_s: 2, ")
    with running(SERVERS["serve"], tmp_path, config=config) as (process, url):
        stream = Stream(url + CHAT, "endless")
        stream.wait_for_first()
        process.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + 1.5
        while httpx.get(url + "/health/ready").status_code != 503:
            assert time.monotonic() < until
        served = httpx.post(url + CHAT, json=chat("fast"), headers=HEADERS)
        assert served.status_code == 200
        assert served.headers["connection"] == "close"
        time.sleep(2.5)
        assert httpx.post(url + CHAT, json=chat("fast"), headers=HEADERS).status_code == 503
        assert process.process.wait(15) == 0
        stream.thread.join(10)
        assert '"draining"' in stream.lines[-1]


def test_hypercorns_workers_hear_of_no_signal(tmp_path: Path) -> None:
    """What the documentation says of them: the door closes, streams are cut, rows are kept."""
    server = module(
        *("hypercorn", "radgateway.server:build()", "--workers", "1"),
        *("--graceful-timeout", "1", "--bind", "127.0.0.1:{port}"),
    )
    with running(server, tmp_path) as (process, url):
        stream = Stream(url + CHAT, "endless")
        stream.wait_for_first()
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(15) == 0
        stream.thread.join(10)
    assert isinstance(stream.error, httpx.RemoteProtocolError)
    assert rows(tmp_path)["endless"] == [("interrupted", 200, None, None)]


def test_spans_are_exported_before_the_end(tmp_path: Path) -> None:
    """Those of the last requests too, which wait in a batch of five seconds otherwise."""
    exported: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            exported.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.serve_forever, daemon=True)
        thread.start()
        endpoint = f"http://127.0.0.1:{collector.server_address[1]}"
        tracing = f'{{enabled: true, otlp_endpoint: "{endpoint}", sampling_rate: 1}}'
        config = CONFIG + f"telemetry: {{tracing: {tracing}}}\n"
        with running(SERVERS["serve"], tmp_path, config=config) as (process, url):
            stream = Stream(url + CHAT, "brief")
            stream.wait_for_first()
            assert process.end() == 0
            stream.thread.join(10)
        collector.shutdown()
        thread.join(10)
    assert stream.lines[-1] == "data: [DONE]"
    assert any(b"provider_execute" in body for body in exported)
