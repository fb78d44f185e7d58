"""Logging never waits: a stuck pipe costs lines, which are counted and owned up to."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from radgateway.telemetry.log_writer import LogWriter


def test_lines_are_written_in_order_and_in_batches() -> None:
    """Everything queued is there after the close, in few writes."""
    writes: list[bytes] = []

    class Sink(io.BytesIO):
        def write(self, data: object) -> int:
            assert isinstance(data, bytes)
            writes.append(data)
            return len(data)

    writer = LogWriter(Sink())
    for index in range(1000):
        writer.write(b"%d\n" % index)
    assert writer.close()
    assert b"".join(writes) == b"".join(b"%d\n" % index for index in range(1000))
    assert len(writes) < 20
    assert writer.dropped == 0


def test_lines_of_several_processes_stay_whole_in_one_pipe() -> None:
    """What is written at once is so little that a pipe keeps it together."""
    reading, writing = os.pipe()
    source = """
import os, select, sys
from radgateway.telemetry.log_writer import LogWriter
os.write(1, b"\\n")
sys.stdin.read()
writer = LogWriter(sys.stdout, piece_bytes=select.PIPE_BUF)
for number in range(4_000):
    writer.write(sys.argv[1].encode() * (number % 900 + 1) + b"\\n")
assert writer.close(20)
"""
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        with os.fdopen(writing, "wb") as stdout:
            run = [sys.executable, "-c", source]
            workers = [
                subprocess.Popen([*run, letter], stdin=subprocess.PIPE, stdout=stdout)
                for letter in "abc"
            ]
        assert b"".join(pipe.read(1) for _ in workers) == b"\n" * 3
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()  # all at once
        lines = pipe.read().splitlines()
        assert [worker.wait(20) for worker in workers] == [0, 0, 0]
    assert len(lines) == 12_000
    assert [line for line in lines if len(set(line)) > 1] == []


def test_text_streams_work_too() -> None:
    """What has no descriptor and takes text gets text."""
    stream = io.StringIO()
    writer = LogWriter(stream)
    writer.write("grün\n".encode())
    assert asyncio.run(writer.aclose())
    assert stream.getvalue() == "grün\n"


def test_a_stuck_pipe_never_blocks_and_the_loss_is_reported() -> None:
    """While nobody reads, writing stays instant; once somebody does, a line says what is gone."""
    reading, writing = os.pipe()
    counted: list[int] = []
    with os.fdopen(writing, "wb") as stream, os.fdopen(reading, "rb") as source:
        writer = LogWriter(
            stream,
            limit_bytes=200_000,
            interval_s=0.001,
            notice=lambda count: b"lost %d\n" % count,
            on_dropped=counted.append,
        )
        line = b"x" * 999 + b"\n"
        slowest = 0.0
        for _ in range(2000):
            began = time.perf_counter()
            writer.write(line)
            slowest = max(slowest, time.perf_counter() - began)
        assert slowest < 0.5
        assert writer.dropped > 1000
        assert sum(counted) == writer.dropped
        assert not writer.close(timeout_s=0.05)
        os.set_blocking(reading, False)
        got = b""
        deadline = time.monotonic() + 5
        while not got.endswith(b"lost %d\n" % writer.dropped) and time.monotonic() < deadline:
            got += source.read() or b""
            time.sleep(0.002)
        assert got.endswith(b"lost %d\n" % writer.dropped)
        assert got.count(line) == 2000 - writer.dropped
        assert writer.close(timeout_s=5)


def test_a_closed_pipe_is_no_error() -> None:
    """When the reader is gone, lines are dropped and nothing else happens."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stream:
        writer = LogWriter(stream, interval_s=0.001)
        writer.write(b"x\n")
        assert writer.close()
        assert writer.dropped == 1


def test_what_could_not_be_written_is_counted_and_owned_up_to() -> None:
    """A disk that is full for a while costs lines, and all who ask are told how many."""
    counted: list[int] = []
    written: list[bytes] = []

    class FullAtFirst(io.BytesIO):
        room = False

        def write(self, data: object) -> int:
            assert isinstance(data, bytes)
            if data and not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            written.append(data)
            return len(data)

    disk = FullAtFirst()
    writer = LogWriter(disk, interval_s=0.001, on_dropped=counted.append)
    writer.write(b"lost\n")
    until(lambda: sum(counted) == 1)
    writer.write(b"lost with the notice of the first\n")
    until(lambda: sum(counted) == 2)
    disk.room = True
    writer.write(b"kept\n")
    assert writer.close()
    assert b"".join(written) == b"kept\n2 log lines dropped\n"
    assert writer.dropped == sum(counted) == 2


def test_a_pipe_that_does_not_block_is_waited_for() -> None:
    """Whoever shares it may have made it so: a full one costs no lines, and none is torn."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    line = b"x" * 999 + b"\n"
    with os.fdopen(reading, "rb") as source:
        with os.fdopen(writing, "wb") as stream:
            writer = LogWriter(stream, interval_s=0.001)
            for _ in range(100):
                writer.write(line)
            assert not writer.close(timeout_s=0.05)
            got = source.read(65_536)
            assert writer.close(timeout_s=5)
        assert got + source.read() == line * 100
    assert writer.dropped == 0


def until(true: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait for another thread."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_after_the_close_lines_are_dropped() -> None:
    """No thread starts again."""
    writer = LogWriter(io.BytesIO())
    assert writer.close()
    writer.write(b"late\n")
    assert writer.dropped == 1


def test_a_limit_out_of_range_is_named() -> None:
    """A setting that can't be is an error at once."""
    with pytest.raises(ValueError, match="limit_bytes"):
        LogWriter(io.BytesIO(), limit_bytes=0)


@pytest.mark.servers
def test_a_process_ends_though_its_stdout_is_stuck() -> None:
    """The interpreter exits cleanly while the thread hangs in a write to a full pipe."""
    script = (
        "import sys\n"
        "from radgateway.telemetry.log_writer import LogWriter\n"
        "w = LogWriter(sys.stdout, interval_s=0.001)\n"
        "for _ in range(500): w.write(b'x' * 1000)\n"
        "import time; time.sleep(0.2)\n"
        "print('closed', w.close(0.1), file=sys.stderr)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.wait(20) == 0
    assert process.stderr is not None
    assert process.stdout is not None
    assert process.stderr.read() == b"closed False\n"
    process.stdout.close()
    process.stderr.close()
