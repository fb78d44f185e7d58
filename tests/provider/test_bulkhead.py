from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from drive import drive, http_scope
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import now, run_virtual

from radgateway.exchange import ATTEMPT_KEY, KEY, Attempt, Exchange, Principal
from radgateway.provider.adaptive_limit import AdaptiveConfig, AdaptiveLimit
from radgateway.provider.bulkhead import Bulkhead
from radgateway.provider.slots import KeyedSlots, Slots, caller_name


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hi"})


def test_the_one_too_many_is_refused_at_once() -> None:
    """A full bulkhead answers 503 without waiting, and says beforehand that it would."""

    async def story() -> None:
        gate = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await gate.wait()
            await send({"type": "http.response.body", "body": b"hi"})

        bulkhead = Bulkhead(slow, 2)
        running = [asyncio.create_task(drive(bulkhead, http_scope("/"))) for _ in range(2)]
        await asyncio.sleep(0)
        # The headers are out, the stream goes on: the places are still taken.
        assert not bulkhead.available()
        assert bulkhead.retry_after_s() == 1
        refused = await drive(bulkhead, http_scope("/"))
        assert refused.status == 503
        assert json.loads(refused.body)["error"]["code"] == "bulkhead_full"
        assert refused.header("retry-after") == "1"
        gate.set()
        assert [answer.status for answer in await asyncio.gather(*running)] == [200, 200]
        assert bulkhead.available()
        assert bulkhead.retry_after_s() == 0
        assert bulkhead.slots.in_use == 0

    asyncio.run(story())


@given(st.lists(st.sampled_from(["end", "raise", "cancel"]), max_size=20))
def test_no_place_is_ever_lost(endings: list[str]) -> None:
    """However requests end, the places in use are those of the requests that run."""

    async def story() -> None:
        gate = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await gate.wait()
            if scope["path"] == "/raise":
                raise RuntimeError("a bug")
            await hello(scope, receive, send)

        bulkhead = Bulkhead(app, 100)
        running = [
            asyncio.create_task(drive(bulkhead, http_scope(f"/{ending}"), raises=True))
            for ending in endings
        ]
        await asyncio.sleep(0)
        assert bulkhead.slots.in_use == len(endings)
        for ending, task in zip(endings, running, strict=True):
            if ending == "cancel":
                task.cancel()
        gate.set()
        await asyncio.gather(*running, return_exceptions=True)
        assert bulkhead.slots.in_use == 0

    asyncio.run(story())


def test_bulkheads_may_share_their_places() -> None:
    """Two apps of one provider account can be bounded together."""

    async def story() -> None:
        slots = Slots(1)
        assert slots.take()
        assert (await drive(Bulkhead(hello, slots), http_scope("/"))).status == 503
        slots.give_back()
        assert (await drive(Bulkhead(hello, slots), http_scope("/"))).status == 200

    asyncio.run(story())


def test_each_key_has_places_of_its_own() -> None:
    """One caller that fills its own takes nothing from another, and idle keys are forgotten."""

    async def story() -> None:
        gate = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await gate.wait()
            await hello(scope, receive, send)

        def scope(name: str) -> dict[str, Any]:
            exchange = Exchange("r")
            exchange.principal = Principal(name)
            return {**http_scope("/"), "state": {KEY: exchange}}

        slots = KeyedSlots(2)
        bulkhead = Bulkhead(slow, slots_of=slots)
        running = [asyncio.create_task(drive(bulkhead, scope(name))) for name in "aabb"]
        await asyncio.sleep(0)
        assert len(slots) == 2
        assert bulkhead.available()
        refused = await drive(bulkhead, scope("a"))
        assert (refused.status, refused.header("retry-after")) == (503, "1")
        third = asyncio.create_task(drive(bulkhead, scope("c")))
        running[0].cancel()
        await asyncio.sleep(0)
        fourth = asyncio.create_task(drive(bulkhead, scope("a")))
        await asyncio.sleep(0)
        gate.set()
        answers = await asyncio.gather(*running[1:], third, fourth)
        assert [answer.status for answer in answers] == [200] * 5
        assert len(slots) == 0

    asyncio.run(story())


def test_callers_without_a_name_are_told_apart_by_address() -> None:
    """Alone in somebody's app there is no principal; and any key of one's own will do."""
    assert caller_name(http_scope("/")) == "client:127.0.0.1"
    assert caller_name({"type": "http"}) == "client:unknown"
    by_path = KeyedSlots(1, key=lambda scope: str(scope["path"]))
    assert (by_path(http_scope("/a")).take(), by_path(http_scope("/b")).take()) == (True, True)
    assert not by_path(http_scope("/a")).take()


FAILURES = ["http_429", "http_503", "http_529", "connect_timeout", "first_byte_timeout"]
NEUTRAL = ["bulkhead_full", "deadline_exceeded", "upstream_pool_timeout"]


@pytest.mark.parametrize("status", [429, 503, 529])
def test_alone_a_status_moves_the_limit(status: int) -> None:
    """In front of any app: what it answers says whether it has too much to do."""

    async def story() -> None:
        async def busy(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(0.1)
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"later"})

        changes: list[int] = []
        limit = AdaptiveLimit(
            Slots(40), AdaptiveConfig(min_concurrency=5), clock=now, on_change=changes.append
        )
        bulkhead = Bulkhead(busy, limit)
        for _ in range(12):
            await asyncio.gather(*(drive(bulkhead, http_scope("/")) for _ in range(20)))
        assert changes[0] == 15, "three quarters of the 20 in progress"
        assert (min(changes), limit.slots.in_use) == (changes[-1], 0)

    run_virtual(story())


@pytest.mark.parametrize(
    ("failure", "falls"),
    [
        *((failure, True) for failure in FAILURES),
        *((failure, False) for failure in (*NEUTRAL, "http_5xx", "total_timeout", None)),
    ],
)
def test_below_a_router_the_attempt_moves_the_limit(failure: str | None, falls: bool) -> None:
    """Overload is what the record says it is; our own refusals and other errors are none."""

    async def story() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            attempt = scope["state"][ATTEMPT_KEY]
            await asyncio.sleep(0.5)
            attempt.failure, attempt.status = failure, 200 if failure is None else 503
            await hello(scope, receive, send)

        limit = AdaptiveLimit(Slots(40), clock=now)
        bulkhead = Bulkhead(app, limit)
        for _ in range(6):
            scopes = [
                {**http_scope("/"), "state": {ATTEMPT_KEY: Attempt("p", "m", 0.0)}}
                for _ in range(20)
            ]
            await asyncio.gather(*(drive(bulkhead, scope) for scope in scopes))
        assert (limit.slots.limit < 40) == falls

    run_virtual(story())


def test_who_left_says_nothing_of_the_provider() -> None:
    """A call cancelled before its answer is neither good nor bad, and frees its place."""

    async def story() -> None:
        async def stuck(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.Event().wait()

        limit = AdaptiveLimit(Slots(40), clock=now)
        limit.watching = True
        bulkhead = Bulkhead(stuck, limit)
        for _ in range(30):
            running = asyncio.ensure_future(drive(bulkhead, http_scope("/")))
            await asyncio.sleep(0.2)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert (limit.slots.limit, limit.slots.in_use, limit._finished) == (40, 0, 0)

    run_virtual(story())


def test_a_fallen_limit_refuses_only_newcomers() -> None:
    """Who has a place keeps it; the next get one when enough have left."""
    slots = Slots(3)
    assert [slots.take() for _ in range(3)] == [True] * 3
    slots.limit = 2
    assert not slots.take()
    slots.give_back()
    assert not slots.take()
    slots.give_back()
    assert slots.take()


def test_a_bulkhead_without_room_is_a_mistake() -> None:
    """No place at all can't be meant."""
    with pytest.raises(ValueError, match="max_concurrency"):
        Bulkhead(hello, 0)
    with pytest.raises(ValueError, match="limit"):
        KeyedSlots(0)
