from __future__ import annotations

import heapq
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.provider.adaptive_limit import AdaptiveConfig, AdaptiveLimit
from radgateway.provider.slots import Slots


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Provider:
    """Takes so many calls at once, each for `call_s`, and refuses what is beyond in no time."""

    def __init__(self, room: int, call_s: float) -> None:
        self.room, self.call_s = room, call_s
        self.in_progress = 0


class World:
    """Gateways with callers that ask again at once, or 50 ms after they were turned away."""

    def __init__(
        self, limits: Sequence[AdaptiveLimit], provider: Provider, clock: Clock, callers: int
    ) -> None:
        self.limits, self.provider, self.clock = limits, provider, clock
        self.sampled: list[list[int]] = [[] for _ in limits]
        self.calls = self.refused = 0
        self._rng = random.Random(7)
        self._turn = 0
        self._events: list[tuple[float, int, str, int, int]] = []
        self._at(0.0, "sample", 0)
        self.add_callers(callers)

    def add_callers(self, number: int) -> None:
        """So many more at each gateway."""
        for gateway in range(len(self.limits)):
            for _ in range(number):
                self._at(self._rng.random(), "ask", gateway)

    def _at(self, in_s: float, what: str, gateway: int, epoch: int = 0) -> None:
        self._turn += 1
        heapq.heappush(self._events, (self.clock.now + in_s, self._turn, what, gateway, epoch))

    def run(self, seconds: float) -> None:
        """Go on for so long; what was counted and sampled before is forgotten."""
        self.calls = self.refused = 0
        for series in self.sampled:
            series.clear()
        until = self.clock.now + seconds
        while self._events[0][0] < until:
            self.clock.now, _, what, gateway, epoch = heapq.heappop(self._events)
            if what == "sample":
                for series, limit in zip(self.sampled, self.limits, strict=True):
                    series.append(limit.slots.limit)
                self._at(0.25, "sample", 0)
            elif what == "ask":
                self._ask(gateway)
            else:
                self._end(self.limits[gateway], gateway, epoch, refused=what == "refused")
        self.clock.now = until

    def _ask(self, gateway: int) -> None:
        limit, provider = self.limits[gateway], self.provider
        if not limit.slots.take():
            self._at(0.05, "ask", gateway)
            return
        self.calls += 1
        if provider.in_progress < provider.room:
            provider.in_progress += 1
            took_s = provider.call_s * self._rng.uniform(0.5, 1.5)
            self._at(took_s, "done", gateway, limit.epoch)
        else:
            self._at(0.02, "refused", gateway, limit.epoch)

    def _end(self, limit: AdaptiveLimit, gateway: int, epoch: int, *, refused: bool) -> None:
        limit.slots.give_back()
        self.refused += refused
        self.provider.in_progress -= not refused
        if refused or limit.watching:
            limit.settle(epoch, overloaded=refused)
        self._at(0.05 if refused else 0.0, "ask", gateway)


def test_it_finds_what_the_provider_takes() -> None:
    """With far more callers than room it stays about that number, and few calls are refused."""
    clock = Clock()
    world = World([AdaptiveLimit(Slots(200), clock=clock)], Provider(40, 0.5), clock, 150)
    world.run(20)  # finding it
    world.run(120)
    (series,) = world.sampled
    assert 30 <= sum(series) / len(series) <= 44
    assert max(series) <= 60
    assert world.refused / world.calls < 0.3
    fixed = AdaptiveLimit(Slots(200), AdaptiveConfig(min_concurrency=200), clock=clock)
    world = World([fixed], Provider(40, 0.5), clock, 150)
    world.run(30)
    assert world.refused / world.calls > 0.9, "which is what a fixed limit does"


def test_two_gateways_share_fairly() -> None:
    """One that comes late gets its part, though neither knows of the other."""
    clock = Clock()
    early, late = (AdaptiveLimit(Slots(100), clock=clock) for _ in range(2))
    provider = Provider(60, 0.5)
    World([early], provider, clock, 100).run(30)
    world = World([early, late], provider, clock, 100)
    early.slots.in_use = provider.in_progress = 0  # the first world's calls have ended
    world.run(150)
    world.run(300)
    shares = [sum(series) / len(series) for series in world.sampled]
    assert 0.6 < shares[0] / shares[1] < 1.6
    assert 40 <= sum(shares) <= 75


@pytest.mark.parametrize("call_s", [0.2, 5.0])
def test_it_comes_back_in_the_time_it_was_given(call_s: float) -> None:
    """From its least to its ceiling it grows in `recovery_s`, however long a call takes."""
    clock = Clock()
    limit = AdaptiveLimit(Slots(100), AdaptiveConfig(recovery_s=30), clock=clock)
    provider = Provider(0, call_s)
    world = World([limit], provider, clock, 300)
    world.run(15)
    assert limit.slots.limit == 10
    provider.room = 1000
    world.run(15)
    assert 25 <= limit.slots.limit <= 70  # the first long calls end only after a while
    world.run(25)
    assert limit.slots.limit == 100
    # With nothing refused it stops to watch: a good call costs nothing then.
    world.run(5)
    assert not limit.watching


def test_one_burst_is_one_cut() -> None:
    """What began before a cut tells of the load before it, however late it is refused."""
    clock = Clock()
    changes: list[int] = []
    slots = Slots(100)
    limit = AdaptiveLimit(slots, clock=clock, on_change=changes.append)
    for _ in range(80):
        assert slots.take()
    for number in range(79):
        clock.now += 0.1
        slots.give_back()
        limit.settle(0, overloaded=True)
        assert len(changes) <= 1, number
    # 80 were in progress, and three quarters of them stay.
    assert changes == [60]


def test_some_refusals_are_tolerated() -> None:
    """A share below the tolerance cuts nothing, nor does a single refusal."""
    clock = Clock()
    limit = AdaptiveLimit(Slots(100), AdaptiveConfig(tolerance_ratio=0.1), clock=clock)
    for number in range(1000):
        clock.now += 0.01
        limit.settle(limit.epoch, overloaded=number % 20 == 0)
    assert limit.slots.limit == 100
    for _ in range(5):
        limit.settle(limit.epoch, overloaded=True)
        clock.now += 2
    assert limit.slots.limit == 100


def test_what_nobody_uses_does_not_grow() -> None:
    """Without calls that fill it, a limit proves nothing and stays where it is."""
    clock = Clock()
    slots = Slots(100)
    limit = AdaptiveLimit(slots, clock=clock)
    for _ in range(3):
        limit.settle(limit.epoch, overloaded=True)
    clock.now += 1
    limit.settle(limit.epoch, overloaded=False)
    assert slots.limit == 10
    for _ in range(100):
        clock.now += 1
        slots.take()
        slots.give_back()
        limit.settle(limit.epoch, overloaded=False)
    assert slots.limit == 10
    slots.in_use = 5
    for _ in range(3):
        clock.now += 1
        limit.settle(limit.epoch, overloaded=False)
    assert slots.limit > 10


@given(
    st.integers(1, 300),
    st.integers(1, 50),
    st.lists(
        st.tuples(st.floats(0, 20), st.integers(0, 400), st.booleans(), st.integers(0, 3)),
        max_size=120,
    ),
)
def test_the_limit_never_leaves_its_bounds(
    ceiling: int, least: int, steps: list[tuple[float, int, bool, int]]
) -> None:
    """Whatever is reported when, it stays between its least and its ceiling, and `on_change` and
    the slots agree; at most one cut an interval."""
    clock = Clock()
    slots = Slots(ceiling)
    told = [ceiling]
    limit = AdaptiveLimit(
        slots, AdaptiveConfig(min_concurrency=least), clock=clock, on_change=told.append
    )
    cut_at = -10.0
    for seconds, in_use, overloaded, behind in steps:
        clock.now += seconds
        slots.in_use = min(in_use, ceiling)
        before = limit.epoch
        limit.settle(max(0, limit.epoch - behind), overloaded=overloaded)
        assert min(least, ceiling) <= slots.limit <= ceiling
        assert slots.limit == told[-1]
        if limit.epoch != before:
            assert limit.epoch == before + 1
            assert clock.now - cut_at >= limit.config.interval_s
            cut_at = clock.now


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_concurrency", 0),
        ("keep_ratio", 1.0),
        ("tolerance_ratio", 1.0),
        ("interval_s", 0.0),
        ("recovery_s", 0.5),
    ],
)
def test_bad_settings_are_named(name: str, value: float) -> None:
    """A setting out of range is refused by its name."""
    settings: dict[str, float] = {name: value}
    with pytest.raises(ValueError, match=name):
        AdaptiveConfig(**settings)  # type: ignore[arg-type]


def test_other_bounds_move_it_from_where_it_stands() -> None:
    """At its ceiling it follows that; below, it stays, as far as it may; pinned, it stands."""
    moves: list[int] = []
    slots = Slots(100)
    limit = AdaptiveLimit(slots, AdaptiveConfig(min_concurrency=10), on_change=moves.append)
    limit.resize(120, AdaptiveConfig(min_concurrency=10))
    assert slots.limit == 120
    limit._exact = 40.0
    limit.resize(110, AdaptiveConfig(min_concurrency=10))
    assert slots.limit == 40
    limit.resize(30, AdaptiveConfig(min_concurrency=5))
    assert slots.limit == 30
    limit.resize(50, AdaptiveConfig(min_concurrency=50))
    assert (slots.limit, moves) == (50, [120, 40, 30, 50])
    with pytest.raises(ValueError, match="at least 1"):
        limit.resize(0, AdaptiveConfig())
