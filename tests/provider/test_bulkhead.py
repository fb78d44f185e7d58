from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from drive import drive, http_scope
from hypothesis import given
from hypothesis import strategies as st

from radgateway.provider.bulkhead import Bulkhead, Slots


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


def test_a_bulkhead_without_room_is_a_mistake() -> None:
    """No place at all can't be meant."""
    with pytest.raises(ValueError, match="max_concurrency"):
        Bulkhead(hello, 0)
