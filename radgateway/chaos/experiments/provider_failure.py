"""A provider that fails every request: its breaker opens (strategy 8.1, phase 1)."""

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

_BROKEN_FOR_S = 60.0


async def _conduct(lab: Lab) -> None:
    target = await lab.gateway(two_providers(lab))
    api, load = target.api, target.load
    before = await lab.steady_before(load)
    failing = whom_to_break(lab, before)
    seconds = lab.s(_BROKEN_FOR_S)

    async def opened() -> bool:
        lab.guard(sample)
        return await api.circuit(failing) == "open"

    async with load.running(lab.rate) as sample:
        async with lab.armed(
            api, {failing: {"error_ratio": 1.0, "error_status": 503}}, seconds + 30
        ):
            began = time.monotonic()
            limit_s = lab.s(lab.limit("open_within_s"), 3.0)
            took_s = await lab.until(opened, limit_s)
            await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
            lab.guard(sample)
            ended = time.monotonic()
            await asyncio.sleep(MARGIN_S)
        lab.expect(
            "seconds until its breaker opened",
            took_s if took_s is not None else float("inf"),
            "<=",
            limit_s,
            " s",
        )
        await wait_until_closed(lab, api, failing)
    broken = sample.between(began, ended)
    during = lab.keep("during", broken)
    lab.expect("answered during", during.success_ratio, ">=", lab.limit("success_ratio"))
    lab.expect(f"answered during by {failing}", during.providers.get(failing, 0), "==", 0)
    # Once it is open, only probes reach the provider: the rest need no second attempt.
    late = [call for call in broken.calls[len(broken.calls) // 2 :] if call.ok]
    spared = sum(call.attempts == 1 for call in late) / max(1, len(late))
    lab.expect("spared the failing provider, later half", spared, ">=", lab.limit("spared_ratio"))
    await lab.steady_after(load, by=failing)


PROVIDER_FAILURE = Experiment(
    name="provider-failure",
    phase="1: provider resilience",
    hypothesis="A provider that fails every request is left alone by its circuit breaker",
    blast_radius="one provider",
    method=(
        "The provider that serves answers 503 to everything for 60 s, under load; "
        "then it is well again"
    ),
    abort=(
        "5 minutes; all providers affected, or half of the gateway's requests fail "
        "(it disarms itself); half of the last 20 requests of the load fail"
    ),
    conduct=_conduct,
    live=True,
    limits={
        "success_ratio": Limit(0.99, "share of requests answered meanwhile"),
        "open_within_s": Limit(10.0, "seconds until the breaker is open"),
        "spared_ratio": Limit(0.8, "share of later requests that need one attempt only"),
        "recovery_s": Limit(60.0, "seconds until the breaker is closed again"),
    },
)
