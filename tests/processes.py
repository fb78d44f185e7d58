"""Real processes inside a test: `radgateway serve` and what it prints."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

LIMIT_S = 20.0
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")


class Process:
    """A started process whose output is read all the time, so that it never blocks on a pipe."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._new: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._new.put(self.lines[-1])
        self._new.put(None)

    @property
    def output(self) -> str:
        """All that was printed so far."""
        return "\n".join(self.lines)

    def wait_until_ready(self, workers: int = 1) -> None:
        """Until so many workers serve."""
        until = time.monotonic() + LIMIT_S
        while self.output.count("Application startup complete") < workers:
            assert time.monotonic() < until, f"not all workers serve:\n{self.output}"
            time.sleep(0.02)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first line, printed already or yet to come, in which the pattern is found."""
        for line in list(self.lines):
            if match := re.search(pattern, line):
                return match
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                line_or_end = self._new.get(timeout=0.2)
                if line_or_end is None:
                    break
                if match := re.search(pattern, line_or_end):
                    return match
        raise AssertionError(f"no line with {pattern!r} in:\n{self.output}")

    def close(self) -> None:
        """Kill what still runs, its workers too, and let go of its output."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(LIMIT_S)


@contextlib.contextmanager
def started(
    arguments: list[str],
    directory: Path,
    environ: Mapping[str, str] | None = None,
    stdin: int | None = None,
) -> Iterator[Process]:
    """Run a Python program in a directory, with no more of the environment than it needs."""
    inherited = {k: v for k, v in os.environ.items() if k in _INHERITED}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=directory,
        env={**inherited, "PYTHONUNBUFFERED": "1", **(environ or {})},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    made = Process(process)
    try:
        yield made
    finally:
        made.close()
