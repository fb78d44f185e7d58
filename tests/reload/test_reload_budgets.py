"""Budgets that come, stay and go with reloads: what was spent is counted once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from drive import drive, http_scope

from radgateway import create_gateway
from radgateway.gateway import Gateway

BUDGET = {"usd": "1000", "per": "month"}


def config(directory: Path, *, thrifty: bool, total: bool = False) -> dict[str, Any]:
    """Two keys, of which one may have a budget, and a dear model."""
    price = {"input": 1000, "output": 2000}
    first: dict[str, Any] = {"name": "thrifty", "secret": "key-1"}
    return {
        "keys": [first | ({"budget": BUDGET} if thrifty else {}), {"name": "b", "secret": "key-2"}],
        "admin_keys": [{"name": "ops", "secret": "key-admin"}],
        "providers": {"mock": {"kind": "mock"}},
        "models": {"m": {"candidates": [{"provider": "mock", "price": price}]}},
        "storage": {"usage": f"sqlite:///{directory}/usage.db"},
        "limits": {"total": {"budget": BUDGET}} if total else {},
    }


async def cost(gateway: Gateway, key: str = "key-1") -> Decimal:
    """Ask once; what that costs."""
    data = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}).encode()
    headers = [("content-type", "application/json"), ("x-api-key", key)]
    answer = await drive(gateway, http_scope("/v1/chat/completions", headers=headers), data)
    usage = json.loads(answer.body)["usage"]
    return Decimal(usage["prompt_tokens"] + 2 * usage["completion_tokens"]) / 1000


async def look(gateway: Gateway, what: str) -> Any:
    headers = [("x-api-key", "key-admin")]
    scope = http_scope(f"/v0/management/{what}", method="GET", headers=headers)
    return json.loads((await drive(gateway, scope)).body)


async def written(gateway: Gateway, rows: int) -> None:
    """Wait until the ledger has so many rows."""
    while (await look(gateway, "usage"))["total"] < rows:
        await asyncio.sleep(0.01)


async def spent(gateway: Gateway, expected: Decimal, which: int = 0) -> Decimal:
    """What a budget says was spent, once the ledger has been asked."""
    for _ in range(300):
        found = Decimal((await look(gateway, "keys"))["data"][0]["limits"][which]["spent"])
        if found >= expected:
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)  # for what would be counted twice
    return Decimal((await look(gateway, "keys"))["data"][0]["limits"][which]["spent"])


def told(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 20))


def test_a_new_budget_has_spent_what_its_key_has(tmp_path: Path) -> None:
    """From the ledger; and an older one's count goes on through that, and through other reloads."""

    async def story() -> None:
        gateway = create_gateway(config(tmp_path, thrifty=False))
        async with gateway.lifespan():
            total = await cost(gateway) + await cost(gateway)
            await cost(gateway, "key-2")
            await written(gateway, 3)
            await gateway.reload(config(tmp_path, thrifty=True))
            assert await spent(gateway, total) == total
            total += await cost(gateway)
            await written(gateway, 4)
            await gateway.reload(config(tmp_path, thrifty=True) | {"retry_budget": {"ratio": 0.1}})
            assert await spent(gateway, total) == total

    told(story)


def test_a_second_budget_leaves_the_first_alone(tmp_path: Path) -> None:
    """One of all traffic, added beside a key's: it has what all keys spent, the key's as before."""

    async def story() -> None:
        gateway = create_gateway(config(tmp_path, thrifty=True))
        async with gateway.lifespan():
            own = await cost(gateway)
            all_of_it = own + await cost(gateway, "key-2")
            await written(gateway, 2)
            await gateway.reload(config(tmp_path, thrifty=True, total=True))
            assert await spent(gateway, all_of_it, which=1) == all_of_it
            assert await spent(gateway, own, which=0) == own

    told(story)


def test_a_budget_that_comes_back_knows_what_was_spent_without_it(tmp_path: Path) -> None:
    """What it counted the first time counts once, and what came in between too."""

    async def story() -> None:
        gateway = create_gateway(config(tmp_path, thrifty=True))
        async with gateway.lifespan():
            total = await cost(gateway)
            await gateway.reload(config(tmp_path, thrifty=False))
            total += await cost(gateway)
            await written(gateway, 2)
            await gateway.reload(config(tmp_path, thrifty=True))
            assert await spent(gateway, total) == total

    told(story)
