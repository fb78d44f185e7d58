from __future__ import annotations

import asyncio
from typing import Any

import pytest
from drive import drive, http_scope
from hypothesis import given
from hypothesis import strategies as st

from radgateway.routing.retry_budget import (
    GRANT_KEY,
    Grant,
    RetryBudget,
    RetryBudgetConfig,
    TokenBudget,
)


class Clock:
    def __init__(self) -> None:
        self.now = 500.0

    def __call__(self) -> float:
        return self.now


def test_the_first_attempt_is_always_allowed() -> None:
    """A request is served even where no budget is left for further attempts."""
    budget = TokenBudget(RetryBudgetConfig(ratio=0, min_per_s=0))
    grant = Grant(budget, 5)
    assert grant.take()
    assert not grant.take()
    assert grant.exhausted == "ratio"


def test_a_request_has_its_number_of_attempts() -> None:
    """However much budget there is, one request gets no more attempts than configured."""
    grant = Grant(TokenBudget(), 2)
    assert [grant.take(), grant.take(), grant.take()] == [True, True, False]
    assert grant.exhausted == "attempts"
    unlimited = Grant(TokenBudget(), 0)
    assert all(unlimited.take() for _ in range(20))


def test_what_never_reached_a_provider_is_free() -> None:
    """An attempt after one that sent nothing costs no budget, but is one of the request's."""
    budget = TokenBudget(RetryBudgetConfig(ratio=0, min_per_s=0))
    grant = Grant(budget, 3)
    assert [grant.take(), grant.take(free=True), grant.take(free=True)] == [True] * 3
    assert not grant.take(free=True)
    assert grant.exhausted == "attempts"


def test_payments_add_up_and_expire() -> None:
    """Five requests pay for one further attempt, for as long as the time configured."""
    clock = Clock()
    budget = TokenBudget(RetryBudgetConfig(min_per_s=0), clock=clock)
    for _ in range(4):
        budget.deposit()
    assert not budget.withdraw()
    budget.deposit()
    assert budget.balance == 1
    clock.now += 11
    assert budget.balance == 0
    assert not budget.withdraw()


def test_a_quiet_gateway_can_retry() -> None:
    """The reserve is there without any traffic, and comes back with time."""
    clock = Clock()
    budget = TokenBudget(RetryBudgetConfig(min_per_s=1), clock=clock)
    assert sum(budget.withdraw() for _ in range(50)) == 10
    clock.now += 11
    assert sum(budget.withdraw() for _ in range(50)) == 10


@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 4)), max_size=300),
    st.sampled_from([0.0, 0.1, 0.2, 1.0]),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_failures_never_add_more_load_than_the_budget(
    schedule: list[tuple[float, int]], ratio: float, min_per_s: float
) -> None:
    """For any schedule of failures: attempts <= (1 + ratio) * requests + the reserve per ttl."""
    clock = Clock()
    config = RetryBudgetConfig(max_attempts=0, ratio=ratio, min_per_s=min_per_s)
    budget = TokenBudget(config, clock=clock)
    began = clock.now
    attempts = 0
    for number, (passed_s, failures) in enumerate(schedule, 1):
        clock.now += passed_s
        budget.deposit()
        grant = Grant(budget, config.max_attempts)
        while grant.taken <= failures and grant.take():
            attempts += 1
        ttls = 1 + (clock.now - began) // (config.ttl_s * 0.9)
        floor = round(config.min_per_s * config.ttl_s) * ttls
        assert attempts <= (1 + ratio) * number + floor + 1e-6


@given(st.integers(0, 400))
def test_a_total_outage_multiplies_nothing(requests: int) -> None:
    """When every attempt fails at once, the load grows by the ratio and the reserve, no more."""
    config = RetryBudgetConfig(max_attempts=3)
    budget = TokenBudget(config, clock=Clock())
    attempts = 0
    for _ in range(requests):
        budget.deposit()
        grant = Grant(budget, config.max_attempts)
        while grant.take():
            attempts += 1
    assert attempts <= 1.2 * requests + 100


def test_each_request_gets_a_grant_of_its_own() -> None:
    """The grant is in a copy of the scope; what was there stays, and exhaustion is counted."""
    grants: list[Grant] = []
    exhausted: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["state"]["host"] == "kept"
        grants.append(scope["state"][GRANT_KEY])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    config = RetryBudgetConfig(max_attempts=0, min_per_s=0)
    layer = RetryBudget(app, config, on_exhausted=lambda: exhausted.append(True))
    scope = {**http_scope("/"), "state": {"host": "kept"}}

    async def story() -> None:
        await asyncio.gather(drive(layer, scope), drive(layer, scope))

    asyncio.run(story())
    assert grants[0] is not grants[1]
    assert GRANT_KEY not in scope["state"]
    assert grants[0].take()
    assert not grants[0].take()
    assert exhausted == [True]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("max_attempts", -1), ("ratio", 1.5), ("min_per_s", -1), ("ttl_s", 0)],
)
def test_bad_settings_are_named(setting: str, value: float) -> None:
    """A setting out of range is refused by its name."""
    with pytest.raises(ValueError, match=setting):
        RetryBudgetConfig(**{setting: value})  # type: ignore[arg-type]
