from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from virtual_time import now, pending_timers, run_virtual

from radgateway.shared_timer import NEVER, SharedTimer


class Member:
    """Rings once, at the time it was last moved to."""

    def __init__(self, timer: SharedTimer, at: float) -> None:
        self.at = at
        self.rang: float | None = None
        self._timer = timer

    def due(self, now: float) -> float:
        return self.at

    def ring(self, now: float) -> None:
        self.rang = now
        self._timer.remove(self)


async def sleep_until(at: float) -> None:
    await asyncio.sleep(max(0.0, at - now()))


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(1, 50), st.integers(0, 80)),
        min_size=1,
        max_size=12,
    )
)
def test_each_rings_at_its_time_by_one_timer(plan: list[tuple[int, int, int]]) -> None:
    """However members come and move their time, none rings early or late; one timer serves all.

    `plan` holds when each joins, after how long it is due, and to when it is then moved later.
    """

    async def story() -> None:
        timer = SharedTimer()
        members: list[tuple[Member, int]] = []
        for joins, after, moved in sorted(plan):
            await sleep_until(joins)
            member = Member(timer, now() + after)
            timer.add(member, member.at)
            assert pending_timers() == 1
            # Later is told to nobody.
            member.at = max(member.at, float(moved))
            members.append((member, joins))
        await sleep_until(200)
        for member, _ in members:
            assert member.rang is not None
            assert 0 <= member.rang - member.at <= 0.0011
        assert (len(timer), pending_timers()) == (0, 0)

    run_virtual(story())


def test_earlier_has_to_be_told() -> None:
    """A member that moves its time forward says so, and rings then."""

    async def story() -> None:
        timer = SharedTimer()
        member = Member(timer, 100)
        timer.add(member, member.at)
        member.at = 2
        timer.sooner(2)
        await sleep_until(3)
        assert member.rang is not None
        assert round(member.rang, 2) == 2
        assert pending_timers() == 0

    run_virtual(story())


def test_what_is_never_due_costs_no_timer() -> None:
    """NEVER sets nothing; the last one to go leaves nothing behind."""

    async def story() -> None:
        timer = SharedTimer()
        member = Member(timer, NEVER)
        timer.add(member, NEVER)
        assert (len(timer), pending_timers()) == (1, 0)
        timer.remove(member)
        other = Member(timer, 5)
        timer.add(other, 5)
        assert pending_timers() == 1
        timer.remove(other)
        assert pending_timers() == 0

    run_virtual(story())


def test_one_timer_serves_one_loop_after_another() -> None:
    """A layer outlives its event loop, as in an app's own tests."""
    timer = SharedTimer()

    async def story() -> None:
        member = Member(timer, now() + 1)
        timer.add(member, member.at)
        await sleep_until(now() + 2)
        assert member.rang is not None

    for _ in range(2):
        run_virtual(story())
