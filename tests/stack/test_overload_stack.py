"""Overload through the whole stack: priorities, the client's deadline, adaptive limits, answers."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
from drive import drive, http_scope, no_other_tasks
from serving import Call, Script, provider, response, serving
from virtual_time import now, run_virtual

from radgateway import create_gateway
from radgateway.gateway import Gateway

pytestmark = pytest.mark.servers

GOOD = b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}'
CHAT = "/v1/chat/completions"
HIGH, NORMAL, LOW = "key-high", "key-normal", "key-low"


def config(url: str, *, admission: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "keys": [
            {"name": "h", "secret": HIGH, "priority": "high"},
            {"name": "n", "secret": NORMAL},
            {"name": "l", "secret": LOW, "priority": "low"},
        ],
        "admin_keys": [{"name": "ops", "secret": "key-admin"}],
        "providers": {"up": {"kind": "openai", "base_url": url, "api_key": "sk", **more}},
        "models": {"m": {"candidates": [{"provider": "up"}]}},
        "storage": {"usage": "memory://"},
        "telemetry": {"metrics": True},
        "admission": admission or {},
    }


async def ask(client: httpx.AsyncClient, key: str, **headers: str) -> httpx.Response:
    return await client.post(CHAT, json={"model": "m"}, headers={"x-api-key": key, **headers})


def code_of(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


async def metric(client: httpx.AsyncClient, series: str) -> float:
    for line in (await client.get("/metrics")).text.splitlines():
        if line.startswith(series + " "):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no {series}")


def layer(gateway: Gateway, name: str) -> Any:
    app: Any = gateway.app
    while type(app).__name__ != name:
        inner = getattr(app, "app", None)
        app = inner if inner is not None else app.providers["up"]
    return app


def story_over(script: Script, settings: dict[str, Any], story: Any) -> None:
    """Run a story over a gateway on a socket; nothing may be in use afterwards."""

    async def run() -> None:
        async with provider(script) as upstream:
            gateway = create_gateway(config(upstream.url, **settings))
            async with (
                serving(gateway) as url,
                httpx.AsyncClient(base_url=url, timeout=8, trust_env=False) as client,
            ):
                await story(client, gateway, upstream)
                queue, bulkhead = layer(gateway, "AdmissionQueue"), layer(gateway, "Bulkhead")
                for _ in range(100):
                    if not (queue.in_use or queue.depth or bulkhead.slots.in_use):
                        break
                    await asyncio.sleep(0.01)
                assert (queue.in_use, queue.depth, bulkhead.slots.in_use) == (0, 0, 0)
        assert not await no_other_tasks()

    asyncio.run(run())


async def answers(call: Call) -> None:
    await call.say(response(GOOD))


async def answers_late(call: Call) -> None:
    await asyncio.sleep(0.4)
    await call.say(response(GOOD))


async def hangs(call: Call) -> None:
    await call.until_closed()


def test_the_keys_priority_decides_in_the_gateway() -> None:
    """The configured priority orders the line and makes room in it; metrics say who had to go."""

    async def story(client: httpx.AsyncClient, gateway: Gateway, upstream: Any) -> None:
        order: list[str] = []

        async def asking(key: str) -> int:
            answer = await ask(client, key)
            order.append(key)
            return answer.status_code

        running = [asyncio.create_task(asking(NORMAL))]
        queue = layer(gateway, "AdmissionQueue")
        for number, key in enumerate((LOW, NORMAL, HIGH)):
            await asyncio.sleep(0.05)
            running.append(asyncio.create_task(asking(key)))
            if number == 1:
                await asyncio.sleep(0.05)
                assert await metric(client, "rad_gateway_queue_depth") == queue.depth == 2
        assert await asyncio.gather(*running) == [200, 503, 200, 200]
        assert order == [LOW, NORMAL, HIGH, NORMAL]
        shed = 'rad_gateway_load_shed_total{reason="displaced"}'
        assert await metric(client, shed) == 1

    limits = {"max_concurrency": 1, "max_queue": 2, "max_wait_s": 5}
    story_over(answers_late, {"admission": limits}, story)


def test_who_is_turned_away_has_a_row_and_costs_error_budget() -> None:
    """The ledger's error budget and the metrics' speak of the same requests."""

    async def story(client: httpx.AsyncClient, gateway: Gateway, upstream: Any) -> None:
        statuses = [
            a.status_code for a in await asyncio.gather(*(ask(client, HIGH) for _ in "123"))
        ]
        assert sorted(statuses) == [200, 503, 503]
        admin = {"x-api-key": "key-admin"}
        seen: list[Any] = []
        async with asyncio.timeout(5):
            while len(seen) < 3:
                usage = await client.get("/v0/management/usage", headers=admin)
                seen = usage.json()["data"]
        rows = sorted((row["status"], row["outcome"], row["errorCode"]) for row in seen)
        assert rows == [(200, "success", None), *[(503, "refused", "overloaded")] * 2]
        assert {row["apiKeyName"] for row in seen} == {"h"}
        for status in (200, 503):
            series = f'method="POST",route="{CHAT}",status="{status}"'
            counted = await metric(client, f"rad_gateway_requests_total{{{series}}}")
            assert counted == statuses.count(status)
        slo = (await client.get("/v0/management/slo", headers=admin)).json()
        window = slo["data"][0]["windows"]["5m"]
        assert (window["valid"], window["good"]) == (3, 1)

    story_over(answers_late, {"admission": {"max_concurrency": 1, "max_queue": 0}}, story)


def test_nobody_waits_longer_than_configured() -> None:
    """For a place in the gateway: a 503 then, with the time to come back."""

    async def story() -> None:
        settings = config("http://unused", admission={"max_concurrency": 1, "max_wait_s": 0.7})
        settings["providers"] = {"up": {"kind": "mock", "latency_ms": 3000}}
        gateway = create_gateway(settings)
        scope = http_scope(CHAT, headers=[("x-api-key", NORMAL)])
        body = b'{"model":"m","messages":[]}'
        first = asyncio.create_task(drive(gateway, scope, body))
        await asyncio.sleep(0.1)
        refused = await drive(gateway, scope, body)
        assert now() == pytest.approx(0.8, abs=0.01)
        assert refused.status == 503
        assert json.loads(refused.body)["error"]["code"] == "queue_timeout"
        assert int(refused.header("retry-after") or 0) >= 1
        assert (await first).status == 200
        await gateway.aclose()

    run_virtual(story())


def test_the_sdks_timeout_bounds_the_work() -> None:
    """A client that waits 1 s gets a 504 of its own then, and its call upstream is closed; it is
    not the provider's failure, so the circuit stays closed and nobody else is refused."""

    async def story(client: httpx.AsyncClient, gateway: Gateway, upstream: Any) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        headers = {"x-stainless-read-timeout": "0.4"}
        answers = await asyncio.gather(*(ask(client, NORMAL, **headers) for _ in range(15)))
        assert {(a.status_code, code_of(a)) for a in answers} == {(504, "deadline_exceeded")}
        assert 0.3 < loop.time() - began < 2
        assert layer(gateway, "CircuitBreaker").state == "closed"
        for _ in range(200):
            if not upstream.open:
                break
            await asyncio.sleep(0.01)
        assert upstream.open == 0

    story_over(hangs, {}, story)


def test_a_late_loop_turns_low_priority_away() -> None:
    """Something blocks the loop again and again: the monitor sees it, and the low are shed."""

    async def story(client: httpx.AsyncClient, gateway: Gateway, upstream: Any) -> None:
        loop = asyncio.get_running_loop()
        busy = True

        def block() -> None:
            if busy:
                time.sleep(0.12)  # which is what must not happen
                loop.call_soon(block)

        loop.call_soon(block)
        try:
            for _ in range(60):
                refused = await ask(client, LOW)
                if refused.status_code == 503:
                    break
        finally:
            busy = False
        assert code_of(refused) == "overloaded"
        assert refused.headers["retry-after"] == "2"
        assert await metric(client, 'rad_gateway_load_shed_total{reason="loop_lag"}') >= 1
        assert (await ask(client, HIGH)).status_code == 200

    story_over(answers, {"admission": {"max_lag_s": 0.05}}, story)


def test_an_overloaded_provider_is_called_less() -> None:
    """What it refuses with 429 lowers its limit, which metrics and management show; the rest is
    passed over without an attempt."""
    in_progress, most = 0, 0

    async def takes_four(call: Call) -> None:
        nonlocal in_progress, most
        if in_progress >= 4:
            await call.say(response(b'{"error":{"message":"slow down"}}', "429 Too Many"))
            return
        in_progress += 1
        most = max(most, in_progress)
        try:
            await asyncio.sleep(0.02)
            await call.say(response(GOOD))
        finally:
            in_progress -= 1

    async def story(client: httpx.AsyncClient, gateway: Gateway, upstream: Any) -> None:
        limit = layer(gateway, "Bulkhead").slots
        assert await metric(client, 'rad_gateway_concurrency_limit{provider="up"}') == 32
        statuses: list[int] = []

        async def keep_asking() -> None:
            while loop.time() < until:
                answer = await ask(client, NORMAL)
                statuses.append(answer.status_code)
                await asyncio.sleep(0.01)

        loop = asyncio.get_running_loop()
        until = loop.time() + 2.5
        await asyncio.gather(*(keep_asking() for _ in range(24)))
        assert 2 <= limit.limit <= 8, "a handful of times it takes four"
        shown = await metric(client, 'rad_gateway_concurrency_limit{provider="up"}')
        assert shown == limit.limit
        calls = len(upstream.calls)
        assert statuses.count(503) > 0, "our own refusals, which cost no call"
        assert calls < len(statuses)

    adaptive = {"min_concurrency": 2, "interval_s": 0.1, "recovery_s": 60}
    settings = {"max_concurrency": 32, "adaptive": adaptive, "breaker": None}
    story_over(takes_four, settings, story)


def test_an_answer_that_does_not_stream_may_take_longer() -> None:
    """`answer_s` for a whole answer, `first_byte_s` for a stream; the code is the same."""

    async def story(client: httpx.AsyncClient, gateway: Gateway, upstream: Any) -> None:
        assert (await ask(client, NORMAL)).status_code == 200
        body = json.dumps({"model": "m", "stream": True})
        cut = await client.post(CHAT, content=body, headers={"x-api-key": NORMAL})
        assert (cut.status_code, code_of(cut)) == (504, "first_byte_timeout")

    timeouts = {"first_byte_s": 0.1, "answer_s": 5}
    story_over(answers_late, {"timeouts": timeouts}, story)
