"""Ending a task of our own."""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN_S = 0.25
_LIMIT_S = 5.0


async def end_task(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task and wait until it has ended, for at most 5 seconds; None is no task.

    It is cancelled anew four times a second: a library may swallow a cancellation, as redis-py does
    at some moments of connecting and `asyncio.wait_for` just as its wait ends
    (python/cpython#86296, before 3.12), and a task that goes round in a loop would never end.
    """
    if task is None:
        return
    until = asyncio.get_running_loop().time() + _LIMIT_S
    while not task.done() and asyncio.get_running_loop().time() < until:
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_S)
