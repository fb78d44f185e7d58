"""LogWriter: lines go to a bounded queue, and one thread writes them in batches.

A write to a pipe nobody reads blocks for as long as nobody reads. On the event loop that is an
outage of the gateway caused by its log collector; here it costs lines, which are counted and
owned up to once the pipe moves again.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any


class LogWriter:
    """Writes lines to a stream from a daemon thread that starts with the first line.

    `limit_bytes` bounds what waits to be written. `notice` words the line that says how many were
    dropped, `on_dropped` is told as it happens. Lines wait up to `interval_s` seconds for others,
    and are written together, at most `piece_bytes` at once where that is given: give
    `select.PIPE_BUF` where other processes write to the same pipe, which keeps so much whole
    (POSIX, write). A line that is longer is written by itself.
    """

    def __init__(
        self,
        stream: IO[Any],
        *,
        limit_bytes: int = 8 * 1024 * 1024,
        interval_s: float = 0.05,
        piece_bytes: int | None = None,
        notice: Callable[[int], bytes] | None = None,
        on_dropped: Callable[[int], None] | None = None,
    ) -> None:
        if limit_bytes < 1:
            raise ValueError(f"limit_bytes must be at least 1, not {limit_bytes!r}")
        self._write = _writer_to(stream)
        self._limit_bytes = limit_bytes
        self._interval_s = interval_s
        self._piece_bytes = piece_bytes
        self._notice = notice or _plain_notice
        self._on_dropped = on_dropped
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._bytes = 0
        self._unreported = 0
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self.dropped = 0
        """Lines dropped so far."""

    def write(self, line: bytes) -> None:
        """Queue one line (ending in a newline) and return at once."""
        with self._lock:
            kept = self._bytes + len(line) <= self._limit_bytes and not self._stop.is_set()
            if kept:
                self._lines.append(line)
                self._bytes += len(line)
        if not kept:
            self._drop(1)
            return
        if self._thread is None or self._pid != os.getpid():
            self._start()
        if not self._wake.is_set():
            self._wake.set()

    def close(self, timeout_s: float = 2.0) -> bool:
        """Write what is queued, for at most `timeout_s` seconds; False where some is left."""
        self._stop.set()
        self._wake.set()
        thread = self._thread
        if thread is not None and self._pid == os.getpid():
            thread.join(timeout_s)
            return not thread.is_alive()
        return True

    async def aclose(self, timeout_s: float = 2.0) -> bool:
        """The same without holding up the event loop."""
        return await asyncio.to_thread(self.close, timeout_s)

    def _drop(self, count: int) -> None:
        with self._lock:
            self.dropped += count
            self._unreported += count
        if self._on_dropped is not None:
            self._on_dropped(count)

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None and self._pid == os.getpid():
                return
            self._pid = os.getpid()
            self._thread = threading.Thread(target=self._run, name="radgateway-log", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            # Others join the batch meanwhile; a wake-up for each line would cost the loop more
            # interpreter time than the writing.
            self._stop.wait(self._interval_s)
            self._wake.clear()
            stopping = self._stop.is_set()
            with self._lock:
                lines, self._lines = self._lines, []
                self._bytes = 0
                dropped, self._unreported = self._unreported, 0
            notice = [self._notice(dropped)] if dropped else []
            written = 0
            try:
                for piece in _pieces([*lines, *notice], self._piece_bytes):
                    self._write(b"".join(piece))
                    written += len(piece)
            except (OSError, ValueError):
                # Nobody reads any more, or the disk is full: to be said again, should it pass.
                with self._lock:
                    self._unreported += dropped
                self._drop(len(lines) - written)
            if stopping and not self._lines:
                return


def _pieces(lines: list[bytes], most: int | None) -> Iterator[list[bytes]]:
    """The lines in their order, up to so many bytes together."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and most is not None and size + len(line) > most:
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield piece


def _plain_notice(count: int) -> bytes:
    return b"%d log lines dropped\n" % count


def _writer_to(stream: IO[Any]) -> Callable[[bytes], None]:
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return _object_writer(stream)

    def write(data: bytes) -> None:
        # Past the stream's own buffer: a thread stuck while it holds that one's lock makes the
        # interpreter abort when it flushes the standard streams at exit.
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                # Who shares the pipe can make it one that does not block; waiting is our part.
                select.select([], [descriptor], [])

    return write


def _object_writer(stream: IO[Any]) -> Callable[[bytes], None]:
    try:
        stream.write(b"")
    except TypeError:

        def write(data: bytes) -> None:
            stream.write(data.decode())

    else:

        def write(data: bytes) -> None:
            stream.write(data)

    return write
