"""Retries, the budget and hedges, over real sockets through the whole stack."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from drive import no_other_tasks
from serving import Call, Provider, Script, provider, response, serving

from radgateway import create_gateway
from radgateway.exchange import HEDGE_LOST
from radgateway.telemetry.instruments import Instruments

pytestmark = pytest.mark.servers

KEY = "key-of-the-caller"
GOOD = b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}'


class Rig:
    """A gateway on a socket, what its providers saw, and what it recorded."""

    def __init__(self, client: httpx.AsyncClient, upstreams: list[Provider]) -> None:
        self.client, self.upstreams = client, upstreams
        self.records: list[Any] = []
        self.instruments = Instruments()

    async def ask(self) -> httpx.Response:
        """One request."""
        headers = {"x-api-key": KEY}
        return await self.client.post("/v1/chat/completions", json={"model": "m"}, headers=headers)

    def value(self, name: str, **labels: str) -> float | None:
        """A metric's value."""
        return self.instruments.registry.get_sample_value(f"rad_gateway_{name}", labels)


@contextlib.asynccontextmanager
async def rig(*scripts: Script, model: Any = None, **budget: Any) -> AsyncIterator[Rig]:
    """A gateway in front of as many providers as there are scripts."""
    async with contextlib.AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(provider(script)) for script in scripts]
        names = "abc"[: len(upstreams)]
        made = Rig(httpx.AsyncClient(timeout=8, trust_env=False), upstreams)
        config = {
            "keys": [{"name": "caller", "secret": KEY}],
            "providers": {
                name: {"kind": "openai", "base_url": f"{up.url}/v1", "breaker": None}
                for name, up in zip(names, upstreams, strict=True)
            },
            "models": {"m": {"candidates": [{"provider": n} for n in names], **(model or {})}},
            "storage": {"usage": "memory://"},
            "retry_budget": budget,
        }
        gateway = create_gateway(config, instruments=made.instruments, on_end=made.records.append)
        made.client.base_url = httpx.URL(await stack.enter_async_context(serving(gateway)))
        await stack.enter_async_context(made.client)
        yield made
    assert not await no_other_tasks()


async def answers(call: Call) -> None:
    await call.say(response(GOOD))


async def fails(call: Call) -> None:
    await call.say(response(b"{}", "503 Service Unavailable"))


def test_a_provider_that_recovers_at_once_is_tried_again() -> None:
    """One candidate, one failure, one success: the caller never knew."""
    turns = iter([fails, answers])

    async def story() -> None:
        async with rig(lambda call: next(turns)(call)) as made:
            got = await made.ask()
            assert (got.status_code, got.headers["x-radgateway-attempts"]) == (200, "2")
            assert made.value("retries_total", provider="other", reason="http_503") == 1
            assert made.records[0].backed_off_s > 0
            async with asyncio.timeout(5):
                while made.value("retry_budget_balance") != 99:
                    await asyncio.sleep(0.05)

    asyncio.run(story())


def test_a_storm_of_failures_adds_the_ratio_and_no_more() -> None:
    """A hundred requests that all fail: 120 attempts, and 80 callers told not to retry."""

    async def story() -> None:
        async with rig(fails, min_per_s=0, ttl_s=60, storm_tokens=None) as made:
            got = [await made.ask() for _ in range(100)]
            assert len(made.upstreams[0].calls) == 120
            exhausted = [answer for answer in got if answer.headers.get("x-should-retry")]
            assert len(exhausted) == 80
            for answer in exhausted:
                assert answer.json()["error"]["code"] == "retry_budget_exhausted"
                assert int(answer.headers["retry-after"]) >= 1
            assert made.value("retry_budget_exhausted_total") == 80

    asyncio.run(story())


def test_a_hedge_closes_the_connection_that_lost() -> None:
    """The provider that was late sees its connection closed, and the usage row says why."""
    closed = asyncio.Event()
    turns = 0

    async def slow_at_last(call: Call) -> None:
        nonlocal turns
        turns += 1
        if turns <= 3:
            await answers(call)
            return
        await call.until_closed()
        closed.set()

    async def story() -> None:
        hedge = {"hedge": {"min_samples": 3, "min_delay_s": 0.05}}
        async with rig(slow_at_last, answers, model=hedge) as made:
            for _ in range(3):
                assert (await made.ask()).headers["x-radgateway-provider"] == "a"
            got = await made.ask()
            assert (got.status_code, got.content) == (200, GOOD)
            assert got.headers["x-radgateway-provider"] == "b"
            await asyncio.wait_for(closed.wait(), 5)
            lost, won = made.records[-1].attempts
            assert (lost.failure, won.failure, won.hedge) == (HEDGE_LOST, None, True)
            assert made.value("hedges_total", outcome="won") == 1

    asyncio.run(story())
