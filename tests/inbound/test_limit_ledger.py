"""The accounts in this process: charged all or none, settled to the last token."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from inbound.limit_model import Model, Taken

from radgateway.inbound.limit_ledger import NOTHING, Hold, LocalLedger, Verdict, judge, tightest
from radgateway.inbound.limit_plan import Costs, LimitBook, Plan, Plans
from radgateway.inbound.limit_set import CONCURRENCY, KINDS, REQUESTS, TOKENS, LimitSet
from radgateway.inbound.limit_storage import SlidingWindows


class Clock:
    def __init__(self, now: float = 600.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def plan_of(total: LimitSet | None = None, **limits: Any) -> Plan:
    own = LimitSet(**limits)
    return Plans(LimitBook(of_key=lambda name: own, total=total)).of("bob")


def costs(tokens: int = 1, written: int = 0, nano: int = 0) -> Costs:
    return (1, tokens + written, tokens, written, nano, 1)


ONE = costs()


def ledger(clock: Clock | None = None) -> LocalLedger:
    return LocalLedger(SlidingWindows(clock=clock or Clock()))


def left(verdict: Verdict) -> dict[str, int]:
    return {KINDS[s.limit.kind]: s.left for s in verdict.standings}


@given(
    st.integers(1, 20),
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(1, 20),
    st.floats(0.001, 60),
)
def test_the_time_to_wait_is_right(
    amount: int, previous: int, current: int, cost: int, left_s: float
) -> None:
    """After the time told the request is allowed, and before it it is not; with debts as well."""
    limit = plan_of(tokens=(f"{amount}/minute",)).limits[0]
    cost = min(cost, amount)
    now = judge(limit, cost, previous, current, left_s)
    assert now.allowed == (now.wait_s == 0)
    if now.allowed:
        return

    def later(seconds: float) -> bool:
        if seconds < left_s:
            return judge(limit, cost, previous, current, left_s - seconds).allowed
        rest_s = 60 - (seconds - left_s)
        return rest_s <= 0 or judge(limit, cost, current, 0, rest_s).allowed

    assert later(now.wait_s + 0.001)
    assert now.wait_s <= 0.002 or not later(now.wait_s - 0.002)
    assert now.reset_s >= now.wait_s - 0.001


def test_all_limits_are_charged_or_none() -> None:
    """A request over one limit leaves all others untouched, and the one that refuses is told."""
    book, plan = ledger(), plan_of(requests=("3/minute", "2/hour"), tokens=("100/day",))
    verdicts = [book.take(plan.limits, costs(10)) for _ in range(5)]
    assert [v.refused is None for v in verdicts] == [True, True, False, False, False]
    refused = verdicts[-1].refused
    assert refused is not None
    assert refused.limit.text == "2 requests per hour"
    assert {s.limit.text: s.left for s in verdicts[-1].standings} == {
        "3 requests per minute": 1,
        "2 requests per hour": 0,
        "100 tokens per day": 80,
    }


def test_of_several_that_refuse_the_longest_wait_is_told() -> None:
    """Who came back after the shorter one would be refused again."""
    book, plan = ledger(), plan_of(requests=("1/minute", "1/hour"))
    book.take(plan.limits, ONE)
    refused = book.take(plan.limits, ONE).refused
    assert refused is not None
    assert refused.limit.window_s == 3600


def test_a_reservation_is_settled_to_what_was_used() -> None:
    """Less is given back, more is a debt, and both at once where the kinds differ."""
    book = ledger()
    plan = plan_of(tokens=("1000/minute",), output_tokens=("100/minute",))
    verdict = book.take(plan.limits, costs(400, 50))
    assert verdict.hold is not None
    verdict.hold.settle(costs(30, 90))
    assert left(book.take(plan.limits, ONE)) == {"tokens": 880, "output_tokens": 10}


def test_a_hold_is_settled_once() -> None:
    """However often its request ends."""
    book, plan = ledger(), plan_of(tokens=("100/minute",), max_concurrency=1)
    hold = book.take(plan.limits, costs(50)).hold
    assert hold is not None
    for _ in range(3):
        hold.settle(costs(20))
    assert left(book.take(plan.limits, ONE)) == {"tokens": 80, "concurrency": 1}


def test_a_place_is_free_again_when_its_request_ends() -> None:
    """And not before; a second is refused for a second at a time."""
    book, plan = ledger(), plan_of(max_concurrency=1)
    hold = book.take(plan.limits, ONE).hold
    refused = book.take(plan.limits, ONE).refused
    assert hold is not None
    assert refused is not None
    assert (refused.limit.kind, refused.wait_s) == (CONCURRENCY, 1.0)
    hold.settle(NOTHING)
    assert book.take(plan.limits, ONE).refused is None


def test_what_is_given_back_late_does_not_count_for_a_later_window() -> None:
    """A refund belongs to the window that was charged; a debt to the one that runs."""
    clock = Clock(600)
    book, plan = ledger(clock), plan_of(tokens=("100/minute",))
    first, second = (book.take(plan.limits, costs(40)).hold for _ in range(2))
    assert first is not None
    assert second is not None
    clock.now = 600 + 150  # two windows on: nothing of it counts any more
    book.take(plan.limits, costs(10))
    first.settle(costs(5))
    assert left(book.take(plan.limits, ONE)) == {"tokens": 90}
    second.settle(costs(60))
    assert left(book.take(plan.limits, ONE)) == {"tokens": 69}


def test_an_estimate_over_the_limit_is_let_in_alone() -> None:
    """It would be kept out for ever otherwise; its debt keeps the next ones waiting."""
    book, plan = ledger(), plan_of(tokens=("100/minute",))
    hold = book.take(plan.limits, costs(5000)).hold
    assert hold is not None
    assert book.take(plan.limits, ONE).refused is not None
    hold.settle(costs(250))
    refused = book.take(plan.limits, ONE).refused
    assert refused is not None
    assert refused.wait_s > 60


def test_what_is_free_still_counts_as_something() -> None:
    """A request whose cost nobody knows is refused too once the money is spent."""
    book, plan = ledger(), plan_of(money=("1/day",))
    hold = book.take(plan.limits, costs(nano=10**9)).hold
    assert book.take(plan.limits, costs(nano=0)).refused is not None
    assert hold is not None
    hold.settle(NOTHING)
    assert book.take(plan.limits, costs(nano=0)).refused is None


def test_shadow_limits_report_and_charge_as_if_they_were_enforced() -> None:
    """They refuse nobody; what they would have refused is not charged to them."""
    book = ledger()
    plan = plan_of(
        total=LimitSet(requests=("2/minute",), tokens=("50/minute",), shadow=True),
        requests=("5/minute",),
    )
    verdicts = [book.take(plan.limits, costs(10)) for _ in range(6)]
    assert [v.refused is None for v in verdicts] == [True] * 5 + [False]
    assert [v.shadowed is not None for v in verdicts] == [False] * 2 + [True] * 3 + [False]
    seen = {(s.limit.kind, s.limit.shadow): s.left for s in verdicts[-1].standings}
    assert seen == {(REQUESTS, False): 0, (REQUESTS, True): 0, (TOKENS, True): 30}


def test_the_tightest_is_the_one_that_refuses_or_has_least_left() -> None:
    """So that a caller is told what it has to mind."""
    book, plan = ledger(), plan_of(requests=("3/minute", "2/hour", "9/day"))
    assert tightest(book.take(plan.limits, ONE).standings).limit.window_s == 3600


_LIMITS = Plans(
    LimitBook(
        of_key=lambda name: LimitSet(
            requests=("6/minute",), tokens=("100/minute",), money=("5/hour",), max_concurrency=3
        ),
        of_model=lambda model: (model, LimitSet(output_tokens=("60/2 minute",))),
        total=LimitSet(tokens=("150/minute",), max_concurrency=4),
    )
)
_SHADOW = Plans(LimitBook(of_key=lambda name: LimitSet(tokens=("40/minute",), shadow=True)))
PLANS = [
    _LIMITS.of_model("bob", "m"),
    _LIMITS.of_model("eve", "m"),
    _LIMITS.of_model("bob", "other"),
    Plan([*_LIMITS.of("eve").limits, *_SHADOW.of("all").limits], reads=True),
]
COSTS = st.builds(costs, st.integers(0, 60), st.integers(0, 60), st.integers(0, 3 * 10**9))


class MemoryMachine(RuleBasedStateMachine):
    """Any interleaving of charging, settling and time passing, against the plain model."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock(0.0)
        self.model = Model()
        self.windows = SlidingWindows(clock=self.clock)
        self.ledger = LocalLedger(self.windows)
        self.live: list[tuple[Hold, Taken]] = []

    @rule(plan=st.sampled_from(PLANS), costs=COSTS)
    def take(self, plan: Plan, costs: Costs) -> None:
        verdict, expected = (
            self.ledger.take(plan.limits, costs),
            self.model.take(plan.limits, costs),
        )
        assert (verdict.refused is None) == (expected is not None)
        if expected is None:
            assert verdict.hold is None
            return
        if verdict.hold is None:
            assert not expected.entries
            return
        assert {e[0].key for e in verdict.hold.entries} == {e[0].key for e in expected.entries}
        self.live.append((verdict.hold, expected))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), spent=COSTS | st.just(NOTHING))
    def settle(self, data: st.DataObject, spent: Costs) -> None:
        hold, taken = self.live.pop(data.draw(st.integers(0, len(self.live) - 1)))
        hold.settle(spent)
        self.model.settle(taken, spent)

    @rule(seconds=st.sampled_from([0.25, 10, 31, 60, 61.5, 125, 3600]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        self.model.now = self.clock.now

    @invariant()
    def the_accounts_agree(self) -> None:
        for plan in PLANS:
            for limit in plan.limits:
                if limit.kind == CONCURRENCY:
                    held = self.ledger._in_progress.get(limit.key, 0)
                    assert held == self.model.places.get(limit.key, 0)
                    assert 0 <= held <= limit.amount
                    continue
                window = self.windows.read(limit.key, limit.window_s)
                index = self.model.window(limit)
                assert window.current == self.model.counts.get((limit.key, index), 0)
                assert window.previous == self.model.counts.get((limit.key, index - 1), 0)

    def teardown(self) -> None:
        for hold, taken in self.live:
            hold.settle(NOTHING)
            self.model.settle(taken, NOTHING)
        self.the_accounts_agree()
        assert self.ledger._in_progress == {}


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 40), st.integers(0, 60)), max_size=60))
def test_without_debts_no_window_holds_more_than_the_limit(
    steps: list[tuple[float, int, int]],
) -> None:
    """What was really used in any fixed window is within the limit where reservations suffice."""
    clock = Clock()
    book, plan = ledger(clock), plan_of(tokens=("100/minute",))
    used: dict[int, int] = {}
    for wait_s, reserved, spent in steps:
        clock.now += wait_s
        verdict = book.take(plan.limits, costs(reserved))
        if verdict.hold is None:
            continue
        really = min(spent, reserved)
        verdict.hold.settle(costs(really))
        window = int(clock.now // 60)
        used[window] = used.get(window, 0) + really
        assert used[window] <= 100
