from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from virtual_time import VirtualTimeLoop, now, pending_timers, run_virtual

from radgateway.exchange import Priority
from radgateway.inbound.waiting_line import RANKS, Entry, Turn, WaitingLine


def test_a_place_handed_to_one_who_just_left_is_handed_on() -> None:
    """A waiter cancelled in the tick in which its turn comes takes the place from nobody."""

    async def story() -> None:
        line = WaitingLine(1, 5, 5.0)
        assert line.try_enter()
        first = asyncio.create_task(line.enter())
        second = asyncio.create_task(line.enter())
        await asyncio.sleep(0)
        line.leave()
        first.cancel()
        assert await second == "admitted"
        assert first.cancelled()
        assert line.in_use == 1
        line.leave()
        assert (line.in_use, line.depth) == (0, 0)

    run_virtual(story())


def test_higher_priorities_go_first_and_none_starves() -> None:
    """First come first served within a priority; every eighth place is one passed over's."""

    async def story() -> None:
        line = WaitingLine(1, 100, 50.0)
        assert line.try_enter()
        turns: dict[str, Turn] = {}
        for number in range(3):
            turns[f"low{number}"] = line.join("low")
        for number in range(20):
            turns[f"normal{number}"] = line.join()
            turns[f"high{number}"] = line.join("high")
        order: list[str] = []
        while line.depth:
            before = {name for name, turn in turns.items() if turn.entry is None}
            line.leave()
            (name,) = before - {name for name, turn in turns.items() if turn.entry is None}
            order.append(name)
        assert order[:7] == [f"high{number}" for number in range(7)]
        assert [order.index(f"low{number}") for number in range(3)] == [7, 15, 23]
        for kind in RANKS:
            mine = [name for name in order if name.startswith(kind)]
            assert mine == sorted(mine, key=lambda name: int(name.lstrip("hignormalw")))
        assert order.index("high19") < order.index("normal5")

    run_virtual(story())


def test_the_low_get_their_part_of_an_endless_overload() -> None:
    """With more of high priority than can ever be served, an eighth goes to the others."""

    async def story() -> None:
        line = WaitingLine(1, 1000, 5.0)
        assert line.try_enter()
        served: Counter[Priority] = Counter()
        arriving: list[Priority] = ["high", "high", "low"]
        waiting: list[tuple[Priority, Turn]] = []
        for tick in range(2000):
            waiting += [(priority, line.join(priority)) for priority in arriving]
            await asyncio.sleep(0.01)
            line.leave()
            served.update(priority for priority, turn in waiting if turn.entry == "admitted")
            waiting = [(priority, turn) for priority, turn in waiting if turn.entry is None]
            if tick == 1000:
                served.clear()
        assert served.total() == pytest.approx(1000, abs=5)
        assert served["low"] / served.total() == pytest.approx(1 / 8, abs=0.02)
        for _, turn in waiting:
            line.abandon(turn)
        assert pending_timers() == 0

    run_virtual(story())


def test_a_full_line_makes_room_for_a_higher_priority() -> None:
    """The last of the lowest has to go; among equals the newcomer is the one too many."""

    async def story() -> None:
        line = WaitingLine(1, 3, 5.0)
        assert line.try_enter()
        normal, first, last = line.join(), line.join("low"), line.join("low")
        assert line.join("low").entry == "full"
        high = line.join("high")
        assert (high.entry, last.entry, first.entry) == (None, "displaced", None)
        assert await line.outcome(last) == "displaced"
        assert line.join("normal").entry is None
        assert (first.entry, line.depth) == ("displaced", 3)
        assert line.join("normal").entry == "full"
        line.leave()
        assert (high.entry, normal.entry) == ("admitted", None)

    run_virtual(story())


def test_whose_turn_would_come_too_late_hears_so_at_once() -> None:
    """With ten waiting and a place every second, who has four seconds is not kept waiting."""

    async def story() -> None:
        line = WaitingLine(1, 100, 60.0)
        assert line.try_enter()
        turns = [line.join() for _ in range(14)]
        assert line.join(patience_s=4).entry is None, "nothing is known of the pace yet"
        for _ in range(4):
            await asyncio.sleep(0.9)
            line.leave()
        assert line.depth == 11
        assert line.join(patience_s=4).entry == "hopeless"
        assert line.join(patience_s=15).entry is None
        assert line.join("high", patience_s=4).entry is None, "it goes before all of them"
        assert 10 <= line.retry_after_s() <= 14
        for turn in turns:
            line.abandon(turn)

    run_virtual(story())


def test_an_old_pace_refuses_nobody() -> None:
    """What was seen is forgotten when the line has emptied: a slow hour must not last."""

    async def story() -> None:
        line = WaitingLine(1, 100, 60.0)
        assert line.try_enter()
        for _ in range(6):
            line.join()
        for _ in range(6):
            await asyncio.sleep(5)
            line.leave()
        assert line.depth == 0
        assert line.retry_after_s() == 1
        assert line.join(patience_s=1).entry is None

    run_virtual(story())


def test_nobody_is_begun_with_whose_time_is_over() -> None:
    """At the client's own deadline it leaves the line, even where the loop is too late to tell."""

    async def story() -> None:
        line = WaitingLine(1, 10, 5.0)
        assert line.try_enter()
        assert line.join(patience_s=0).entry == "late"
        assert await line.enter(patience_s=2) == "late"
        assert now() == pytest.approx(2)
        short, long = line.join(patience_s=1), line.join()
        # A loop that was busy for three seconds: the timer has not had its turn yet.
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        loop._virtual_s += 3
        line.leave()
        assert (short.entry, long.entry, line.in_use) == ("late", "admitted", 1)

    run_virtual(story())


@dataclass(eq=False)
class Visitor:
    """One request: in line, served or gone."""

    number: int
    priority: Priority
    until: float
    task: asyncio.Task[None]
    turn: Turn | None = None
    entry: Entry | None = None
    gone: bool = False


class LineMachine(RuleBasedStateMachine):
    """The line against a model that is a plain list."""

    @initialize(places=st.integers(1, 3), queue=st.integers(0, 18))
    def begin(self, places: int, queue: int) -> None:
        """An empty line."""
        self.loop = VirtualTimeLoop()
        self.places, self.queue = places, queue
        self.told = 0
        self.handed = 0
        self.visitors: list[Visitor] = []
        self.ends: dict[int, asyncio.Event] = {}

        def depth_changed(change: int) -> None:
            self.told += change

        self.line = WaitingLine(places, queue, 4.0, depth_changed)

    def _run(self, seconds: float = 0.0) -> None:
        async def pass_time() -> None:
            await asyncio.sleep(seconds)
            for _ in range(6):
                await asyncio.sleep(0)

        self.loop.run_until_complete(pass_time())

    async def _visit(self, number: int, patience_s: float | None) -> None:
        visitor = self.visitors[number]
        if self.line.try_enter():
            entry: Entry = "admitted"
        else:
            visitor.turn = self.line.join(visitor.priority, patience_s)
            entry = await self.line.outcome(visitor.turn)
        visitor.entry = entry
        if entry == "admitted":
            try:
                await self.ends[number].wait()
            finally:
                visitor.gone = True
                self.line.leave()
        visitor.gone = True

    def _waiting(self) -> list[Visitor]:
        return [v for v in self.visitors if not v.gone and v.turn and v.turn.entry is None]

    def _running(self) -> list[Visitor]:
        return [v for v in self.visitors if not v.gone and v.entry == "admitted"]

    @rule(
        priority=st.sampled_from(list(RANKS)),
        patience_s=st.sampled_from([None, 0.5, 2.0, 9.0]),
    )
    def arrive(self, priority: Priority, patience_s: float | None) -> None:
        """A request comes."""
        number = len(self.visitors)
        waiting = self._waiting()
        self.ends[number] = asyncio.Event()
        until = self.loop.time() + min(4.0, patience_s or 4.0)
        task = self.loop.create_task(self._visit(number, patience_s))
        visitor = Visitor(number, priority, until, task)
        self.visitors.append(visitor)
        free = len(self._running()) < self.places
        self._run()
        if free:
            assert visitor.entry == "admitted"
        elif len(waiting) >= self.queue:
            lower = [v for v in waiting if RANKS[v.priority] > RANKS[priority]]
            if len(lower) <= self.queue // 8:
                assert visitor.entry == "full"
            elif visitor.entry != "hopeless":
                worst = max(lower, key=lambda v: (RANKS[v.priority], v.number))
                assert worst.entry == "displaced"
                assert visitor in self._waiting()
        else:
            assert visitor.entry in (None, "hopeless")

    @precondition(lambda self: self.visitors and self._running())
    @rule(pick=st.randoms(use_true_random=False))
    def finish(self, pick: object) -> None:
        """A request ends; the one whose turn it is gets its place."""
        ending = pick.choice(self._running())  # type: ignore[attr-defined]
        waiting = self._waiting()
        self.ends[ending.number].set()
        self._run()
        if not waiting:
            return
        self.handed += 1
        expected = min(waiting, key=lambda v: (RANKS[v.priority], v.number))
        passed_over = [v for v in waiting if v.priority != expected.priority]
        if passed_over and self.handed % 8 == 0:
            expected = min(passed_over, key=lambda v: v.number)
        assert expected.entry == "admitted"
        assert len(self._waiting()) == len(waiting) - 1

    @precondition(lambda self: self.visitors)
    @rule(pick=st.randoms(use_true_random=False), twice=st.booleans())
    def cancel(self, pick: object, twice: bool) -> None:
        """A request's task is cancelled, wherever it is; also two in the same tick."""
        before = self._waiting()
        chosen = [pick.choice(self.visitors) for _ in range(1 + twice)]  # type: ignore[attr-defined]
        freed = {v.number for v in chosen if v in self._running()}
        for visitor in chosen:
            visitor.task.cancel()
            visitor.gone = True
        self._run()
        left = [v for v in before if v not in chosen]
        self.handed += min(len(freed), len(left))

    @precondition(lambda self: self.visitors and self._waiting())
    @rule(pick=st.randoms(use_true_random=False))
    def client_leaves(self, pick: object) -> None:
        """The client of one in line goes away."""
        visitor = pick.choice(self._waiting())  # type: ignore[attr-defined]
        self.line.abandon(visitor.turn)
        self.line.abandon(visitor.turn)
        self._run()
        assert visitor.entry == "left"

    @rule(seconds=st.sampled_from([0.1, 0.7, 3.0]))
    def time_passes(self, seconds: float) -> None:
        """Those whose time is over leave the line."""
        self._run(seconds)
        for visitor in self._waiting():
            assert visitor.until > self.loop.time() - 0.001

    @invariant()
    def nothing_leaks(self) -> None:
        """Places in use are those of requests that run; nobody waits while one is free."""
        if not hasattr(self, "line"):
            return
        waiting = self._waiting()
        assert self.line.in_use == len(self._running()) <= self.places
        assert self.line.depth == len(waiting) == self.told <= self.queue
        assert not waiting or self.line.in_use == self.places
        assert self.loop.pending_timers() == len(waiting)

    def teardown(self) -> None:
        """In the end all places are free."""
        if not hasattr(self, "loop"):
            return
        for visitor in self.visitors:
            visitor.task.cancel()
        self._run()
        assert (self.line.in_use, self.line.depth, self.told) == (0, 0, 0)
        assert self.loop.pending_timers() == 0
        self.loop.close()


TestTheLineAgainstAModel = LineMachine.TestCase
TestTheLineAgainstAModel.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)


def test_more_places_go_to_those_that_wait() -> None:
    """In their order, and no more than there are."""

    async def story() -> None:
        line = WaitingLine(1, 10, 5)
        assert line.try_enter()
        turns = [line.join() for _ in range(4)]
        line.resize(3, 10, 5)
        assert [turn.entry for turn in turns] == ["admitted", "admitted", None, None]
        assert (line.in_use, line.depth) == (3, 2)

    asyncio.run(story())


def test_fewer_places_are_had_when_they_are_given_up() -> None:
    """Who has one keeps it; none is handed on until there are fewer in use than there may be."""

    async def story() -> None:
        line = WaitingLine(3, 10, 5)
        assert all(line.try_enter() for _ in range(3))
        turn = line.join()
        line.resize(1, 10, 5)
        line.leave()
        line.leave()
        assert (turn.entry, line.in_use) == (None, 1)
        line.leave()
        assert (turn.entry, line.in_use) == ("admitted", 1)
        line.leave()
        assert line.in_use == 0

    asyncio.run(story())
