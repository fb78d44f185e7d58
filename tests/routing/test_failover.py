from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest
from retry_rig import OK, Does, Rig, Upstream
from virtual_time import now, run_virtual

from radgateway.routing.retry_budget import RetryBudgetConfig

DOWN = Does(503)
REFUSED = Does(refused=True)
THREE = RetryBudgetConfig(max_attempts=3, min_per_s=1)
LIMITED = Does(429, headers=((b"retry-after", b"1"),))


def story(*orders: list[Does], asks: dict[str, Any] | None = None, **options: Any) -> Any:
    """One request to providers a, b, ... : the rig afterwards, and what the client got."""

    async def run() -> Any:
        rig = Rig(*(Upstream(n, list(o)) for n, o in zip("abc", orders, strict=False)), **options)
        got = await rig.ask(**asks or {})
        await rig.settle()
        return rig, got

    return run_virtual(run())


def test_a_lone_candidate_is_tried_again_after_a_pause() -> None:
    """A retry is a failover to the same candidate, after full jitter; the record has both."""
    rig, got = story([Does(503, 1.0), OK])
    assert got.status == 200
    assert got.header("x-radgateway-attempts") == "2"
    (record,) = rig.records
    first, second = record.attempts
    assert (first.failure, second.failure) == ("http_503", None)
    assert record.final is second
    assert 0 < record.backed_off_s <= 0.1
    assert second.started - first.ended == pytest.approx(record.backed_off_s)


def test_our_own_retry_after_is_for_the_caller() -> None:
    """What a layer of ours says of waiting is no wish of the provider's."""
    rig, got = story([REFUSED, OK])
    assert got.status == 200
    assert rig.records[0].attempts[0].retry_after_s is None
    assert rig.records[0].backed_off_s <= 0.1


def test_each_pause_of_a_request_may_be_twice_as_long() -> None:
    """Full jitter under a bound that doubles, up to its cap; here always at the bound."""

    class Longest(random.Random):
        def random(self) -> float:
            return 1.0

    async def run() -> list[float]:
        budget = RetryBudgetConfig(max_attempts=7, backoff_s=0.1, backoff_max_s=1)
        rig = Rig(Upstream("a", [DOWN]), budget=budget)
        rig.router._rng = Longest()
        await rig.ask()
        await rig.settle()
        return rig.upstreams[0].calls

    calls = run_virtual(run())
    waits = [later - earlier for earlier, later in itertools.pairwise(calls)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_another_candidate_goes_first_and_needs_no_wait() -> None:
    """Who has not failed is not overloaded."""
    rig, got = story([DOWN], [OK])
    assert got.header("x-radgateway-provider") == "b"
    assert rig.records[0].backed_off_s == 0
    assert rig.upstreams[1].calls == [0.0]


def test_once_all_were_tried_they_take_turns() -> None:
    """The one whose last try is longest ago comes next, and each wait may be longer."""
    budget = RetryBudgetConfig(max_attempts=6)
    rig, got = story([DOWN], [DOWN], budget=budget)
    assert got.status == 503
    assert [a.provider for a in rig.records[0].attempts] == ["a", "b"] * 3
    a, b = rig.upstreams
    assert a.calls[1] > a.calls[0]
    assert b.calls[2] > a.calls[2]


def test_at_the_cap_the_last_answer_is_delivered() -> None:
    """The provider's own words are worth more than ours; no shared budget was spent."""
    rig, got = story([Does(500)])
    assert (got.status, got.body) == (500, b"a")
    assert got.header("x-radgateway-error-source") == "upstream"
    assert len(rig.records[0].attempts) == 2
    assert rig.exhausted == 0


def test_no_number_of_attempts_means_each_candidate_once() -> None:
    """0 is as many as there are candidates, and without the layer it is the same."""
    for options in ({"budget": RetryBudgetConfig(max_attempts=0)}, {"alone": True}):
        rig, got = story([DOWN], [DOWN], **options)
        assert got.status == 503
        assert [len(u.calls) for u in rig.upstreams] == [1, 1]


@pytest.mark.parametrize(
    "does",
    [
        Does(400),
        Does(404),
        Does(409),
        Does(422),
        Does(401),
        Does(403),
        Does(307),
        Does(500, headers=((b"x-should-retry", b"false"),)),
        Does(429, headers=((b"retry-after", b"3"),)),
        Does(503, headers=((b"retry-after-ms", b"2001"),)),
    ],
    ids=lambda does: f"{does.status} {does.headers}",
)
def test_what_the_same_candidate_would_only_repeat_is_not_tried_again(does: Does) -> None:
    """The caller's mistake, our credential, a redirect, a provider that says no or not for long."""
    rig, got = story([does, OK], budget=THREE)
    assert got.status == (502 if does.status == 307 else does.status)
    assert len(rig.upstreams[0].calls) == 1
    assert rig.balance == 10
    assert rig.records[0].backed_off_s == 0


@pytest.mark.parametrize(
    "does", [Does(401), Does(500, headers=((b"x-should-retry", b"false"),)), LIMITED]
)
def test_another_provider_may_still_do_better(does: Does) -> None:
    """`x-should-retry: false` and Retry-After are about the provider that says so."""
    _, got = story([does], [OK])
    assert got.header("x-radgateway-provider") == "b"


def test_a_short_retry_after_is_waited_out() -> None:
    """Not a moment earlier, and spread a little, since others were told the same."""
    rig, got = story([LIMITED, OK])
    assert got.status == 200
    assert 1.0 <= rig.upstreams[0].calls[1] <= 1.1


def test_what_was_never_sent_costs_the_shared_budget_nothing() -> None:
    """But it counts to the request's own number of attempts."""
    none = RetryBudgetConfig(max_attempts=3, ratio=0, min_per_s=0)
    rig, got = story([REFUSED, REFUSED, OK], budget=none)
    assert got.status == 200
    rig, got = story([REFUSED], budget=none)
    assert got.code == "upstream_unreachable"
    assert len(rig.upstreams[0].calls) == 3
    rig, got = story([REFUSED, DOWN, OK], budget=none)
    assert got.code == "retry_budget_exhausted"


def test_without_budget_the_caller_is_told_not_to_retry() -> None:
    """503 with `x-should-retry: false` and when it may be better, counted once."""
    rig, got = story([DOWN, OK], budget=RetryBudgetConfig(ratio=0, min_per_s=0))
    assert (got.status, got.code) == (503, "retry_budget_exhausted")
    assert got.header("x-should-retry") == "false"
    assert int(got.header("retry-after")) >= 1
    assert got.header("x-radgateway-error-source") == "gateway"
    assert rig.exhausted == 1
    assert b"http_503" in got.body
    assert rig.records[0].outcome == "refused"


def test_after_the_commit_point_there_is_no_second_attempt() -> None:
    """What broke after its first content is ended with an error event, whatever the budget."""
    rig, got = story([Does(then="breaks")], [OK], budget=THREE)
    assert got.status == 200
    assert not rig.upstreams[1].calls
    assert len(rig.upstreams[0].calls) == 1
    assert rig.records[0].interrupted == "upstream_connection_lost"


@pytest.mark.parametrize(
    ("patience_s", "fails_after_s", "tried"),
    [(10, 1, 2), (1.0, 1.5, 1), (1.05, 1, 1), (None, 500, 2)],
)
def test_nothing_is_tried_that_the_client_would_not_wait_for(
    patience_s: float | None, fails_after_s: float, tried: int
) -> None:
    """The client's own deadline, from its headers, also ends failovers; its error is delivered."""
    rig, got = story([Does(503, fails_after_s)], [OK], asks={"patience_s": patience_s})
    assert sum(len(u.calls) for u in rig.upstreams) == tried
    assert got.status == (200 if tried == 2 else 503)


def test_a_candidate_that_usually_takes_longer_is_not_worth_it() -> None:
    """What is left must cover the half of its calls, once enough of them are known."""

    async def run(usual_s: float) -> Any:
        rig = Rig(Upstream("a", [Does(503, 1.0)]), Upstream("b", [OK]))
        rig.knows("b", [usual_s] * 5)
        got = await rig.ask(patience_s=3)
        await rig.settle()
        return got.status

    assert run_virtual(run(1.9)) == 200
    assert run_virtual(run(2.1)) == 503


def test_a_pause_never_passes_the_deadline() -> None:
    """Retry-After is only waited out where there is time for an answer after it."""
    for patience_s, tried in ((0.9, 1), (5, 2)):
        rig, _ = story([LIMITED, OK], asks={"patience_s": patience_s})
        assert len(rig.upstreams[0].calls) == tried


def test_a_client_that_leaves_during_the_pause_is_not_waited_for() -> None:
    """The wait ends with it, and the attempt that was paid for is given back."""

    async def run() -> None:
        rig = Rig(Upstream("a", [LIMITED, OK]), budget=RetryBudgetConfig(ratio=0, min_per_s=1))
        await rig.ask(leave_after_s=0.5)
        assert now() == pytest.approx(0.5)
        await rig.settle()
        assert len(rig.upstreams[0].calls) == 1
        assert rig.budget.balance == 10
        assert rig.records[0].outcome == "client_disconnected"

    run_virtual(run())


def test_a_server_that_cancels_during_the_pause_sees_it_cancelled() -> None:
    """The cancellation passes through, and nothing is left behind."""

    async def run() -> None:
        rig = Rig(Upstream("a", [LIMITED, OK]), budget=RetryBudgetConfig(ratio=0, min_per_s=1))
        task = asyncio.create_task(rig.ask())
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await rig.settle()
        assert rig.budget.balance == 10

    run_virtual(run())


def test_a_breaker_that_opens_during_the_pause_is_respected() -> None:
    """The attempt is not made and not paid for; the caller gets the failure there was."""

    async def run() -> None:
        upstream = Upstream("a", [LIMITED, OK])
        rig = Rig(upstream, budget=RetryBudgetConfig(ratio=0, min_per_s=1))
        asyncio.get_running_loop().call_later(0.5, setattr, upstream, "open", False)
        got = await rig.ask()
        await rig.settle()
        assert got.status == 429
        assert len(upstream.calls) == 1
        assert rig.budget.balance == 10

    run_virtual(run())


def test_in_a_storm_further_attempts_at_the_failing_one_stop() -> None:
    """After half of its tokens in failures; another provider is failed over to all the while."""
    budget = RetryBudgetConfig(storm_tokens=10, ratio=0.2, min_per_s=0)
    rich = RetryBudgetConfig(storm_tokens=10, ratio=0.2, min_per_s=0.05, ttl_s=60)

    async def run() -> None:
        rig = Rig(Upstream("a", [DOWN]), budget=rich)
        rig.budget._reserve = 10**9
        answers = [await rig.ask() for _ in range(20)]
        await rig.settle()
        codes = [got.status if got.body == b"a" else got.code for got in answers]
        assert codes[:2] == [503, 503]
        assert codes[3:] == ["retry_budget_exhausted"] * 17
        assert len(rig.upstreams[0].calls) <= 20 + 5
        assert rig.exhausted == codes.count("retry_budget_exhausted")

        rig = Rig(Upstream("a", [DOWN]), Upstream("b", [OK]), budget=budget)
        rig.budget._reserve = 10**9
        answers = [await rig.ask() for _ in range(100)]
        assert {got.header("x-radgateway-provider") for got in answers} == {"b"}

    run_virtual(run())


def test_calls_of_two_minutes_that_fail_can_be_tried_again() -> None:
    """Fifty calls that fail after 120 s pay for ten retries between them, and no more."""

    async def run() -> None:
        upstream = Upstream("a", [Does(503, 120.0)] * 50 + [OK])
        rig = Rig(upstream, budget=RetryBudgetConfig(min_per_s=0, storm_tokens=None))
        answers = await asyncio.gather(*(rig.ask() for _ in range(50)))
        await rig.settle()
        assert [got.status for got in answers].count(200) == 10
        assert rig.exhausted == 40
        assert upstream.sent == 60

    run_virtual(run())


def test_requests_that_go_well_pay_for_those_that_do_not() -> None:
    """They pay at the commit point: streams still under way count."""

    async def run() -> None:
        upstream = Upstream("a", [Does(rest_s=300.0)] * 5 + [DOWN, OK])
        rig = Rig(upstream, budget=RetryBudgetConfig(min_per_s=0))
        streams = [asyncio.create_task(rig.ask()) for _ in range(5)]
        await asyncio.sleep(1)
        assert (await rig.ask()).status == 200
        await asyncio.gather(*streams)
        await rig.settle()

    run_virtual(run())
