"""Processes of a benchmark: started on one core, watched from outside, and always ended.

What a process costs is read from /proc: CPU seconds and resident memory of it and its children.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO

START_LIMIT_S = 30.0
"""Longest that a process may take to serve its first request."""
STOP_LIMIT_S = 10.0
"""From the signal to stop until it is killed."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class BenchmarkError(Exception):
    """A benchmark could not be made; the message says what is missing or went wrong."""


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started in this block runs on one core, and so does all that it starts itself."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(
    command: list[str],
    core: int,
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: IO[bytes] | int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process on one core, its output in a file; asked to stop at the end, then killed."""
    with log.open("ab") as output, on_core(core):
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=output if stdout is None else stdout,
            stderr=output,
            env=None if env is None else {**os.environ, **env},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that `running` started, and what it started."""
    if process.stdin is not None:
        process.stdin.close()
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            # It leads a session of its own, so its group is it and its children, nobody else.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_LIMIT_S)
    if process.stdout is not None:
        process.stdout.close()


def wait_until_serving(process: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
    """Wait for a 200 from `path`. Raises `BenchmarkError` with the end of the log."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if get(port, path)[0] == 200:
                return
        except (OSError, HTTPException):
            pass
        time.sleep(0.05)
    command = " ".join(map(str, process.args)) if isinstance(process.args, list) else process.args
    tail = log.read_text(errors="replace")[-3000:]
    raise BenchmarkError(f"`{command!s}` did not serve http://127.0.0.1:{port}{path}:\n{tail}")


def get(port: int, path: str) -> tuple[int, bytes]:
    """One GET to loopback."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def family(pid: int) -> list[int]:
    """A process and all its descendants that are alive."""
    pids = [pid]
    for parent in pids:
        try:
            listed = Path(f"/proc/{parent}/task/{parent}/children").read_text()
        except OSError:
            continue
        pids += [int(child) for child in listed.split()]
    return pids


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, that a process and its children have used."""
    ticks = 0
    for each in family(pid):
        try:
            # The second field, the program's name, may hold anything up to its last bracket.
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_S


def idle_s(core: int) -> float:
    """Seconds that a core has had nothing to do."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            fields = line.split()
            return (int(fields[4]) + int(fields[5])) / _TICKS_PER_S
    raise BenchmarkError(f"/proc/stat does not know core {core}")


def rss_mb(pid: int) -> float:
    """Resident memory of a process and its children, in MB (10^6 bytes)."""
    total = 0
    for each in family(pid):
        try:
            status = Path(f"/proc/{each}/status").read_text()
        except OSError:
            continue
        for line in status.splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
    return total / 1e6
