"""How long to wait before the same candidate is tried again. Pure functions.

Full jitter, since callers that failed together would else come back together; of the known forms
it needs the fewest calls (AWS Architecture Blog, "Exponential Backoff And Jitter").
"""

from __future__ import annotations

import random

from radgateway.routing.retry_budget import RetryBudgetConfig

_DOUBLINGS = 16


def full_jitter_s(waits: int, base_s: float, cap_s: float, rng: random.Random) -> float:
    """Seconds to wait after `waits` earlier ones: anything up to min(cap, base * 2**waits)."""
    return rng.random() * min(cap_s, base_s * 2.0 ** min(waits, _DOUBLINGS))


def pause_s(
    config: RetryBudgetConfig,
    waits: int,
    asked_s: float | None,
    passed_s: float,
    rng: random.Random,
) -> float | None:
    """Seconds to wait before a candidate is tried again; None for not at all.

    `asked_s` is what its answer said in Retry-After, `passed_s` how long ago that was. What it
    asks for is a lower bound, with the jitter on top: others were told the same.
    """
    jitter_s = full_jitter_s(waits, config.backoff_s, config.backoff_max_s, rng)
    if asked_s is None:
        return jitter_s
    if asked_s > config.retry_after_max_s:
        return None
    return max(0.0, asked_s - passed_s) + jitter_s
