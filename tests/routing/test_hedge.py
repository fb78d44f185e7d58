from __future__ import annotations

import asyncio
from typing import Any

import pytest
from retry_rig import BODY, OK, USAGE, Does, Rig, Upstream
from virtual_time import now, run_virtual

from radgateway.exchange import HEDGE_LOST, Exchange
from radgateway.routing.hedge import HedgeConfig, Race
from radgateway.routing.retry_budget import RetryBudgetConfig
from radgateway.telemetry.instruments import Instruments
from radgateway.telemetry.metrics import record
from radgateway.usage.row import row_of

HEDGE = HedgeConfig(min_samples=5, min_delay_s=0.1)
RICH = RetryBudgetConfig(ratio=0, min_per_s=1)
USUAL_S = 0.5
"""What the first provider's calls are known to take."""


def story(
    *orders: list[Does],
    asks: dict[str, Any] | None = None,
    hedge: HedgeConfig | None = HEDGE,
    budget: RetryBudgetConfig = RICH,
    prepare: Any = None,
    **options: Any,
) -> Any:
    """One request to a first provider that usually takes 0.5 s, and others: the rig, the answer."""

    async def run() -> Any:
        upstreams = [Upstream(n, list(o)) for n, o in zip("abc", orders, strict=False)]
        rig = Rig(*upstreams, hedge=hedge, budget=budget, **options)
        rig.knows("a", [USUAL_S] * 20)
        if prepare is not None:
            prepare(rig)
        got = await rig.ask(**asks or {})
        await rig.settle()
        return rig, got

    return run_virtual(run())


def outcomes(record_: Exchange) -> dict[str, float]:
    """What the metrics count of the hedges of a request."""
    instruments = Instruments()
    record_.clock = lambda: 99.0  # the loop that was its clock is closed
    record(instruments, record_, "other")
    return {
        outcome: value
        for outcome in ("won", "lost", "failed", "abandoned")
        if (value := instruments.hedges(outcome)._value.get())
    }


def test_a_late_first_attempt_is_joined_by_another_which_wins() -> None:
    """At the quantile of its first byte the next candidate gets the request too; one answers."""
    rig, got = story([Does(after_s=9)], [Does(after_s=0.2, rest_s=1)])
    a, b = rig.upstreams
    assert (got.status, got.header("x-radgateway-provider")) == (200, "b")
    assert got.header("x-radgateway-attempts") == "2"
    assert b.calls == [pytest.approx(USUAL_S)]
    assert got.ended_at == pytest.approx(USUAL_S + 0.2 + 1)
    assert (a.cancelled, b.cancelled) == (1, 0)
    (made,) = rig.records
    first, second = made.attempts
    assert (first.failure, first.hedge) == (HEDGE_LOST, False)
    assert (second.failure, second.hedge) == (None, True)
    assert first.ended == pytest.approx(USUAL_S + 0.2)
    assert made.final is second
    assert made.outcome == "success"
    assert outcomes(made) == {"won": 1}
    assert rig.balance == 9


def test_a_first_attempt_that_comes_after_all_wins() -> None:
    """Whoever is first to the commit point: the hedge is the one that is cancelled then."""
    rig, got = story([Does(after_s=0.6, rest_s=2)], [Does(after_s=0.5)])
    a, b = rig.upstreams
    assert got.header("x-radgateway-provider") == "a"
    assert got.ended_at == pytest.approx(2.6)
    assert (a.cancelled, b.cancelled) == (0, 1)
    (made,) = rig.records
    first, second = made.attempts
    assert (first.failure, second.failure) == (None, HEDGE_LOST)
    assert second.ended == pytest.approx(0.6)
    assert made.final is first
    assert outcomes(made) == {"lost": 1}


@pytest.mark.parametrize(("body", "output"), [(BODY, 0), (b'{"model":"m"}', 500)])
def test_the_losers_usage_is_estimated_and_not_nothing(body: bytes, output: int) -> None:
    """It was sent, so its provider charges for the prompt, and for an answer that does not stream
    as well; what the request shows is the winner's."""
    rig, _ = story([Does(after_s=9)], [Does(rest_s=1)], asks={"body": body})
    row = row_of(rig.records[0])
    lost, won = row.attempts
    assert (lost.failure, lost.hedge, lost.sent) == (HEDGE_LOST, False, True)
    assert (lost.usage_source, lost.input_tokens) == ("estimated", -(-len(body) // 4))
    assert lost.output_tokens == output
    assert (won.hedge, won.usage_source, won.output_tokens) == (True, "reported", 4)
    assert (row.provider, row.usage_source, row.output_tokens) == ("b", "reported", 4)


def test_in_time_there_is_no_hedge() -> None:
    """A first byte before the quantile is all it takes, however long the rest does."""
    rig, got = story([Does(after_s=0.4, rest_s=60)], [OK])
    assert got.header("x-radgateway-attempts") == "1"
    assert not rig.upstreams[1].calls
    assert rig.balance == 10


@pytest.mark.parametrize(
    ("why", "options"),
    [
        ("it is off", {"hedge": None}),
        ("the prompt is long", {"asks": {"body": BODY + b" " * 20_000}}),
        ("few calls are known", {"hedge": HedgeConfig(min_samples=21)}),
        ("the request has one attempt", {"budget": RetryBudgetConfig(max_attempts=1)}),
        ("there is no budget", {"budget": RetryBudgetConfig(ratio=0, min_per_s=0)}),
        ("there is no budget layer", {"alone": True}),
        ("the other is closed", {"prepare": lambda rig: setattr(rig.upstreams[1], "open", False)}),
        ("the client will have gone", {"asks": {"patience_s": 0.55}}),
    ],
)
def test_there_is_no_hedge_where(why: str, options: dict[str, Any]) -> None:
    """The first attempt goes on by itself, and nobody is refused for it."""
    rig, got = story([Does(after_s=9)], [OK], **options)
    assert not rig.upstreams[1].calls, why
    assert got.header("x-radgateway-provider") == "a"
    assert rig.exhausted == 0


def test_off_there_is_no_task() -> None:
    """The common path stays in the request's own task."""
    seen: list[int] = []

    class Counting(Upstream):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            seen.append(len(asyncio.all_tasks()))
            await super().__call__(scope, receive, send)

    async def run() -> None:
        rig = Rig(Counting("a", [OK]), Upstream("b", [OK]))
        await rig.ask()

    run_virtual(run())
    assert seen == [1]


@pytest.mark.parametrize("who", ["first", "hedge"])
@pytest.mark.parametrize("how", [Does(503, 0.3), Does(refused=True, after_s=0.3)])
def test_the_failure_of_one_lets_the_other_go_on(who: str, how: Does) -> None:
    """A race has an answer as long as one of the two does."""
    if who == "first":
        late = Does(how.status, USUAL_S + 0.3, refused=how.refused)
        rig, got = story([late], [Does(after_s=2)])
    else:
        rig, got = story([Does(after_s=2)], [how])
        assert outcomes(rig.records[0]) == {"failed": 1}
    assert got.status == 200
    assert got.header("x-radgateway-provider") == ("b" if who == "first" else "a")
    assert [u.cancelled for u in rig.upstreams] == [0, 0]
    # What was never sent is nobody's load, whichever of the two it was.
    assert rig.balance == (10 if how.refused else 9)


def test_when_both_fail_the_next_is_tried_within_the_number() -> None:
    """The hedge is one of the request's attempts; after the last, its answer is delivered."""
    budget = RetryBudgetConfig(max_attempts=3, min_per_s=1)
    failing = ([Does(503, 1)], [Does(500, 1)])
    rig, got = story(*failing, [OK], budget=budget)
    assert got.header("x-radgateway-provider") == "c"
    assert [a.hedge for a in rig.records[0].attempts] == [False, True, False]
    rig, got = story(*failing, [OK])
    assert (got.status, got.body) == (500, b"b")
    (made,) = rig.records
    assert made.final is made.attempts[1]
    assert row_of(made).provider == "b"


def test_when_both_fail_and_there_is_no_other_one_is_tried_again() -> None:
    """The one that failed first, after a pause, as after attempts that came one by one."""
    budget = RetryBudgetConfig(max_attempts=3, min_per_s=1)
    rig, got = story([Does(503, 1), OK], [Does(500, 1), OK], budget=budget)
    assert (got.status, got.header("x-radgateway-provider")) == (200, "a")
    assert [a.hedge for a in rig.records[0].attempts] == [False, True, False]
    assert 0 < rig.records[0].backed_off_s <= 0.1


def test_a_failure_before_the_quantile_is_an_ordinary_failover() -> None:
    """There is nothing to race against."""
    rig, got = story([Does(503, 0.1)], [Does(after_s=9)], [OK])
    assert got.header("x-radgateway-provider") == "b"
    assert [a.hedge for a in rig.records[0].attempts] == [False, False]


def test_there_is_one_hedge_at_most() -> None:
    """However late both are."""
    budget = RetryBudgetConfig(max_attempts=9, min_per_s=1)
    rig, _ = story([Does(after_s=60)], [Does(after_s=60)], [OK], budget=budget)
    assert not rig.upstreams[2].calls


@pytest.mark.parametrize("leaves_s", [0.2, 0.7, 1.5])
def test_a_client_that_leaves_cancels_both(leaves_s: float) -> None:
    """Before the hedge, while they race, and while the winner's stream is under way."""
    rig, _ = story(
        [Does(after_s=9)], [Does(after_s=0.5, rest_s=9)], asks={"leave_after_s": leaves_s}
    )
    a, b = rig.upstreams
    assert a.cancelled == 1
    assert b.cancelled == (leaves_s > USUAL_S)
    (made,) = rig.records
    assert made.outcome == "client_disconnected"
    assert [x.failure for x in made.attempts] == [
        HEDGE_LOST if leaves_s == 1.5 else None,
        *([None] if b.cancelled else []),
    ]
    if leaves_s == 0.7:
        assert outcomes(made) == {"abandoned": 1}


def test_a_loser_that_takes_its_time_to_end_does_not_hold_up_the_answer() -> None:
    """It is waited for, so nothing is left behind, but the winner's stream is not."""

    def slow_to_close(rig: Rig) -> None:
        rig.upstreams[0].ignores_cancellation_s = 5

    rig, got = story([Does(after_s=9)], [Does(rest_s=1)], prepare=slow_to_close)
    assert got.ended_at == pytest.approx(USUAL_S + 1)
    assert rig.upstreams[0].active == 0


def test_a_loser_that_will_not_be_cancelled_writes_nothing() -> None:
    """Only the winner's bytes go out, even if the other answers all the same; what that one said
    it used is in its row, since it will be charged."""

    class Stubborn(Upstream):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            try:
                await asyncio.sleep(9)
            except asyncio.CancelledError:
                await super().__call__(scope, receive, send)

    async def run() -> None:
        rig = Rig(Stubborn("a", [OK]), Upstream("b", [Does(rest_s=1)]), hedge=HEDGE, budget=RICH)
        rig.knows("a", [USUAL_S] * 20)
        got = await rig.ask()
        await rig.settle()
        assert got.body.count(b'"content":"b"') == 1
        assert b'"content":"a"' not in got.body
        assert USAGE not in got.body
        assert rig.records[0].final is rig.records[0].attempts[1]
        lost, _ = row_of(rig.records[0]).attempts
        assert (lost.failure, lost.usage_source) == (HEDGE_LOST, "reported")
        assert (lost.input_tokens, lost.output_tokens) == (3, 4)

    run_virtual(run())


def test_a_winners_broken_stream_is_ended_as_any_other() -> None:
    """After the commit point there is no third attempt and no other bytes."""
    rig, got = story([Does(after_s=9)], [Does(rest_s=1, then="breaks")], [OK])
    assert got.status == 200
    assert rig.records[0].interrupted == "upstream_connection_lost"
    assert not rig.upstreams[2].calls
    assert outcomes(rig.records[0]) == {"failed": 1}


def test_a_bug_in_the_losing_provider_is_logged_and_does_no_harm() -> None:
    """The client has its answer; the loop's handler has the error."""
    told: list[dict[str, Any]] = []

    def listen(rig: Rig) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    rig, got = story([Does(after_s=1)], [Does(after_s=0.1, then="raises")], prepare=listen)
    assert got.status == 200
    assert [str(context["exception"]) for context in told] == ["'bug'"]
    assert rig.records[0].attempts[1].failure == "internal_error"


def test_a_bug_in_the_only_provider_left_is_raised() -> None:
    """As without a hedge: it is for the server's log."""
    rig, got = story([Does(after_s=1, then="raises")], [Does(503)])
    assert got.status == 500
    assert rig.records[0].error_code == "internal_error"


def test_late_attempts_that_were_given_up_raise_the_quantile() -> None:
    """Were they not counted, only quick ones would be, and hedges would come ever sooner."""

    async def run() -> None:
        upstreams = Upstream("a", [Does(after_s=5)]), Upstream("b", [Does(after_s=1)])
        rig = Rig(*upstreams, hedge=HEDGE, budget=RICH)
        rig.knows("a", [USUAL_S] * 20)
        for _ in range(9):
            await rig.ask()
        begun = now()
        await rig.ask()
        await rig.settle()
        assert upstreams[1].calls[-1] - begun > 1.4

    run_virtual(run())


@pytest.mark.parametrize(
    ("setting", "value"),
    [("quantile", 1.0), ("min_samples", 0), ("min_delay_s", -1), ("max_body_bytes", 0)],
)
def test_bad_settings_are_named(setting: str, value: float) -> None:
    """A setting out of range is refused by its name."""
    with pytest.raises(ValueError, match=setting):
        HedgeConfig(**{setting: value})  # type: ignore[arg-type]


def test_the_race_alone_cancels_once() -> None:
    """A rival on its way out is not cancelled again when the whole race is."""

    async def run() -> None:
        race = Race()
        cancels: list[int] = []

        async def loser() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(2)
                task = asyncio.current_task()
                assert task is not None
                cancels.append(task.cancelling())
                raise

        async def winner() -> None:
            assert race.claim(hedge=True)
            assert race.lost(hedge=False)
            await asyncio.sleep(60)

        task = asyncio.create_task(race.run(loser(), 1, winner))
        await asyncio.sleep(1.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cancels == [1]
        assert now() == pytest.approx(3)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(run())
