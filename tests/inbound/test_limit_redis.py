"""The accounts in Redis, on a real server: shared by processes that come, go and are killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from inbound.limit_model import Model, Taken
from inbound.limit_worker import PLANS, Worker, workers
from limits.aio.storage import RedisStorage
from valkey_server import Valkey, running_valkey

from radgateway.inbound import limit_scripts
from radgateway.inbound.limit_ledger import NOTHING, Hold, LocalLedger, Verdict, judge
from radgateway.inbound.limit_period import index_of
from radgateway.inbound.limit_plan import Costs, Limit, LimitBook, Plan, Plans
from radgateway.inbound.limit_redis import PREFIX, RedisStore
from radgateway.inbound.limit_set import CONCURRENCY, KINDS, Budget, LimitSet
from radgateway.inbound.limit_storage import SlidingWindows, close_storage, storage_of

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with running_valkey() as made:
        yield made


@pytest.fixture
def look(server: Valkey) -> Iterator[Any]:
    """A plain client to look into the server with; the server is empty at first."""
    client = redis.Redis.from_url(server.uri, decode_responses=True)
    client.flushall()
    yield client
    client.close()


def plan_of(total: LimitSet | None = None, **limits: Any) -> Plan:
    own = LimitSet(**limits)
    return Plans(LimitBook(of_key=lambda name: own, total=total)).of("a/b")


def costs(tokens: int = 1, written: int = 0, nano: int = 0) -> Costs:
    return (1, tokens + written, tokens, written, nano, 1)


ONE = costs()


def with_store(
    server: Valkey, story: Callable[[RedisStore], Awaitable[None]], *, lease_s: float = 30.0
) -> None:
    async def run() -> None:
        storage = storage_of(server.uri, timeout_s=20.0)
        assert isinstance(storage, RedisStorage)
        store = RedisStore(storage, lease_s=lease_s)
        try:
            await story(store)
        finally:
            await store.keeper.aclose()
            await close_storage(storage)

    asyncio.run(run())


async def settled(store: RedisStore) -> None:
    async with asyncio.timeout(20):
        while store.keeper.pending:
            await asyncio.sleep(0.001)


def left(verdict: Verdict) -> dict[str, int]:
    return {KINDS[s.limit.kind]: s.left for s in verdict.standings}


def test_it_says_what_the_ledger_in_memory_says(server: Valkey, look: Any) -> None:
    """The same requests against the same limits, refused and told alike."""

    async def story(store: RedisStore) -> None:
        plan = plan_of(
            requests=("20/day",),
            tokens=("500/day",),
            money=("1/day",),
            max_concurrency=4,
            total=LimitSet(output_tokens=("150/day",), requests=("12/day",), shadow=True),
        )
        local = LocalLedger(SlidingWindows(clock=time.time))
        held: list[tuple[Hold, Hold]] = []
        for step in range(60):
            cost = costs(step * 7 % 50, step * 11 % 40, step * 10**7)
            ours, theirs = local.take(plan.limits, cost), await store.take(plan.limits, cost)
            for one, other in zip(ours.standings, theirs.standings, strict=True):
                assert one[:4] == other[:4], step
                # A window ends a hair later for the second of the two.
                assert one.wait_s == pytest.approx(other.wait_s, abs=0.5)
                assert one.reset_s == pytest.approx(other.reset_s, abs=0.5)
            for mine, its in ((ours.refused, theirs.refused), (ours.shadowed, theirs.shadowed)):
                assert (mine and mine.limit) == (its and its.limit), step
            if ours.hold is not None and theirs.hold is not None:
                held.append((ours.hold, theirs.hold))
            if len(held) == 3 or step % 5 == 4:
                for pair in held:
                    for hold in pair:
                        hold.settle(costs(step % 30, step % 9, 10**6))
                held.clear()
                await settled(store)

    with_store(server, story)


def test_a_refused_request_leaves_no_trace(server: Valkey, look: Any) -> None:
    """Not at the limit that refused it, and at none of the others."""

    async def story(store: RedisStore) -> None:
        plan = plan_of(requests=("9/day",), tokens=("100/day",), max_concurrency=5)
        first = await store.take(plan.limits, costs(90))
        before = {key: dump(look, key) for key in look.keys("*")}
        for _ in range(3):
            verdict = await store.take(plan.limits, costs(20))
            assert verdict.refused is not None
            assert verdict.refused.limit.text == "100 tokens per day"
        assert {key: dump(look, key) for key in look.keys("*")} == before
        assert first.hold is not None
        first.hold.settle(NOTHING)

    with_store(server, story)


def dump(look: Any, key: str) -> Any:
    return look.hgetall(key) if look.type(key) == "hash" else look.zrange(key, 0, -1)


def test_every_key_has_its_prefix_and_an_end(server: Valkey, look: Any) -> None:
    """Nothing stays for ever, and all of it lives in one slot of a cluster."""

    async def story(store: RedisStore) -> None:
        plan = plan_of(
            requests=("9/minute",), tokens=("9/minute",), money=("1/day",), max_concurrency=2
        )
        hold = (await store.take(plan.limits, ONE)).hold
        assert hold is not None
        keys = look.keys("*")
        assert len(keys) == 6
        assert all(key.startswith(PREFIX) for key in keys)
        assert len({look.execute_command("CLUSTER KEYSLOT", key) for key in keys}) == 1
        bounds = {"requests": 120, "tokens": 150, "money": 2 * 86_400 + 30, "concurrency": 30}
        for key in keys:
            kind = key.split("/")[3]
            assert 0 < look.ttl(key) <= bounds[kind], key
        hold.settle(ONE)
        await settled(store)
        assert sorted(key.split("/")[3] for key in look.keys("*")) == [
            "money",
            "requests",
            "tokens",
        ]
        assert all(look.ttl(key) > 0 for key in look.keys("*"))

    with_store(server, story)


def test_owners_with_slashes_have_accounts_of_their_own(server: Valkey, look: Any) -> None:
    """`a/b` is not `a` with something after it."""

    async def story(store: RedisStore) -> None:
        plans = Plans(
            LimitBook(
                of_key=lambda name: LimitSet(requests=("1/day",)),
                of_model=lambda model: (model, LimitSet(requests=("1/day",))),
            )
        )
        for name, model in (("a/b", "c"), ("a", "b/c"), ("a%2Fb", "c%2F")):
            verdict = await store.take(plans.of_model(name, model).limits, ONE)
            assert verdict.refused is None
        assert len(look.keys("*")) == 6

    with_store(server, story)


def test_a_server_that_lost_the_scripts_gets_them_again(server: Valkey, look: Any) -> None:
    """After a restart or SCRIPT FLUSH the next request carries the script."""

    async def story(store: RedisStore) -> None:
        plan = plan_of(tokens=("9/day",))
        for _ in range(2):
            hold = (await store.take(plan.limits, ONE)).hold
            assert hold is not None
            look.script_flush()
            hold.settle(NOTHING)
            await settled(store)
        assert left(await store.take(plan.limits, ONE)) == {"tokens": 9}

    with_store(server, story)


def test_valkeys_own_client_does_as_well(server: Valkey, look: Any) -> None:
    """A `valkey://` address goes through valkey-py; many at once, scripts unknown at first."""

    async def run() -> None:
        storage = storage_of(server.uri.replace("redis://", "valkey://"), timeout_s=20.0)
        assert isinstance(storage, RedisStorage)
        store = RedisStore(storage, lease_s=30)
        look.script_flush()
        plan = plan_of(tokens=("50/day",))
        verdicts = await asyncio.gather(*(store.take(plan.limits, ONE) for _ in range(80)))
        assert sum(verdict.refused is None for verdict in verdicts) == 50
        for verdict in verdicts:
            if verdict.hold is not None:
                verdict.hold.settle(NOTHING)
        await settled(store)
        assert left(await store.take(plan.limits, ONE)) == {"tokens": 50}
        await store.keeper.aclose()
        await close_storage(storage)

    asyncio.run(run())


def test_large_amounts_stay_exact(server: Valkey, look: Any) -> None:
    """A million dollars to the billionth: Lua would write that with an exponent."""

    async def story(store: RedisStore) -> None:
        plan = plan_of(money=("900000/month",))
        exact = 123_456_789_012_345
        verdict = await store.take(plan.limits, costs(nano=exact))
        assert verdict.hold is not None
        assert left(await store.take(plan.limits, ONE)) == {"money": 900_000 * 10**9 - exact}
        verdict.hold.settle(costs(nano=exact + 1))
        await settled(store)
        assert left(await store.take(plan.limits, ONE)) == {"money": 900_000 * 10**9 - exact - 2}

    with_store(server, story)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ago=st.integers(-1, 3),
    current=st.integers(0, 30),
    previous=st.integers(0, 30),
    cost=st.integers(1, 20),
)
def test_windows_roll_on(
    server: Valkey, look: Any, ago: int, current: int, previous: int, cost: int
) -> None:
    """Counts of some windows ago count as they should; a clock behind its predecessor's too."""
    look.flushall()

    async def story(store: RedisStore) -> None:
        limit = plan_of(tokens=("20/year",)).limits[0]
        index = int(time.time() / limit.window_s)
        there = {"i": index - ago, "c": current, "p": previous}
        look.hset(f"{PREFIX}{limit.key}", mapping=there)
        (standing,) = (verdict := await store.take([limit], costs(cost))).standings
        now, before = {-1: (current, previous), 0: (current, previous), 1: (0, current)}.get(
            ago, (0, 0)
        )
        # The clock that is behind is still in the whole of its window.
        left_s = (index + 1) * limit.window_s - time.time() if ago >= 0 else limit.window_s
        expected = judge(limit, cost, before, now, left_s)
        assert abs(standing.left - expected.left) <= 1
        assert (verdict.refused is None) == standing.allowed
        if verdict.hold is not None:
            counted = look.hmget(f"{PREFIX}{limit.key}", "i", "c", "p")
            expected_index = index + 1 if ago == -1 else index
            assert counted == [str(expected_index), str(now + cost), str(before)]

    with_store(server, story)


def test_a_settlement_of_what_has_expired_is_charged_once(server: Valkey, look: Any) -> None:
    """A request that outlived its lease was refunded; what it used counts all the same."""

    async def story(store: RedisStore) -> None:
        plan = plan_of(tokens=("100/day",), max_concurrency=1)
        hold = (await store.take(plan.limits, costs(40))).hold
        assert hold is not None
        expire(look, plan.limits, hold.id)
        second = await store.take(plan.limits, ONE)
        assert left(second) == {"tokens": 100, "concurrency": 1}
        hold.settle(costs(30))
        await settled(store)
        assert left(await store.take(plan.limits, ONE)) == {"tokens": 69, "concurrency": 0}

    with_store(server, story)


def test_a_settlement_that_is_tried_again_counts_once(server: Valkey, look: Any) -> None:
    """The first try may have arrived though its answer did not."""

    async def story(store: RedisStore) -> None:
        plan = plan_of(tokens=("100/day",))
        really = store._settle
        tries = 0

        async def answer_lost(**arguments: Any) -> None:
            nonlocal tries
            tries += 1
            await really(**arguments)
            if tries == 1:
                raise ConnectionError("the answer was lost")

        store._settle = answer_lost
        hold = (await store.take(plan.limits, costs(40))).hold
        assert hold is not None
        hold.settle(costs(70))
        await settled(store)
        assert tries == 2
        assert left(await store.take(plan.limits, ONE)) == {"tokens": 30}

    with_store(server, story)


def test_a_charge_whose_request_was_cancelled_is_given_back(server: Valkey, look: Any) -> None:
    """The client left while the server was asked: whatever it did, nothing stays taken."""

    async def story(store: RedisStore) -> None:
        plan = plan_of(tokens=("100/day",), max_concurrency=1)
        really = store._take
        arrived, answer = asyncio.Event(), asyncio.Event()

        async def slow(**arguments: Any) -> Any:
            result = await really(**arguments)
            arrived.set()
            await answer.wait()
            return result

        async def cancelled(*moments: asyncio.Event | int) -> None:
            arrived.clear()
            answer.clear()
            asking = asyncio.ensure_future(store.take(plan.limits, costs(40)))
            for moment in moments:
                for _ in range(moment if isinstance(moment, int) else 0):
                    await asyncio.sleep(0)
                if moment is arrived:
                    await arrived.wait()
                elif moment is answer:
                    answer.set()
            asking.cancel()
            try:
                verdict = await asking
            except asyncio.CancelledError:
                answer.set()
            else:
                # It was done, and its request goes on to end as any other does.
                assert verdict.hold is not None
                verdict.hold.settle(NOTHING)
            await store._batches.idle()
            await settled(store)

        store._take = slow
        await cancelled()  # before anything was sent
        await cancelled(2)  # on its way
        await cancelled(arrived)  # made, and not answered
        for turns in range(6):  # answered in the turn in which the request is given up
            await cancelled(arrived, answer, turns)
        store._take = really
        assert left(await store.take(plan.limits, ONE)) == {"tokens": 100, "concurrency": 1}

    with_store(server, story)


def expire(look: Any, limits: Any, id: str) -> None:
    """Make it so long ago that a lease was renewed that it has run out."""
    for limit in limits:
        key = f"{PREFIX}{limit.key}"
        leases = key if limit.kind == CONCURRENCY else f"{key}/leases"
        if limit.holds:
            look.zadd(leases, {id: 1}, xx=True)


def test_two_processes_let_in_together_what_the_limit_says(server: Valkey, look: Any) -> None:
    """Both ask at once and as fast as they can; the sum is the limit, to the request."""
    with workers(server.uri) as pair:
        for worker in pair:
            worker.begin("hammer", 0, costs(1), 200)
        assert sum(worker.end() for worker in pair) <= 12
        # Places bound how many pass at a time; asked again and again, all of the limit is given.
        taken = int(look.hget(f"{PREFIX}{PLANS[0].limits[0].key}", "c"))
        for _ in range(12):
            taken += sum(worker.ask("hammer", 0, costs(1), 2) for worker in pair)
        assert taken == 12
        assert int(look.hget(f"{PREFIX}{PLANS[0].limits[0].key}", "c")) == 12
    assert look.zcard(f"{PREFIX}all/concurrency/0") == 0


def test_what_a_killed_process_held_is_free_after_its_lease(server: Valkey, look: Any) -> None:
    """And what a living one holds stays held for much longer than a lease."""
    with workers(server.uri, lease_s=0.4) as (one, other):
        for worker in (one, other):
            passed, _ = worker.ask("take", 0, costs(30))
            assert passed
        one.kill()
        other.ask("rest", 1.5)
        limits = {limit.key: limit for limit in PLANS[0].limits}
        verdicts: list[Verdict] = []

        async def story(store: RedisStore) -> None:
            verdicts.append(await store.take(list(limits.values()), ONE))

        with_store(server, story)
        assert left(verdicts[0])["concurrency"] in (2, 3)
        seen = {s.limit.key: s.left for s in verdicts[0].standings}
        assert seen["key/bob/tokens/31104000"] == 70
        assert seen["key/bob/concurrency/0"] == 2
        assert seen["all/concurrency/0"] == 3


_COSTS: st.SearchStrategy[Costs] = st.builds(
    costs, st.integers(0, 30), st.integers(0, 30), st.integers(0, 2 * 10**9)
)


class RedisMachine(RuleBasedStateMachine):
    """Any interleaving of two processes that charge, settle, retry, are killed and expire."""

    server: Valkey
    look: Any

    def __init__(self) -> None:
        super().__init__()
        self.look.flushall()
        self.model = Model()
        self.pair = [Worker(self.server.uri) for _ in range(2)]
        self.live: list[tuple[int, str, Taken]] = []
        self.dead: list[tuple[str, Taken]] = []

    @rule(who=st.integers(0, 1), plan=st.integers(0, len(PLANS) - 1), data=st.data())
    def take(self, who: int, plan: int, data: st.DataObject) -> None:
        cost = data.draw(_COSTS)
        passed, id = self.pair[who].ask("take", plan, cost)
        expected = self.model.take(PLANS[plan].limits, cost)
        assert passed == (expected is not None)
        if expected is not None and expected.entries:
            self.live.append((who, id, expected))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), spent=_COSTS | st.just(NOTHING))
    def settle(self, data: st.DataObject, spent: Costs) -> None:
        who, id, taken = self.live.pop(data.draw(st.integers(0, len(self.live) - 1)))
        self.pair[who].ask("settle", id, spent)
        self.model.settle(taken, spent)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), spent=_COSTS)
    def settle_late(self, data: st.DataObject, spent: Costs) -> None:
        """A living process whose lease ran out, because it was stopped or cut off, settles."""
        who, id, taken = self.live.pop(data.draw(st.integers(0, len(self.live) - 1)))
        self._expire(id, taken)
        self.sweep()
        self.pair[who].ask("settle", id, spent)
        self.model.charge(taken, spent)

    @rule(who=st.integers(0, 1))
    def crash(self, who: int) -> None:
        self.pair[who].kill()
        self.dead += [(id, taken) for owner, id, taken in self.live if owner == who]
        self.live = [entry for entry in self.live if entry[0] != who]
        self.pair[who] = Worker(self.server.uri)

    @precondition(lambda self: self.dead)
    @rule()
    def leases_run_out(self) -> None:
        for id, taken in self.dead:
            self._expire(id, taken)
        self.dead.clear()
        self.sweep()

    def _expire(self, id: str, taken: Taken) -> None:
        expire(self.look, [limit for limit, _, _ in taken.entries], id)
        self.model.expire(taken)

    def sweep(self) -> None:
        """Look at every account, as the next request of each would."""
        impossible = (1, 10**12, 10**12, 10**12, 10**15, 1)
        everything = [_refusing(plan) for plan in PLANS]

        async def story(store: RedisStore) -> None:
            for limits in everything:
                verdict = await store.take(limits, impossible)
                assert verdict.refused is not None

        with_store(self.server, story)

    @invariant()
    def the_accounts_agree(self) -> None:
        held = {id for _, id, _ in self.live} | {id for id, _ in self.dead}
        for limit in {limit.key: limit for plan in PLANS for limit in plan.limits}.values():
            key = f"{PREFIX}{limit.key}"
            if limit.kind == CONCURRENCY:
                places = set(self.look.zrange(key, 0, -1))
                assert places <= held
                assert len(places) == self.model.places.get(limit.key, 0) <= limit.amount
                continue
            there = self.look.hgetall(key)
            counted = sum(n for (name, _), n in self.model.counts.items() if name == limit.key)
            assert int(there.get("c", 0)) == counted
            assert there.keys() - {"i", "c", "p"} <= held

    def teardown(self) -> None:
        for worker in self.pair:
            worker.kill()
        for id, taken in [*self.dead, *((id, taken) for _, id, taken in self.live)]:
            self._expire(id, taken)
        self.live, self.dead = [], []
        self.sweep()
        self.the_accounts_agree()
        assert not any(self.look.zcard(key) for key in self.look.keys("*leases"))


def _refusing(plan: Plan) -> list[Limit]:
    """A plan's limits and one that no request passes, so that looking charges nothing."""
    never = Plans(LimitBook(of_key=lambda name: LimitSet(max_concurrency=1))).of("never").limits[0]
    never.amount = 0
    return [*plan.limits, never]


@given(st.lists(st.integers(0, 84_000), min_size=50, max_size=50))
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_servers_calendar_is_the_calendar(server: Valkey, look: Any, days: list[int]) -> None:
    """Its months are Python's, leap years and centuries included."""
    script = limit_scripts.TAKE.partition("-- A window's number")[0]
    script += (
        "local found = {} for i, day in ipairs(ARGV) do found[i] = month(day) end return found"
    )
    days += [index_day for year in (1972, 2000, 2024, 2100) for index_day in around(year)]
    assert look.eval(script, 0, *days) == [index_of("month", day * 86_400) for day in days]


def around(year: int) -> list[int]:
    """The days about the ends of February and December."""
    ends = [datetime(year, 3, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)]
    return [int(end.timestamp() // 86_400) + by for end in ends for by in (-2, -1, 0, 1)]


def test_a_budget_of_two_processes_is_one_budget(server: Valkey, look: Any) -> None:
    """Together they get what it pays for, and all of it while one of them is killed at work."""
    with workers(server.uri) as (one, other):
        for worker in (one, other):
            worker.begin("hammer", 4, costs(nano=10**8), 60)
        assert one.end() + other.end() == 50
        (month, day) = (look.hgetall(f"{PREFIX}{limit.key}") for limit in PLANS[4].limits)
        assert (month["c"], day["c"]) == (str(5 * 10**9), str(5 * 10**9))
        assert month["i"] == str(index_of("month", time.time()))
        assert day["i"] == str(index_of("day", time.time()))


def test_a_budget_is_settled_and_looked_at(server: Valkey, look: Any) -> None:
    """With what the request cost; the look leaves no trace, and says when it starts over."""

    async def story(store: RedisStore) -> None:
        limits = plan_of(budget=Budget(usd=Decimal(5), per="day"), max_concurrency=3).limits
        hold = (await store.take(limits, costs(nano=4 * 10**9))).hold
        refused = (await store.take(limits, costs(nano=2 * 10**9))).refused
        assert hold is not None
        assert refused is not None
        until_s = 86_400 - time.time() % 86_400
        assert refused.wait_s == pytest.approx(until_s, abs=5)
        hold.settle(costs(nano=10**9))
        await settled(store)
        before = {key: dump(look, key) for key in look.keys("*")}
        found = {s.limit.name: s.left for s in await store.look(limits)}
        assert found == {"budget": 4 * 10**9, "concurrency": 3}
        assert {key: dump(look, key) for key in look.keys("*")} == before
        ttl = look.ttl(f"{PREFIX}{limits[0].key}")
        assert 86_400 < ttl <= 2 * 86_400 + 30

    with_store(server, story)


def test_a_budget_that_began_anew_is_not_corrected_for_the_last_one(
    server: Valkey, look: Any
) -> None:
    """Neither by a refund nor by a debt of a request from before; one that expired gives back."""

    async def story(store: RedisStore) -> None:
        limits = plan_of(budget=Budget(usd=Decimal(5), per="month")).limits
        holds = [(await store.take(limits, costs(nano=10**9))).hold for _ in range(2)]
        key = f"{PREFIX}{limits[0].key}"
        index = int(look.hget(key, "i"))
        for hold in holds:
            assert hold is not None
            look.hset(key, hold.id, f"{index - 1}:{10**9}")
        for hold, spent in zip(holds, (3 * 10**9, 0), strict=True):
            assert hold is not None
            hold.settle(costs(nano=spent))
        await settled(store)
        assert [s.left for s in await store.look(limits)] == [3 * 10**9]

    with_store(server, story)


@pytest.mark.slow
def test_any_interleaving_of_two_processes(server: Valkey, look: Any) -> None:
    """Against the plain model: nothing leaks, nothing is counted twice, no limit is exceeded."""
    RedisMachine.server, RedisMachine.look = server, look
    run_state_machine_as_test(
        RedisMachine, settings=settings(max_examples=15, stateful_step_count=30, deadline=None)
    )
