"""A provider that takes longer than 5 s to begin: another answers (strategy 8.1, phase 1)."""

from __future__ import annotations

import asyncio
import time

from radgateway.chaos.experiment import Experiment, Limit
from radgateway.chaos.experiments.two_providers import (
    MARGIN_S,
    two_providers,
    wait_until_closed,
    whom_to_break,
)
from radgateway.chaos.lab import Lab

_LATENCY_S = 6.0
"""Seconds injected: over the threshold of 5, so that a gateway which keeps it must act."""
_BROKEN_FOR_S = 60.0
_WATCH_S = 0.25


async def _conduct(lab: Lab) -> None:
    target = await lab.gateway(two_providers(lab))
    api, load = target.api, target.load
    before = await lab.steady_before(load)
    slow = whom_to_break(lab, before)
    seconds = lab.s(_BROKEN_FOR_S)
    faults = {slow: {"latency_ms": round(lab.s(_LATENCY_S) * 1000, 1)}}
    async with load.running(lab.rate) as sample:
        async with lab.armed(api, faults, seconds + 30):
            began = time.monotonic()
            while (now := time.monotonic()) < began + seconds:
                await asyncio.sleep(min(_WATCH_S, began + seconds - now))
                lab.guard(sample)
            await asyncio.sleep(MARGIN_S)
        await wait_until_closed(lab, api, slow)
    slowed = sample.between(began, began + seconds)
    during = lab.keep("during", slowed)
    others = sum(count for name, count in during.providers.items() if name != slow)
    lab.expect("answered during", during.success_ratio, ">=", lab.limit("success_ratio"))
    lab.expect("answered by others", others / max(1, during.answered), ">=", 0.99)
    failed_over = sum(call.ok and call.attempts > 1 for call in slowed.calls)
    lab.expect("requests that failed over", failed_over, ">=", 1)
    limit_ms = lab.s(lab.limit("failover_s")) * 1000
    lab.expect("p99 during", during.p99_ms, "<=", limit_ms, " ms")
    await lab.steady_after(load, by=slow)


PROVIDER_LATENCY = Experiment(
    name="provider-latency",
    phase="1: provider resilience",
    hypothesis="When a provider takes longer than 5 s to begin, another one answers",
    blast_radius="one provider",
    method=(
        "The provider that serves is made 6 s late for 60 s, under load; "
        "then it is left alone until it serves again"
    ),
    abort=(
        "all providers affected, or half of the gateway's requests fail (it disarms itself); "
        "half of the last 20 requests of the load fail"
    ),
    conduct=_conduct,
    live=True,
    limits={
        "success_ratio": Limit(0.99, "share of requests answered meanwhile"),
        "failover_s": Limit(6.0, "seconds that 99 % of callers wait at most"),
        "recovery_s": Limit(60.0, "seconds until the provider's breaker is closed again"),
    },
)
