from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from drive import Answer, drive, http_scope
from serving import serving
from virtual_time import run_virtual

from radgateway import create_gateway
from radgateway.gateway import Gateway

CONFIG: dict[str, Any] = {
    "keys": [{"name": "caller", "secret": "key-1", "limits": ["3/minute"]}],
    "admin_keys": [{"name": "ops", "secret": "key-admin"}],
    "providers": {"mock": {"kind": "mock"}},
    "models": {"m": {"aliases": ["n"], "candidates": [{"provider": "mock", "weight": 80}]}},
    "storage": {"usage": "memory://"},
    "telemetry": {"metrics": True},
}

STORAGES = ["memory://", "sqlite:///{}/usage.db"]
"""Where usage may go; `{}` is a folder for it."""


async def get(gateway: Gateway, path: str, key: str = "", **options: Any) -> Answer:
    """GET a path with a key."""
    headers = [("x-api-key", key)] if key else []
    options.setdefault("method", "GET")
    return await drive(gateway, http_scope(path, headers=headers, **options))


async def chat(gateway: Gateway) -> Answer:
    """One chat completion."""
    scope = http_scope("/v1/chat/completions", headers=[("x-api-key", "key-1")])
    return await drive(gateway, scope, b'{"model":"m","messages":[]}')


def test_health_and_readiness_are_two_questions() -> None:
    """A drain makes it unready and leaves it alive; dependencies are named."""

    async def story() -> None:
        gateway = create_gateway(CONFIG)
        assert json.loads((await get(gateway, "/health")).body) == {"status": "ok"}
        ready = await get(gateway, "/health/ready")
        assert (ready.status, json.loads(ready.body)["dependencies"]) == (
            200,
            {
                "limits": "ok",
                "usage": "ok",
                "secrets": "ok",
                "traces": "off",
                "provider:mock": "ok",
            },
        )
        assert json.loads(ready.body)["degraded"] == []
        gateway.drain.begin()
        assert (await chat(gateway)).status == 503
        assert (await get(gateway, "/health/ready")).status == 503
        assert (await get(gateway, "/health")).status == 200
        head = await get(gateway, "/health", method="HEAD")
        assert (head.status, head.body) == (200, b"")
        await gateway.aclose()

    asyncio.run(story())


def test_readiness_turns_before_work_is_refused() -> None:
    """For as long as balancers take to notice, where a delay is configured."""

    async def story() -> None:
        gateway = create_gateway(CONFIG | {"server": {"drain_delay_s": 10}})
        ending = gateway.drain.start()
        await asyncio.sleep(0)
        assert (await get(gateway, "/health/ready")).status == 503
        assert (await chat(gateway)).status == 200
        await ending
        assert (await chat(gateway)).status == 503
        await gateway.aclose()

    run_virtual(story())


@pytest.mark.parametrize("name", ["config", "usage", "traces", "providers", "slo"])
def test_management_needs_an_admin_key(name: str) -> None:
    """Nothing for strangers, nothing for callers, and nothing at all where no admin key is set."""

    async def story() -> None:
        gateway = create_gateway(CONFIG)
        path = f"/v0/management/{name}"
        assert (await get(gateway, path)).status == 401
        assert (await get(gateway, path, "key-1")).status == 403
        assert (await get(gateway, path, "key-admin")).status == 200
        assert (await get(gateway, path, "key-admin", method="POST")).status == 405
        await gateway.aclose()
        closed = create_gateway({k: v for k, v in CONFIG.items() if k != "admin_keys"})
        assert (await get(closed, path, "key-1")).status == 404
        await closed.aclose()

    asyncio.run(story())


def test_management_shows_what_happened_in_the_originals_shapes() -> None:
    """Capitals included; a row is there within two seconds of its answer."""

    async def story() -> None:
        gateway = create_gateway(CONFIG)
        assert (await chat(gateway)).status == 200
        rows: list[Any] = []
        for _ in range(200):
            rows = json.loads((await get(gateway, "/v0/management/usage", "key-admin")).body)[
                "data"
            ]
            if rows:
                break
            await asyncio.sleep(0.01)
        assert rows[0]["usage"]["total_tokens"] == 30
        assert (rows[0]["apiKeyName"], rows[0]["responseStatus"]) == ("caller", "success")
        traces = json.loads((await get(gateway, "/v0/management/traces", "key-admin")).body)["data"]
        assert [event["message"] for event in traces] == [
            "gateway request completed",
            "provider attempt answered",
            "gateway request accepted",
        ]
        config = json.loads((await get(gateway, "/v0/management/config", "key-admin")).body)
        assert config["models"]["m"] == [{"Provider": "mock", "Model": "*", "Weight": 80.0}]
        assert "key-1" not in json.dumps(config)
        providers = json.loads((await get(gateway, "/v0/management/providers", "key-admin")).body)
        assert providers["data"][0]["circuitState"] == "closed"
        await gateway.aclose()

    asyncio.run(story())


@pytest.mark.servers
@pytest.mark.parametrize("storage", STORAGES)
def test_a_row_is_visible_within_two_seconds_of_its_answer(storage: str, tmp_path: Path) -> None:
    """In rows, sums, traces and the error budget of a gateway that serves others meanwhile."""
    gateway = create_gateway(CONFIG | {"keys": [], "storage": {"usage": storage.format(tmp_path)}})

    async def story() -> None:
        async with serving(gateway) as url, httpx.AsyncClient(base_url=url) as client:
            admin = {"x-api-key": "key-admin"}
            for number in range(20):
                mine = {"x-request-id": f"asked-{number}"}
                body = {"model": "m", "messages": []}
                answer = await client.post("/v1/chat/completions", json=body, headers=mine)
                assert answer.status_code == 200
                answered = time.monotonic()
                seen: dict[str, Any] = {"total": 0}
                while seen["total"] == 0:
                    assert time.monotonic() - answered < 2
                    query = {"request_id": f"asked-{number}"}
                    got = await client.get("/v0/management/usage", params=query, headers=admin)
                    seen = got.json()
                assert seen["data"][0]["requestId"] == f"asked-{number}"
                assert seen["nextCursor"] is None
            sums = await client.get("/v0/management/usage?group_by=model", headers=admin)
            assert sums.json()["sum"]["requests"] == 20
            traces = await client.get("/v0/management/traces?limit=500", headers=admin)
            assert traces.json()["total"] == 60
            slo = (await client.get("/v0/management/slo", headers=admin)).json()
            assert slo["data"][0]["windows"]["5m"]["valid"] == 20

    asyncio.run(story())


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1e3", "9" * 20])
def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    """A number from 1 to 500, said so."""

    async def story() -> None:
        gateway = create_gateway(CONFIG)
        path = "/v0/management/usage"
        assert (await get(gateway, path, "key-admin", query=f"limit={limit}")).status == 400
        assert (await get(gateway, path, "key-admin", query="limit=9999")).status == 200
        await gateway.aclose()

    asyncio.run(story())


def test_models_are_listed_under_all_their_names() -> None:
    """Aliases too, as OpenAI's clients read them; with a key only."""

    async def story() -> None:
        gateway = create_gateway(CONFIG)
        assert (await get(gateway, "/v1/models")).status == 401
        listed = json.loads((await get(gateway, "/v1/models", "key-1")).body)
        assert [model["id"] for model in listed["data"]] == ["m", "n"]
        await gateway.aclose()

    asyncio.run(story())


def test_limits_hold_and_are_told() -> None:
    """The fourth of three a minute is refused, counted and logged as what it is."""

    async def story() -> None:
        gateway = create_gateway(CONFIG)
        answers = [await chat(gateway) for _ in range(4)]
        assert [a.status for a in answers] == [200, 200, 200, 429]
        assert answers[3].header("retry-after")
        assert answers[0].header("x-ratelimit-remaining-requests") == "2"
        metrics = (await get(gateway, "/metrics")).body.decode()
        assert 'rad_gateway_rate_limited_total{reason="requests"} 1.0' in metrics
        await gateway.aclose()

    asyncio.run(story())


def test_a_mounted_gateway_needs_no_lifespan_and_may_close_twice() -> None:
    """It starts with its first request, below its prefix, and closes without complaint."""

    async def story() -> None:
        gateway = create_gateway(CONFIG)
        answer = await get(gateway, "/health", root_path="/ai")
        assert answer.status == 200
        assert (await get(gateway, "/v1/models", "key-1", root_path="/ai")).status == 200
        await gateway.aclose()
        await gateway.aclose()
        assert (await chat(gateway)).status == 503

    asyncio.run(story())
