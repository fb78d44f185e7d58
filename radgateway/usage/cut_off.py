"""A time limit for a block that waits on something that keeps none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from threading import Event, Timer


@contextlib.contextmanager
def cut_off(seconds: float, cut: Callable[[], object]) -> Iterator[Event]:
    """Call `cut` from another thread if the block lasts longer; the event says that it did.

    `cut` has to end the wait, and is not called any more once the block has ended.
    """
    late = Event()

    def end() -> None:
        late.set()
        cut()

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()
