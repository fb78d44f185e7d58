"""SIGHUP: the signal by which a process is asked to read its configuration again.

Until somebody listens it would end the process, and at a start that takes a second. So whoever
starts gateways holds it back first (`hold_back`); what came meanwhile is heard with `take`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType

NUMBER = signal.SIGHUP


def hold_back() -> None:
    """Leave the signal pending in this process, and in those it starts, until it is taken."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {NUMBER})


def pending() -> bool:
    """Whether one that was held back has come; it is taken with that."""
    if NUMBER not in signal.sigpending():
        return False
    signal.sigwait({NUMBER})
    return True


def tell(pids: Iterable[int | None]) -> None:
    """Send it to other processes."""
    for pid in pids:
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):  # it is being replaced by a new one
                os.kill(pid, NUMBER)


class Terminal:
    """The terminal that a process was started from, if any: closed, it sends the same signal."""

    def __init__(self) -> None:
        self._had = os.isatty(0)

    def closed(self) -> bool:
        """Whether it has gone, so that the signal means the end, as people expect."""
        return self._had and not os.isatty(0)


class ReloadSignal:
    """Tells `on_signal` of each, in the event loop."""

    def __init__(self, on_signal: Callable[[], object]) -> None:
        self._on_signal = on_signal
        self._loop: asyncio.AbstractEventLoop | None = None

    def take(self) -> bool:
        """Begin to hear, in the running loop.

        False where this is not the main thread, and where somebody listens already: a server that
        restarts its workers by this signal goes on to do so.
        """
        if threading.current_thread() is not threading.main_thread():
            return False
        if callable(signal.getsignal(NUMBER)):
            return False
        self._loop = asyncio.get_running_loop()
        signal.signal(NUMBER, self._heard)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {NUMBER})
        return True

    def give_back(self) -> None:
        """Ignore it from now on, as what it did before would end what is about to end anyway."""
        if self._loop is not None and signal.getsignal(NUMBER) == self._heard:
            signal.signal(NUMBER, signal.SIG_IGN)
        self._loop = None

    def _heard(self, number: int, frame: FrameType | None) -> None:
        # Runs between any two bytecodes, so it only leaves word.
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_signal)
