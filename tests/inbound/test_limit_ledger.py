"""The accounts in this process: charged all or none, settled to the last token."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from inbound.limit_model import Model, Taken

from radgateway.inbound.limit_ledger import NOTHING, Hold, LocalLedger, Verdict, judge, tightest
from radgateway.inbound.limit_period import Period, index_of
from radgateway.inbound.limit_plan import Costs, Limit, LimitBook, Plan, Plans
from radgateway.inbound.limit_set import CONCURRENCY, KINDS, REQUESTS, TOKENS, Budget, LimitSet
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


MIDNIGHT = datetime(2026, 11, 30, tzinfo=UTC).timestamp()
DAY = 86_400


def budget(usd: str, per: Period) -> Limit:
    return plan_of(budget=Budget(usd=Decimal(usd), per=per)).limits[0]


def money(usd: float) -> Costs:
    return costs(nano=round(usd * 10**9))


def test_a_budget_is_whole_again_when_its_period_begins() -> None:
    """Not a moment before, and it does not slide: all of it is there."""
    wall = Clock(MIDNIGHT + DAY - 10)
    book = LocalLedger(SlidingWindows(clock=Clock()), wall=wall)
    for per, left_s in (("day", 10), ("month", 10)):
        limit = budget("2.50", per)  # type: ignore[arg-type]
        wall.now = MIDNIGHT + DAY - left_s
        assert book.take([limit], money(2.5)).refused is None
        refused = book.take([limit], money(0)).refused
        assert refused is not None
        assert (refused.wait_s, refused.left) == (left_s, 0)
        wall.now += left_s - 0.001
        assert book.take([limit], money(0.1)).refused is not None
        wall.now += 0.001
        assert book.take([limit], money(2.5)).refused is None


def test_what_a_request_cost_belongs_to_the_period_it_began_in() -> None:
    """As in the ledger of usage, whose sums a budget can be compared with."""
    wall = Clock(MIDNIGHT - 1)
    book, limit = LocalLedger(SlidingWindows(clock=Clock()), wall=wall), budget("10", "day")
    hold = book.take([limit], money(4)).hold
    wall.now += 2
    book.take([limit], money(1))
    assert hold is not None
    hold.settle(money(9))
    assert book.look([limit])[0].left == 9 * 10**9


def test_a_look_charges_nothing_and_earlier_spending_is_taken_off() -> None:
    """What was spent before a restart counts."""
    wall = Clock(MIDNIGHT)
    book = LocalLedger(SlidingWindows(clock=Clock()), wall=wall)
    limits = plan_of(budget=Budget(usd=Decimal(3)), tokens=("9/minute",), max_concurrency=2).limits
    for limit in limits:
        book.spend(limit, 2 * 10**9)
    for _ in range(3):
        found = {s.limit.name: (s.left, s.allowed) for s in book.look(limits)}
        assert found == {
            "budget": (10**9, True),
            "tokens": (9, True),
            "concurrency": (2, True),
        }
    assert book.take(limits, money(1.5)).refused is not None
    assert book.take(limits, money(1)).refused is None


class BudgetMachine(RuleBasedStateMachine):
    """Any interleaving of requests and time: nothing is spent beyond a budget but what requests in
    progress cost more than they were reserved for."""

    def __init__(self) -> None:
        super().__init__()
        self.wall = Clock(MIDNIGHT)
        self.ledger = LocalLedger(SlidingWindows(clock=self.wall), wall=self.wall)
        self.limits = [budget("1", "day"), budget("3", "month")]
        self.live: list[tuple[float, dict[str, int], Hold]] = []
        self.spent: list[tuple[float, dict[str, int], int]] = []

    @rule(nano=st.integers(0, 2 * 10**9))
    def take(self, nano: int) -> None:
        verdict = self.ledger.take(self.limits, costs(nano=nano))
        if verdict.hold is not None:
            reserved = {limit.key: cost for limit, _, cost in verdict.hold.entries}
            self.live.append((self.wall.now, reserved, verdict.hold))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), nano=st.integers(0, 2 * 10**9))
    def settle(self, data: st.DataObject, nano: int) -> None:
        began, reserved, hold = self.live.pop(data.draw(st.integers(0, len(self.live) - 1)))
        hold.settle(costs(nano=nano))
        self.spent.append((began, reserved, nano))

    @rule(seconds=st.sampled_from([1, 3600, DAY - 1, DAY, 20 * DAY]))
    def time_passes(self, seconds: float) -> None:
        self.wall.now += seconds

    @invariant()
    def spent_within_the_budget(self) -> None:
        for limit in self.limits:
            assert limit.period is not None
            now = index_of(limit.period, self.wall.now)
            ours = [s for s in self.spent if index_of(limit.period, s[0]) == now]
            over = sum(max(0, nano - reserved[limit.key]) for _, reserved, nano in ours)
            total = sum(nano for _, _, nano in ours)
            assert total <= limit.amount + over
            held = sum(
                reserved[limit.key]
                for began, reserved, _ in self.live
                if index_of(limit.period, began) == now
            )
            (standing,) = self.ledger.look([limit])
            assert limit.amount - standing.left == total + held


TestBudgetMachine = BudgetMachine.TestCase
TestBudgetMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
