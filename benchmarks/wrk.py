"""Load from wrk: a compiled generator, so that what is measured is the system and not the load."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import BenchmarkError, on_core

BODY = json.dumps(
    {
        "model": "bench-model",
        "messages": [
            {"role": "system", "content": "You answer in one sentence."},
            {"role": "user", "content": "How many corners does a square have?"},
        ],
        "temperature": 0.2,
    }
)
"""A small chat request, as the shortest real ones are."""

_SCRIPT = """\
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.body = [[{body}]]
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer {key}"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'RESULT {{"requests":%d,"duration_us":%d,"p50_us":%.1f,"p99_us":%.1f,"max_us":%.1f,'
    .. '"refused":%d,"broken":%d,"timeouts":%d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    latency.max, e.status, e.connect + e.read + e.write, e.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk measured."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    requests: int
    errors: int
    """Answers that are no 2xx or 3xx, broken connections and timeouts."""


def find() -> str:
    """Where wrk is. Raises `BenchmarkError` that says how to install it."""
    path = shutil.which("wrk")
    if path is None:
        raise BenchmarkError(
            "wrk, the load generator, is not installed. Debian and Ubuntu: apt-get install wrk. "
            "macOS: brew install wrk. Fedora: dnf install wrk. Source: github.com/wg/wrk."
        )
    return path


def version(path: str) -> str:
    """The version line of a wrk binary; it prints it with its usage and fails."""
    shown = subprocess.run([path, "-v"], capture_output=True, text=True, timeout=10, check=False)
    return (shown.stdout + shown.stderr).partition("\n")[0].partition(" Copyright")[0].strip()


def write_script(folder: Path, key: str) -> Path:
    """The script that makes wrk send our request and report as JSON."""
    script = folder / "chat.lua"
    script.write_text(_SCRIPT.format(body=BODY, key=key))
    return script


def run(path: str, script: Path, port: int, *, connections: int, seconds: float, core: int) -> Load:
    """Load one port for some seconds. Raises `BenchmarkError` if wrk itself fails."""
    command = [path, "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "--latency"]
    command += ["-s", str(script), f"http://127.0.0.1:{port}"]
    with on_core(core):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + 60, check=False
        )
    line = next((li for li in done.stdout.splitlines() if li.startswith("RESULT ")), None)
    if done.returncode != 0 or line is None:
        raise BenchmarkError(f"wrk failed ({done.returncode}): {done.stderr or done.stdout}")
    result = json.loads(line.removeprefix("RESULT "))
    return Load(
        requests_per_s=result["requests"] / (result["duration_us"] / 1e6),
        p50_ms=result["p50_us"] / 1000,
        p99_ms=result["p99_us"] / 1000,
        max_ms=result["max_us"] / 1000,
        requests=result["requests"],
        errors=result["refused"] + result["broken"] + result["timeouts"],
    )
