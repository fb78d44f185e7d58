from __future__ import annotations

import asyncio
from typing import Any

import pytest
from drive import drive, http_scope
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from radgateway.routing.grant import GRANT_KEY, Grant
from radgateway.routing.retry_budget import RetryBudget, RetryBudgetConfig, TokenBudget


class Clock:
    def __init__(self) -> None:
        self.now = 500.0

    def __call__(self) -> float:
        return self.now


def granted(budget: TokenBudget) -> Grant:
    """A request's grant from this budget."""
    return Grant(budget, budget.config)


def test_the_first_attempt_is_always_allowed() -> None:
    """A request is served even where no budget is left for further attempts."""
    grant = granted(TokenBudget(RetryBudgetConfig(max_attempts=5, ratio=0, min_per_s=0)))
    assert grant.take()
    grant.failed("a")
    assert not grant.take()
    assert grant.exhausted == "ratio"


def test_a_request_has_its_number_of_attempts() -> None:
    """However much budget there is, one request gets no more attempts than configured."""
    grant = granted(TokenBudget())
    assert [grant.take(), grant.take(), grant.take()] == [True, True, False]
    assert grant.exhausted == "attempts"
    unlimited = granted(TokenBudget(RetryBudgetConfig(max_attempts=0)))
    assert all(unlimited.take() for _ in range(20))


def test_what_never_reached_a_provider_is_free() -> None:
    """It costs no budget, whichever of the attempts it was, but is one of the request's."""
    budget = TokenBudget(RetryBudgetConfig(max_attempts=3, ratio=0, min_per_s=0.1))
    grant = granted(budget)
    assert budget.balance == 1
    for _ in range(3):
        assert grant.take()
        grant.unsent()
        assert budget.balance == 1
    assert not grant.take()
    assert grant.exhausted == "attempts"

    grant = granted(budget)
    assert grant.take()
    grant.failed("a")
    assert grant.take()
    assert budget.balance == 0
    grant.unsent()
    assert budget.balance == 1


def test_what_was_paid_once_is_given_back_once() -> None:
    """Of a race neither of whose attempts was sent: one was paid for, the other never was."""
    budget = TokenBudget(RetryBudgetConfig(max_attempts=3, ratio=0, min_per_s=0.1))
    grant = granted(budget)
    assert grant.take()
    assert grant.take_hedge()
    assert budget.balance == 0
    grant.unsent()
    grant.unsent()
    assert budget.balance == 1
    assert grant.take()  # as the first one, which is not paid for
    assert budget.balance == 1


def test_a_hedge_is_paid_for_and_is_no_exhaustion() -> None:
    """Without one the request goes on as it is, so nothing is counted or refused."""
    exhausted: list[bool] = []
    budget = TokenBudget(RetryBudgetConfig(max_attempts=3, ratio=0, min_per_s=0.1))
    grant = Grant(budget, budget.config, lambda: exhausted.append(True))
    assert grant.take()
    assert grant.take_hedge()
    assert not grant.take_hedge()
    assert (grant.exhausted, exhausted, budget.balance) == (None, [], 0)
    only = Grant(TokenBudget(), RetryBudgetConfig(max_attempts=1))
    assert only.take()
    assert not only.take_hedge()
    any_number = Grant(TokenBudget(), RetryBudgetConfig(max_attempts=0))
    assert any_number.take()
    assert any_number.take_hedge()


def test_an_attempt_that_was_granted_and_not_made_leaves_no_trace() -> None:
    """A request that is given up while it waits for its next attempt has not used it."""
    budget = TokenBudget(RetryBudgetConfig(ratio=0, min_per_s=0.1))
    grant = granted(budget)
    assert grant.take()
    grant.failed("a")
    assert grant.take()
    grant.untake()
    assert budget.balance == 1
    assert grant.take()


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


def test_calls_of_two_minutes_pay_for_their_own_retries() -> None:
    """What pays is a request whose outcome shows, so a long call's payment has not expired."""
    clock = Clock()
    budget = TokenBudget(RetryBudgetConfig(min_per_s=0, ttl_s=10), clock=clock)
    grants = [granted(budget) for _ in range(50)]
    assert all(grant.take() for grant in grants)
    clock.now += 120
    retried = 0
    for grant in grants:
        grant.failed("a")
        retried += grant.take()
    assert retried == 10


def test_a_request_pays_once() -> None:
    """Commit point, failures and hedge of one request are one payment."""
    budget = TokenBudget(RetryBudgetConfig(ratio=1, min_per_s=0))
    grant = granted(budget)
    grant.take()
    for _ in range(3):
        grant.pay_in()
        grant.failed("a")
    assert budget.balance == 1
    granted(budget).unsent()  # an outcome as well
    assert budget.balance == 2


def test_what_becomes_of_attempts_is_in_the_providers_ledger() -> None:
    """A failure takes a token, a success gives a part of one back, what was not sent is neither."""
    budget = TokenBudget(RetryBudgetConfig(ratio=0.2, min_per_s=0, storm_tokens=10), clock=Clock())
    assert budget.storms is not None
    grant = granted(budget)
    for _ in range(5):
        grant.take()
        grant.failed("a")
    assert (grant.allows("a"), grant.allows("b")) == (False, True)
    grant.unsent()
    grant.succeeded("b")
    assert budget.storms.tokens("a") == 5
    grant.succeeded("a")
    assert budget.storms.tokens("a") == 5.2
    assert grant.allows("a")


def test_a_quiet_gateway_can_retry() -> None:
    """The reserve is there without any traffic, and comes back with time."""
    clock = Clock()
    budget = TokenBudget(RetryBudgetConfig(min_per_s=1), clock=clock)
    assert sum(budget.withdraw() for _ in range(50)) == 10
    clock.now += 11
    assert sum(budget.withdraw() for _ in range(50)) == 10


@given(
    st.lists(st.floats(0, 4), max_size=40),
    st.sampled_from([0.0, 0.2, 1.0]),
    st.sampled_from([5.0, 10.0]),
)
def test_the_time_to_come_back_is_when_there_is_budget(
    gaps: list[float], min_per_s: float, ttl_s: float
) -> None:
    """Whoever waits as long as it says finds the budget able to pay, if it ever will be; and
    whoever waits less does not."""
    clock = Clock()
    budget = TokenBudget(RetryBudgetConfig(min_per_s=min_per_s, ttl_s=ttl_s), clock=clock)
    for gap in gaps:
        clock.now += gap
        budget.deposit()
        budget.withdraw()
    while budget.withdraw():
        pass
    wait_s = budget.retry_after_s()
    assert 0 <= wait_s <= ttl_s
    if min_per_s:
        clock.now += wait_s - 1e-6
        assert not budget.balance
        clock.now += 2e-6
        assert budget.balance


@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 4), st.integers(0, 2)), max_size=300),
    st.sampled_from([0.0, 0.1, 0.2, 1.0]),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_failures_never_add_more_load_than_the_budget(
    schedule: list[tuple[float, int, int]], ratio: float, min_per_s: float
) -> None:
    """For any schedule of failures: what was sent <= (1 + ratio) * requests + the reserve."""
    clock = Clock()
    config = RetryBudgetConfig(max_attempts=0, ratio=ratio, min_per_s=min_per_s, storm_tokens=None)
    budget = TokenBudget(config, clock=clock)
    began = clock.now
    sent = 0
    for number, (passed_s, failures, unsent) in enumerate(schedule, 1):
        clock.now += passed_s
        grant = granted(budget)
        while grant.taken <= failures + unsent and grant.take():
            if grant.taken <= unsent:
                grant.unsent()
            else:
                sent += 1
                grant.failed("a")
        ttls = 1 + (clock.now - began) / (config.ttl_s * 0.9)
        assert sent <= (1 + ratio) * number + round(min_per_s * config.ttl_s) * ttls + 1e-6


@given(st.integers(0, 400))
def test_a_total_outage_multiplies_nothing(requests: int) -> None:
    """When every attempt fails at once, the load grows by the ratio and the reserve, no more."""
    budget = TokenBudget(RetryBudgetConfig(max_attempts=3, storm_tokens=None), clock=Clock())
    attempts = 0
    for _ in range(requests):
        grant = granted(budget)
        while grant.take():
            attempts += 1
            grant.failed("a")
    assert attempts <= 1.2 * requests + 100


class Counted(TokenBudget):
    """A budget that counts what is drawn from it, less what is given back."""

    drawn = 0

    def withdraw(self) -> bool:
        paid = super().withdraw()
        self.drawn += paid
        return paid

    def refund(self) -> None:
        super().refund()
        self.drawn -= 1


class TheBudget(RuleBasedStateMachine):
    """Requests that come, fail, succeed, are hedged, cancelled: against sums kept by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.config = RetryBudgetConfig(max_attempts=4, ratio=0.5, min_per_s=0.2, storm_tokens=6)
        self.budget = Counted(self.config, clock=self.clock)
        self.grants: dict[Grant, int] = {}
        """Those under way, each with what it has sent."""
        self.began = self.clock.now
        self.requests = self.sent = self.ended_drawn = 0

    @rule(passed_s=st.floats(0, 30))
    def time_passes(self, passed_s: float) -> None:
        self.clock.now += passed_s

    @rule()
    def a_request_comes(self) -> None:
        grant = granted(self.budget)
        assert grant.take()
        self.grants[grant] = 1
        self.requests += 1

    @precondition(lambda self: self.grants)
    @rule(data=st.data(), sent=st.booleans(), again=st.sampled_from(["no", "yes", "given up"]))
    def an_attempt_fails(self, data: st.DataObject, sent: bool, again: str) -> None:
        grant = data.draw(st.sampled_from(list(self.grants)))
        if sent:
            grant.failed("a")
        elif self.grants[grant]:
            self.grants[grant] -= 1
            grant.unsent()
        before = self.budget.balance
        if again == "no" or not grant.allows("a") or not grant.take():
            return
        if again == "yes":
            self.grants[grant] += 1
        else:
            grant.untake()
            assert self.budget.balance == before

    @precondition(lambda self: self.grants)
    @rule(data=st.data())
    def an_attempt_is_hedged(self, data: st.DataObject) -> None:
        grant = data.draw(st.sampled_from(list(self.grants)))
        grant.pay_in()
        self.grants[grant] += grant.take_hedge()

    @precondition(lambda self: self.grants)
    @rule(data=st.data(), cancelled=st.booleans())
    def a_request_ends(self, data: st.DataObject, cancelled: bool) -> None:
        grant = data.draw(st.sampled_from(list(self.grants)))
        if not cancelled:
            grant.pay_in()
            grant.succeeded("a")
        sent = self.grants.pop(grant)
        self.sent += sent
        self.ended_drawn += max(0, sent - 1)

    @invariant()
    def what_was_drawn_is_what_was_sent_beyond_the_first(self) -> None:
        under_way = sum(max(0, sent - 1) for sent in self.grants.values())
        assert self.budget.drawn == self.ended_drawn + under_way

    @invariant()
    def no_request_has_more_than_its_attempts(self) -> None:
        assert all(1 <= grant.taken <= 4 for grant in self.grants)

    @invariant()
    def the_load_is_bounded(self) -> None:
        ttls = 1 + (self.clock.now - self.began) / (self.config.ttl_s * 0.9)
        sent = self.sent + sum(self.grants.values())
        assert sent <= 1.5 * self.requests + 2 * ttls + 1e-6

    @invariant()
    def the_ledger_holds_between_nothing_and_all(self) -> None:
        assert self.budget.storms is not None
        assert 0 <= self.budget.storms.tokens("a") <= 6

    def teardown(self) -> None:
        """Whatever happened: once its time is over, nothing of it is left."""
        self.clock.now += 200
        assert self.budget.balance == 2
        assert self.budget.storms is not None
        assert self.budget.storms.tokens("a") == 6


TestTheBudget = TheBudget.TestCase
TestTheBudget.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


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
    grants[0].failed("a")
    assert not grants[0].take()
    assert exhausted == [True]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_attempts", -1),
        ("ratio", 1.5),
        ("min_per_s", -1),
        ("ttl_s", 0),
        ("storm_tokens", 1),
        ("backoff_s", -1),
        ("backoff_max_s", 61),
        ("retry_after_max_s", float("nan")),
    ],
)
def test_bad_settings_are_named(setting: str, value: float) -> None:
    """A setting out of range is refused by its name."""
    with pytest.raises(ValueError, match=setting):
        RetryBudgetConfig(**{setting: value})  # type: ignore[arg-type]
