"""Waiting in line over real sockets, under each server: who leaves is noticed, no byte is lost."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.servers

HERE = Path(__file__).parent
START_S = 20.0
COMMANDS = {
    "uvicorn": ["uvicorn", "--host", "127.0.0.1", "--port", "{port}"],
    "hypercorn": ["hypercorn", "--bind", "127.0.0.1:{port}"],
    "granian": ["granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}"],
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


@contextlib.contextmanager
def hosted(server: str) -> Iterator[httpx.Client]:
    """The queue under a server, and a client."""
    port = free_port()
    command = [part.format(port=port) for part in COMMANDS[server]]
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "queue_host:app"],
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=15, trust_env=False
        ) as client:
            until = time.monotonic() + START_S
            while True:
                assert process.poll() is None
                with contextlib.suppress(httpx.TransportError):
                    client.get("/state")
                    break
                assert time.monotonic() < until, f"{server} does not start"
                time.sleep(0.05)
            yield client
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def wait_for(client: httpx.Client, within_s: float = 3.0, **expected: int) -> dict[str, Any]:
    """The state, as soon as it is as expected."""
    until = time.monotonic() + within_s
    while True:
        state: dict[str, Any] = client.get("/state").json()
        if all(state[name] == value for name, value in expected.items()):
            return state
        assert time.monotonic() < until, f"{state}, not {expected}"
        time.sleep(0.02)


@pytest.mark.parametrize("server", COMMANDS)
def test_a_client_that_leaves_the_line(server: str) -> None:
    """Its place in line is free at once, and it is never served; the next one's body is whole."""
    with hosted(server) as client, ThreadPoolExecutor(2) as others:
        holding = others.submit(client.post, "/first/1500", content=b"x")
        wait_for(client, in_use=1, depth=0)
        with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as leaver:
            leaver.sendall(b"POST /leaver/0 HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody")
            wait_for(client, in_use=1, depth=1)
        began = time.monotonic()
        wait_for(client, in_use=1, depth=0)
        assert time.monotonic() - began < 1
        waiting = others.submit(client.post, "/next/0", content=b"b" * 300_000)
        wait_for(client, in_use=1, depth=1)
        assert holding.result().text == "1"
        assert waiting.result().text == "300000"
        assert wait_for(client, in_use=0, depth=0)["served"] == ["first", "next"]
