"""GET slo: the error budget, counted and never guessed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from drive import drive, http_scope, no_other_tasks
from hypothesis import given, settings
from hypothesis import strategies as st
from usage_rows import LEDGERS, stored, usage_row

from radgateway.operations.slo_view import MAX_AGE_S, WINDOWS, Counts, burn_rate, slo_view, windows
from radgateway.slo.objectives import Objective, Objectives
from radgateway.usage.ledger import Ledger, LedgerUnavailable, MemoryLedger
from radgateway.usage.row import UsageRow, usage_id_at
from radgateway.usage.writer import UsageWriter

NOW = 1_795_600_800.0 + 1234.0  # not on the hour
DAY = 86_400


@pytest.fixture(params=LEDGERS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Each kind of ledger."""
    made = LEDGERS[request.param](tmp_path)
    yield made
    made.close()


def good(age_s: float) -> UsageRow:
    """A request that was served, so long ago."""
    return usage_row(NOW - age_s)


def bad(age_s: float) -> UsageRow:
    """One that was not."""
    return usage_row(NOW - age_s, status=503, outcome="refused")


def show(ledger: Ledger, query: str = "") -> Any:
    """What the endpoint answers."""

    async def story() -> Any:
        usage = UsageWriter(ledger)
        scope = http_scope("/", method="GET", query=query)
        answer = await drive(slo_view(usage, clock=lambda: NOW), scope)
        await usage.aclose()
        return answer.status, json.loads(answer.body)

    return asyncio.run(story())


def counted(ledger: Ledger) -> dict[str, Counts | None]:
    """The windows of a ledger."""

    async def story() -> dict[str, Counts | None]:
        usage = UsageWriter(ledger)
        try:
            return await windows(usage, NOW)
        finally:
            await usage.aclose()

    return asyncio.run(story())


def test_an_empty_ledger_knows_nothing(ledger: Ledger) -> None:
    """No request was good, and none was bad: null, and not 100 %."""
    status, shown = show(ledger)
    assert (status, shown["total"]) == (200, 2)
    for objective in shown["data"]:
        assert objective["windows"] == dict.fromkeys(WINDOWS)
        assert (objective["budgetLeft"], objective["covered"]) == (None, None)


def test_each_window_has_its_own_counts_and_all_of_the_shorter_ones(ledger: Ledger) -> None:
    """Good, valid, the ratios, and how fast the budget goes."""
    ages = [10, 200, 400, 3000, 7200, 80_000, 2 * DAY, 5 * DAY, 20 * DAY]
    stored(ledger, [good(age) for age in ages] + [bad(30), bad(5000), bad(6 * DAY), bad(31 * DAY)])
    _, shown = show(ledger)
    availability = shown["data"][0]
    assert (availability["name"], availability["objective"]) == ("availability", 0.995)
    assert {
        name: (window["valid"], window["good"]) for name, window in availability["windows"].items()
    } == {
        "5m": (3, 2),
        "1h": (5, 4),
        "6h": (7, 5),
        "1d": (8, 6),
        "3d": (9, 7),
        "7d": (11, 8),
        "30d": (12, 9),
    }
    month = availability["windows"]["30d"]
    assert (month["ratio"], month["errorRatio"]) == (0.75, 0.25)
    assert month["burnRate"] == 50  # 25 % of the requests where 0.5 % may fail
    assert availability["budgetLeft"] == -49
    week = shown["data"][1]
    assert (week["name"], week["windowDays"], week["budget"]) == ("error_rate", 7, 0.01)
    assert week["budgetLeft"] == pytest.approx(1 - 3 / 11 / 0.01, abs=1e-9)
    assert shown["at"] == "2026-11-25T10:20:34.000Z"


def test_the_budget_is_a_ratio_of_sums(ledger: Ledger) -> None:
    """A bad night of two requests does not weigh like a day of a thousand."""
    stored(ledger, [good(1000 + index) for index in range(998)] + [bad(9 * DAY), good(9 * DAY)])
    left = show(ledger)[1]["data"][0]["budgetLeft"]
    assert left == 0.8  # one of a thousand: a fifth of five


def test_a_window_says_since_when_it_has_data(ledger: Ledger) -> None:
    """That of the first of several requests, and never longer than the window."""
    stored(ledger, [good(90 * 60.0), good(30), bad(2 * DAY + 77), good(2 * DAY + 76.95)])
    found = counted(ledger)
    for name, since in (
        ("5m", NOW - 300),
        ("1h", NOW - 3600),
        ("1d", NOW - DAY),
        ("3d", NOW - 2 * DAY - 77),
        ("7d", NOW - 2 * DAY - 77),
        ("30d", NOW - 2 * DAY - 77),
    ):
        counts = found[name]
        assert counts is not None
        assert counts.since == pytest.approx(since, abs=0.001), name


def test_a_gateway_of_three_minutes_covers_three_minutes(ledger: Ledger) -> None:
    """No hour is claimed of which most was never seen."""
    stored(ledger, [good(180), good(20)])
    found = counted(ledger)
    assert all(counts is not None and counts.since == NOW - 180 for counts in found.values())


def test_what_is_older_than_all_windows_makes_them_whole(ledger: Ledger) -> None:
    """A month without traffic is no month without data; and nothing in it is null."""
    stored(ledger, [good(40 * DAY), good(4 * DAY)])
    found = counted(ledger)
    assert found["30d"] == Counts(1, 1, NOW - 30 * DAY)
    assert found["7d"] == Counts(1, 1, NOW - 7 * DAY)
    assert found["3d"] is None


def test_a_first_request_that_took_an_hour_is_found(ledger: Ledger) -> None:
    """Ids are of the end, coverage is of the beginning."""
    began = NOW - 2 * DAY
    row = msgspec.structs.replace(usage_row(began), usage_id=usage_id_at(began + 3600))
    stored(ledger, [row, good(5)])
    counts = counted(ledger)["30d"]
    assert counts is not None
    assert counts.since == began


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0.5, 35 * DAY), st.booleans()), max_size=30))
def test_the_slices_add_up(requests: list[tuple[float, bool]]) -> None:
    """Every window has exactly the requests that began in it."""
    ledger = MemoryLedger()
    stored(ledger, [good(age) if fine else bad(age) for age, fine in requests])
    for name, counts in counted(ledger).items():
        within = [fine for age, fine in requests if age <= WINDOWS[name]]
        if not within:
            assert counts is None
            continue
        assert counts is not None
        assert (counts.valid, counts.good) == (len(within), sum(within))
        assert NOW - WINDOWS[name] <= counts.since <= NOW


def test_arithmetic_is_exact() -> None:
    """Of 0.1 and 0.3 too, and up to the rounding of what is shown."""
    objective = Objective(target=Decimal("0.999"), window_days=30)
    assert burn_rate(objective, Counts(1000, 999, 0.0)) == 1
    assert burn_rate(objective, Counts(3000, 2997, 0.0)) == 1
    most = burn_rate(Objectives().availability, Counts(1, 0, 0.0))
    assert most == 200  # the most there can be


def test_the_objectives_are_those_of_the_configuration() -> None:
    """With a window of their own, where it is none of those that are alerted on."""
    ledger = MemoryLedger()
    stored(ledger, [good(45 * DAY), bad(40 * DAY), *(good(age) for age in range(1, 99))])
    promised = Objectives(availability=Objective(target=Decimal("0.98"), window_days=60))
    usage = UsageWriter(ledger)

    async def story() -> Any:
        scope = http_scope("/", method="GET")
        answer = await drive(slo_view(usage, promised, lambda: NOW), scope)
        await usage.aclose()
        return json.loads(answer.body)["data"]

    availability, error_rate = asyncio.run(story())
    assert (availability["objective"], availability["windowDays"]) == (0.98, 60)
    assert availability["windows"]["60d"]["valid"] == 100
    assert availability["windows"]["30d"]["valid"] == 98
    assert availability["budgetLeft"] == 0.5  # one in a hundred, where two may fail
    assert (error_rate["name"], error_rate["windowDays"]) == ("error_rate", 7)


def test_it_takes_no_parameters(ledger: Ledger) -> None:
    """One that is given is refused, and not ignored."""
    status, shown = show(ledger, "window=5m")
    assert status == 400
    assert "it takes none" in shown["error"]["message"]


class Asked(MemoryLedger):
    """A ledger that counts its questions, and may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.questions = 0
        self.away = False

    def sums(self, *asked: Any) -> Any:
        """Sums, counted."""
        self.questions += 1
        if self.away:
            raise LedgerUnavailable("away")
        return super().sums(*asked)


def test_whoever_asks_within_seconds_shares_a_count() -> None:
    """It says of when it is; one that is too old, or failed, is made anew."""
    ledger, now = Asked(), [NOW]
    stored(ledger, [good(10)])

    async def story() -> None:
        usage = UsageWriter(ledger)
        app = slo_view(usage, clock=lambda: now[0])

        async def valid() -> tuple[int, str]:
            answer = await drive(app, http_scope("/", method="GET"))
            assert answer.status == 200
            shown = json.loads(answer.body)
            return shown["data"][0]["windows"]["5m"]["valid"], shown["at"]

        first = await asyncio.gather(*(valid() for _ in range(20)))
        assert set(first) == {(1, "2026-11-25T10:20:34.000Z")}
        asked = ledger.questions
        assert 0 < asked < 20
        stored(ledger, [good(5)])
        now[0] += MAX_AGE_S - 0.5
        assert await valid() == first[0]
        assert ledger.questions == asked
        now[0] += 0.5
        assert await valid() == (2, "2026-11-25T10:20:39.000Z")
        now[0] -= 2
        assert (await valid())[1] == "2026-11-25T10:20:37.000Z"

        now[0] += 7200
        ledger.away = True
        away = await drive(app, http_scope("/", method="GET"))
        assert (away.status, away.header("retry-after")) == (503, "5")
        ledger.away = False
        stored(ledger, [usage_row(now[0] - 1)])
        assert (await valid())[0] == 1
        await usage.aclose()

    asyncio.run(story())


def test_who_leaves_takes_no_count_from_the_others() -> None:
    """Nor is a failure that nobody waited for left for the log."""
    ledger = Asked()
    stored(ledger, [good(10)])

    async def story() -> None:
        usage = UsageWriter(ledger)
        app = slo_view(usage, clock=lambda: NOW)
        asking = [asyncio.create_task(drive(app, http_scope("/", method="GET"))) for _ in range(2)]
        await asyncio.sleep(0)
        asking[0].cancel()
        assert (await asking[1]).status == 200
        ledger.away = True
        app = slo_view(usage, clock=lambda: NOW)
        leaving = asyncio.create_task(drive(app, http_scope("/", method="GET")))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await no_other_tasks() == set()
        await usage.aclose()

    asyncio.run(story())
