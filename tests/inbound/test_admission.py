from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from drive import Answer, drive, http_scope
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import now, pending_timers, run_virtual

from radgateway.exchange import KEY, Exchange
from radgateway.inbound.admission import AdmissionQueue, WaitingLine


async def busy(scope: Any, receive: Any, send: Any) -> None:
    """Starts at once, and streams for as many seconds as its path says."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.sleep(float(scope["path"][1:]))
    await send({"type": "http.response.body", "body": b"done"})


def code_of(answer: Answer) -> str:
    code: str = json.loads(answer.body)["error"]["code"]
    return code


def test_who_waits_is_served_in_order() -> None:
    """A place held to the end of a stream goes to the first in line, then to the next."""

    async def story() -> None:
        order: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            order.append(scope["name"])
            await busy(scope, receive, send)

        queue = AdmissionQueue(app, 1, 10, 5.0)
        running = [
            asyncio.create_task(drive(queue, {**http_scope("/1"), "name": name})) for name in "abc"
        ]
        await asyncio.sleep(0.5)
        assert (queue.in_use, queue.depth) == (1, 2)
        assert order == ["a"]
        answers = await asyncio.gather(*running)
        assert [answer.status for answer in answers] == [200] * 3
        assert order == ["a", "b", "c"]
        assert now() == 3
        assert (queue.in_use, queue.depth, pending_timers()) == (0, 0, 0)

    run_virtual(story())


def test_a_full_line_is_refused_at_once() -> None:
    """The one too many hears so without waiting, and when to come back."""

    async def story() -> None:
        queue = AdmissionQueue(busy, 1, 1, 5.0)
        running = [asyncio.create_task(drive(queue, http_scope("/1"))) for _ in range(2)]
        await asyncio.sleep(0.1)
        refused = await drive(queue, http_scope("/1"))
        assert now() == 0.1
        assert refused.status == 503
        assert code_of(refused) == "overloaded"
        assert refused.header("retry-after") == "1"
        await asyncio.gather(*running)

    run_virtual(story())


def test_nobody_waits_longer_than_allowed() -> None:
    """Who gets no place in time is told so, and leaves the line; the wait is recorded."""

    async def story() -> None:
        queue = AdmissionQueue(busy, 1, 5, 0.5, clock=now)
        running = asyncio.create_task(drive(queue, http_scope("/2")))
        await asyncio.sleep(0)
        exchange = Exchange("r")
        refused = await drive(queue, {**http_scope("/1"), "state": {KEY: exchange}})
        assert (refused.status, code_of(refused)) == (503, "queue_timeout")
        assert refused.header("retry-after") == "1"
        assert (now(), exchange.queued_s, queue.depth) == (0.5, 0.5, 0)
        assert (await running).status == 200

    run_virtual(story())


def test_the_wait_of_an_admitted_request_is_recorded() -> None:
    """The record says how long a request stood in line; not at all is 0."""

    async def story() -> None:
        queue = AdmissionQueue(busy, 1, 5, 5.0, clock=now)
        first, second = Exchange("1"), Exchange("2")
        await asyncio.gather(
            drive(queue, {**http_scope("/1.5"), "state": {KEY: first}}),
            drive(queue, {**http_scope("/0"), "state": {KEY: second}}),
        )
        assert (first.queued_s, second.queued_s) == (0, 1.5)

    run_virtual(story())


def test_changes_of_the_depth_are_told() -> None:
    """Whoever waits is counted in and, however the wait ends, out again."""

    async def story() -> None:
        told: list[int] = []
        queue = AdmissionQueue(busy, 1, 2, 0.5, on_depth=told.append)
        running = [asyncio.create_task(drive(queue, http_scope("/1"))) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert sum(told) == queue.depth == 2
        running[1].cancel()
        await asyncio.gather(*running, return_exceptions=True)
        assert sum(told) == queue.depth == 0

    run_virtual(story())


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


@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(0, 6))
def test_no_place_is_lost_and_none_is_made_up(seed: int, places: int, queue: int) -> None:
    """With cancellations at random moments, never too many run, and in the end all are free."""
    rng = random.Random(seed)

    async def story() -> None:
        line = WaitingLine(places, queue, 0.3)
        running = 0

        async def visit(hold_s: float) -> None:
            nonlocal running
            if await line.enter() != "admitted":
                return
            running += 1
            assert running <= places
            assert line.depth <= queue
            try:
                await asyncio.sleep(hold_s)
            finally:
                running -= 1
                line.leave()

        tasks = []
        for _ in range(30):
            tasks.append(asyncio.create_task(visit(rng.choice([0, 0.1, 0.2]))))
            if rng.random() < 0.6:
                await asyncio.sleep(rng.choice([0, 0, 0.1]))
            if rng.random() < 0.5:
                rng.choice(tasks).cancel()
            if rng.random() < 0.2:
                line_before = line.in_use
                assert line_before <= places
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [r for r in results if isinstance(r, Exception)]
        assert (running, line.in_use, line.depth, pending_timers()) == (0, 0, 0, 0)
        assert line.try_enter()

    run_virtual(story())


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0, 1, 1.0), "max_concurrency"), ((1, -1, 1.0), "max_queue"), ((1, 1, 0.0), "max_wait_s")],
)
def test_bad_settings_are_named(arguments: tuple[int, int, float], name: str) -> None:
    """A setting out of range is refused by its name."""
    with pytest.raises(ValueError, match=name):
        AdmissionQueue(busy, *arguments)
