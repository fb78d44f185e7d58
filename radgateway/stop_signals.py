"""SIGTERM and SIGINT, heard before the server hears them, however the server listens.

A server that hears of a signal closes its door at once; a drain has to come before that. Some
servers set a handler of Python's (uvicorn), some let the event loop listen (granian, hypercorn),
which reads signals from a pipe of its own that Python writes them to. Both ways lead through
here, by public interfaces only, until the signal is passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

NUMBERS = (signal.SIGTERM, signal.SIGINT)

_AGAIN_S = 0.1
"""Seconds until the pipe is looked after a second time: granian runs its loop twice, and uvloop
takes the pipe back at the start of each run."""


class StopSignals:
    """Keeps the signals that stop a server from it, and tells `on_signal` of each instead."""

    def __init__(self, on_signal: Callable[[int], object]) -> None:
        self._on_signal = on_signal
        self._before: dict[int, Any] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: socket.socket | None = None
        self._writer: socket.socket | None = None
        self._pipe = -1
        self._again: asyncio.TimerHandle | None = None

    def take(self) -> bool:
        """Begin to hear, in the running loop; False where this is not the main thread.

        A signal that nobody listens to, or that is ignored, is left as it is.
        """
        if threading.current_thread() is not threading.main_thread():
            return False
        for number in NUMBERS:
            before = signal.getsignal(number)
            if callable(before):
                self._before[number] = before
                signal.signal(number, self._heard)
        self._loop = loop = asyncio.get_running_loop()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        loop.add_reader(self._reader, self._read)
        self._take_pipe()
        self._again = loop.call_later(_AGAIN_S, self._take_pipe)
        return True

    def pass_on(self, number: int) -> None:
        """Let whoever listened before hear a signal now."""
        before = self._before.get(number)
        if before is None:
            return
        # uvicorn raises a signal that it has heard once more at its end, and so dies of it. Asked
        # this way it ends as one that has finished its work, with code 0.
        server: Any = getattr(before, "__self__", None)
        if getattr(server, "should_exit", None) is False:
            server.should_exit = True
            return
        before(number, None)
        self._take_pipe()
        self._tell_loop(bytes([number]))

    def give_back(self) -> None:
        """Leave the signals to those who listened before."""
        reader, writer = self._reader, self._writer
        if self._loop is None or reader is None or writer is None:
            return
        if self._again is not None:
            self._again.cancel()
        for number, before in self._before.items():
            # Compared by equality: a bound method is a new object each time it is looked up.
            if signal.getsignal(number) == self._heard:
                signal.signal(number, before)
        current = signal.set_wakeup_fd(-1)
        with contextlib.suppress(OSError, ValueError):  # its loop has closed it
            pipe = self._pipe if current == writer.fileno() else current
            signal.set_wakeup_fd(pipe, warn_on_full_buffer=False)
        if not self._loop.is_closed():
            self._loop.remove_reader(reader)
        reader.close()
        writer.close()
        self._reader = self._writer = self._loop = None

    def _take_pipe(self) -> None:
        """Have Python write signals to our pipe, and remember whose it was."""
        assert self._writer is not None
        ours = self._writer.fileno()
        before = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        if before != ours:
            self._pipe = before

    def _heard(self, number: int, frame: FrameType | None) -> None:
        # Runs between any two bytecodes, so it only leaves word.
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_signal, number)

    def _read(self) -> None:
        assert self._reader is not None
        with contextlib.suppress(BlockingIOError, InterruptedError):
            heard = self._reader.recv(4096)
            # All others are the loop's to handle; these wait until they are passed on.
            self._tell_loop(bytes(number for number in heard if number not in self._before))

    def _tell_loop(self, numbers: bytes) -> None:
        if numbers and self._pipe != -1:
            with contextlib.suppress(OSError):
                os.write(self._pipe, numbers)
