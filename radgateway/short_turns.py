"""Work in a thread that leaves the interpreter to the event loop whenever that wants it.

A thread gives the interpreter up after 5 ms by default, and each time the loop has waited for the
network it asks for it anew. So long work in a thread is done in short turns, pauses now and then,
and makes no call that holds the interpreter for all of it: writing thousands of things as JSON,
sorting them, taking them from a driver.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_SWITCH_S: Final = 0.0005
"""How long others wait for the interpreter at most, in seconds."""
_PAUSE_S: Final = 0.0002
"""How long a pause leaves it to them, in seconds."""
_A_TURN: Final = 100
"""Items between two pauses, a millisecond or a few."""


class ShortTurns:
    """Inside, whoever waits for the interpreter gets it after a tenth of the usual interval.

    The interval is the process's, so it is put back by the last thread that leaves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._usual_s = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._usual_s = sys.getswitchinterval()
                sys.setswitchinterval(min(_SWITCH_S, self._usual_s))
            self._inside += 1

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                sys.setswitchinterval(self._usual_s)


SHORT_TURNS: Final = ShortTurns()
"""The process's."""


def in_short_turns(work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """Do some work in short turns; for a thread that is not the event loop's."""
    with SHORT_TURNS:
        return work(*given, **named)


def paced(items: Iterable[T]) -> Iterator[T]:
    """Items with a pause now and then, for a thread that makes something of each.

    A loop that is busy would otherwise have half of the interpreter.
    """
    for index, item in enumerate(items):
        if index % _A_TURN == _A_TURN - 1:
            time.sleep(_PAUSE_S)
        yield item
