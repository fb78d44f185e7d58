"""All providers fail: retries stay within their budget (strategy 8.1, phase 1)."""

from __future__ import annotations

from radgateway.chaos.experiment import CannotRun, Experiment, Limit
from radgateway.chaos.experiments.two_providers import FIRST, SECOND, two_providers
from radgateway.chaos.gateway_api import GatewayAPI
from radgateway.chaos.lab import Lab

_RATIO, _MIN_PER_S, _TTL_S = 0.2, 1.0, 10.0
_FAILING_FOR_S = 30.0
_MIN_REQUESTS = 200
"""Enough to spend what the budget starts with."""


async def _attempts(api: GatewayAPI) -> float:
    attempts = await api.metric("rad_gateway_provider_requests_total")
    if attempts is None:
        raise CannotRun("the gateway counts no attempts in /metrics")
    return attempts


async def _conduct(lab: Lab) -> None:
    budget = {"ratio": _RATIO, "min_per_s": _MIN_PER_S, "ttl_s": _TTL_S, "max_attempts": 2}
    # Without breakers, which would hide the providers and so spare the budget.
    target = await lab.gateway(two_providers(lab, breaker=False, retry_budget=budget))
    api, load = target.api, target.load
    before = await lab.steady_before(load)
    seconds = lab.s(_FAILING_FOR_S, 2.0)
    rate = max(lab.rate, _MIN_REQUESTS / seconds)
    attempts_before = await _attempts(api)
    every = {name: {"error_ratio": 1.0, "error_status": 500} for name in (FIRST, SECOND)}
    lenient = {"all_affected": False, "error_ratio": None}
    async with lab.armed(api, every, seconds + 30, lenient):
        lab.say(f"all providers fail for {seconds:.1f} s, at {rate:g} requests/s")
        sample = await load.at_rate(rate, seconds)
        attempts = await _attempts(api) - attempts_before
    during = lab.keep("during", sample)
    exhausted = [call for call in sample.calls if call.failure == "retry_budget_exhausted"]
    lab.expect("requests refused for the budget", len(exhausted), ">=", 1)
    told = [c for c in exhausted if c.status == 503 and c.should_retry == "false" and c.retry_after]
    lab.expect("of them 503, x-should-retry: false", len(told), "==", len(exhausted))
    lab.expect("requests answered", during.answered, "==", 0)
    lab.expect("attempts in all", attempts, ">=", during.requests)
    # What the healthy requests before had paid in may be spent too, for as long as it keeps.
    paid = _RATIO * (before.requests + during.requests)
    floor = _MIN_PER_S * (seconds + _TTL_S)
    allowed = during.requests + paid + floor + lab.limit("slack_attempts")
    lab.expect("attempts in all, at most", attempts, "<=", allowed)
    lab.note(
        f"{attempts:.0f} attempts for {during.requests} requests: "
        f"{attempts / max(1, during.requests):.2f} times the load"
    )
    await lab.steady_after(load, by=FIRST)


RETRY_BUDGET = Experiment(
    name="retry-budget",
    phase="1: provider resilience",
    hypothesis="With the retry budget spent, callers get 503 and providers no more load",
    blast_radius="a sandbox only: every request of it fails",
    method=(
        "Both providers answer 500 to everything, without breakers, under enough load to spend "
        "a budget of ratio 0.2 and 1 a second"
    ),
    abort="5 minutes; the budget itself is the hard limit on attempts",
    conduct=_conduct,
    limits={"slack_attempts": Limit(0.0, "attempts allowed beyond (1 + ratio) x requests + floor")},
)
