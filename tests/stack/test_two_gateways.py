"""Two gateways in one process do not know of each other."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from drive import Answer, drive, http_scope

from radgateway import create_gateway

ROUTE = "/v1/chat/completions"


def config(provider: str) -> dict[str, Any]:
    """A gateway with one provider of that name."""
    return {
        "keys": [],
        "providers": {provider: {"kind": "mock"}},
        "models": {"m": {"candidates": [{"provider": provider}]}},
        "storage": {"usage": "memory://"},
        "telemetry": {"metrics": True},
    }


async def ask(gateway: Any) -> Answer:
    """One chat request."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    headers = [("content-type", "application/json")]
    return await drive(gateway, http_scope(ROUTE, headers=headers), json.dumps(body).encode())


def test_each_counts_its_own() -> None:
    """Three requests here and one there; neither has the other's series."""

    async def run() -> list[str]:
        gateways = [create_gateway(config("one")), create_gateway(config("two"))]
        for gateway, times in zip(gateways, (3, 1), strict=True):
            for _ in range(times):
                assert (await ask(gateway)).status == 200
        scraped = [await drive(g, http_scope("/metrics", method="GET")) for g in gateways]
        for gateway in gateways:
            await gateway.aclose()
        return [answer.body.decode() for answer in scraped]

    first, second = asyncio.run(run())
    counted = f'rad_gateway_requests_total{{method="POST",route="{ROUTE}",status="200"}}'
    assert f"{counted} 3.0\n" in first
    assert f"{counted} 1.0\n" in second
    assert 'provider="one"' in first
    assert 'provider="two"' not in first
    assert 'provider="one"' not in second
    attempts = 'rad_gateway_provider_requests_total{model="m",provider="two",status="200"} 1.0\n'
    assert attempts in second
