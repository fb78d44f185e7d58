"""How long the event loop is kept waiting while something is done beside it."""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

_INTERVAL_S: Final = 0.1
"""How long a thread keeps the interpreter while this measures, in seconds, unless it gives it up.

Twenty times Python's default: work that trusts in the default stalls the loop for so long that it
is not taken for the machine's noise, nor lost in it.
"""


async def stall_s(work: Callable[[], Awaitable[Any]]) -> float:
    """The longest the loop was kept waiting meanwhile, in seconds of this process's processor time.

    Of that, and not of the clock: what other processes have of the machine is no stall of ours,
    while whatever keeps the interpreter from the loop is at work itself. Endless where the loop had
    no turns to tell by, as all of it was done between two.
    """
    task = asyncio.ensure_future(work())
    longest_s, turns = 0.0, 0
    while not task.done():
        began = time.process_time()
        await asyncio.sleep(0.001)
        longest_s = max(longest_s, time.process_time() - began - 0.001)
        turns += 1
    await task
    return longest_s if turns > 3 else math.inf


def shortest_stall_s(
    work: Callable[[], Awaitable[Any]], *, good_s: float, tries: int
) -> tuple[float, list[float]]:
    """The longest stall of the best of some tries, in seconds, and that of each.

    What else runs in the process only ever adds to a stall, so the shortest shows what is the
    work's own. Nothing more is tried once one is below `good_s`.
    """

    async def run() -> list[float]:
        stalls: list[float] = []
        while len(stalls) < tries and min(stalls, default=good_s) >= good_s:
            # What the test run has left is walked through now, and not meanwhile.
            gc.collect()
            stalls.append(await stall_s(work))
        return stalls

    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(_INTERVAL_S)
    try:
        stalls = asyncio.run(run())
    finally:
        sys.setswitchinterval(usual_s)
    return min(stalls), stalls
