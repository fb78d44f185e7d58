"""A restart gives no budget back: what the ledger knows is taken off it, once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from radgateway.inbound.limit_period import Period
from radgateway.inbound.limit_seed import BudgetSeed

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
MONTH = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
DAY = datetime(2026, 11, 30, tzinfo=UTC).timestamp()


class Ledger:
    def __init__(self, *answers: Mapping[str, str] | None) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[float, float]] = []

    async def spent(self, since: float, until: float) -> dict[str, Decimal] | None:
        self.asked.append((since, until))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return None if answer is None else {name: Decimal(usd) for name, usd in answer.items()}


async def seeded(
    ledger: Ledger, periods: list[Period], times: list[float]
) -> list[tuple[str, Period, int]]:
    found: list[tuple[str, Period, int]] = []

    def wall() -> float:
        return times.pop(0) if len(times) > 1 else times[0]

    def spend(name: str, period: Period, nano_usd: int) -> None:
        found.append((name, period, nano_usd))

    seed = BudgetSeed(ledger.spent, spend, periods, wall=wall, retry_s=0.001)
    seed.start()
    seed.start()
    assert seed._task is not None
    async with asyncio.timeout(5):
        await seed._task
    await seed.aclose()
    return found


def test_each_period_is_taken_up_to_the_start() -> None:
    """What begins later is counted where it is made."""
    ledger = Ledger({"alice": "0.1234567891", "bob": "2"}, {"alice": "7"})
    found = asyncio.run(seeded(ledger, ["day", "month"], [NOON]))
    assert ledger.asked == [(DAY, NOON), (MONTH, NOON)]
    assert found == [
        ("alice", "day", 123_456_789),
        ("bob", "day", 2 * 10**9),
        ("alice", "month", 7 * 10**9),
    ]


def test_it_asks_until_there_is_an_answer() -> None:
    """A ledger that is away at the start is asked for the same time again."""
    ledger = Ledger(None, None, {"alice": "1"})
    assert asyncio.run(seeded(ledger, ["day"], [NOON])) == [("alice", "day", 10**9)]
    assert ledger.asked == [(DAY, NOON)] * 3


def test_a_period_that_has_ended_meanwhile_is_left_alone() -> None:
    """The next one has nothing spent of it."""
    ledger = Ledger({"alice": "1"})
    found = asyncio.run(seeded(ledger, ["day"], [NOON, NOON + 86_400]))
    assert found == []


def test_it_can_be_stopped_while_it_asks() -> None:
    """And before it has begun."""

    async def story() -> None:
        seed = BudgetSeed(Ledger(None).spent, lambda *given: None, ["day"], retry_s=60)
        await seed.aclose()
        seed.start()
        await asyncio.sleep(0)
        await seed.aclose()
        assert seed._task is not None
        assert seed._task.cancelled()

    asyncio.run(story())
