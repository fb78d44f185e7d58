"""The promise of the retry budget, kept by the whole of router, failover and hedges."""

from __future__ import annotations

import asyncio
import math

from hypothesis import given, settings
from hypothesis import strategies as st
from retry_rig import Does, Rig, Upstream
from virtual_time import now, run_virtual

from radgateway.routing.hedge import HedgeConfig
from radgateway.routing.retry_budget import RetryBudgetConfig

DOES = st.builds(
    Does,
    status=st.sampled_from([200, 200, 200, 400, 401, 429, 500, 503]),
    after_s=st.sampled_from([0.0, 0.05, 1.0, 5.0, 120.0]),
    rest_s=st.sampled_from([0.0, 3.0, 130.0]),
    headers=st.sampled_from([(), ((b"retry-after", b"1"),), ((b"x-should-retry", b"false"),)]),
    refused=st.booleans() | st.just(False),
    then=st.sampled_from(["ends", "ends", "ends", "breaks", "raises"]),
)
FAILS = st.builds(Does, st.sampled_from([429, 500, 503]), st.sampled_from([0.0, 1.0, 60.0]))
REFUSES = st.builds(Does, refused=st.just(True), after_s=st.sampled_from([0.0, 1.0]))
ORDERS = st.one_of(
    [
        st.lists(st.lists(does, min_size=1, max_size=12), min_size=1, max_size=3)
        for does in (DOES, FAILS, FAILS | REFUSES)
    ]
)
ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.1, 2.0, 40.0]),  # after the one before
        st.none() | st.sampled_from([0.0, 0.04, 0.5, 4.0, 100.0]),  # leaves
        st.none() | st.sampled_from([0.5, 10.0]),  # its own deadline
    ),
    min_size=1,
    max_size=40,
)
BUDGETS = st.builds(
    RetryBudgetConfig,
    max_attempts=st.sampled_from([0, 1, 2, 3, 9]),
    ratio=st.sampled_from([0.0, 0.1, 0.2, 1.0]),
    min_per_s=st.sampled_from([0.0, 0.1, 0.5]),
    ttl_s=st.sampled_from([1.0, 10.0]),
    storm_tokens=st.sampled_from([None, 4.0, 100.0]),
)
HEDGES = st.none() | st.builds(HedgeConfig, min_samples=st.just(1), quantile=st.just(0.5))


@settings(max_examples=250, deadline=None)
@given(ORDERS, ARRIVALS, BUDGETS, HEDGES, st.integers(0, 2**32))
def test_no_schedule_of_failures_adds_more_load_than_the_budget(
    orders: list[list[Does]],
    arrivals: list[tuple[float, float | None, float | None]],
    config: RetryBudgetConfig,
    hedge: HedgeConfig | None,
    seed: int,
) -> None:
    """What reaches the providers <= (1 + ratio) * requests + round(min_per_s * ttl_s) * periods.

    `periods` is 1 and one more for each full 0.9 * ttl_s of the run. Retries, failovers and hedges
    together, with failures, broken streams, bugs, pauses, deadlines, clients that leave, and calls
    that outlast every payment. Nothing is left when they are over: no call, task, timer, or money.
    """

    async def run() -> None:
        upstreams = [Upstream(n, list(o)) for n, o in zip("abc", orders, strict=False)]
        rig = Rig(*upstreams, hedge=hedge, budget=config, seed=seed)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # bugs are expected
        for upstream in upstreams:
            rig.knows(upstream.name, [0.5])
        began = now()
        asked = []
        for after_s, leaves_s, patience_s in arrivals:
            await asyncio.sleep(after_s)
            request = rig.ask(leave_after_s=leaves_s, patience_s=patience_s)
            asked.append(asyncio.create_task(request))
        await asyncio.gather(*asked)
        await rig.settle()
        periods = 1 + math.floor((now() - began) / (config.ttl_s * 0.9))
        floor = round(config.min_per_s * config.ttl_s) * periods
        sent = sum(upstream.sent for upstream in upstreams)
        assert sent <= (1 + config.ratio) * len(arrivals) + floor + 1e-6
        if config.max_attempts:
            assert all(len(r.attempts) <= config.max_attempts for r in rig.records)
        assert all(sum(a.hedge for a in r.attempts) <= 1 for r in rig.records)
        assert all(a.ended is not None for r in rig.records for a in r.attempts)
        assert all(r.final in r.attempts for r in rig.records if r.attempts)
        await asyncio.sleep(2 * config.ttl_s)
        assert rig.budget.balance == round(config.min_per_s * config.ttl_s)

    run_virtual(run())
