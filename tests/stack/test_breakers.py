"""The breakers of a whole gateway: what they know of each other, and of other replicas."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from drive import Answer, drive, http_scope
from valkey_server import running_valkey

from radgateway import create_gateway
from radgateway.gateway import Gateway
from radgateway.provider.circuit.policy import BreakerPolicy

CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
BREAKER = {"min_calls": 2, "open_s": 30, "half_open_calls": 1}
FAILING = {"kind": "mock", "error_ratio": 1, "breaker": BREAKER}
WORKING = {"kind": "mock", "breaker": BREAKER}


def configured(model: dict[str, Any] | None = None, **providers: Any) -> dict[str, Any]:
    """A gateway's configuration whose one model has these providers."""
    candidates = [{"provider": name} for name in providers]
    return {
        "keys": [],
        "providers": providers,
        "models": {"m": {"candidates": candidates, **(model or {})}},
        "storage": {"usage": "memory://"},
        "telemetry": {"metrics": True},
        "retry_budget": {"max_attempts": 0},
    }


def policies(gateway: Gateway) -> dict[str, BreakerPolicy]:
    """The breakers of a gateway, by provider."""
    app: Any = gateway
    while not hasattr(app, "providers"):
        app = app.app
    return {name: branch.policy for name, branch in app.providers.items()}


async def ask(gateway: Gateway, times: int = 1) -> Answer:
    """The last answer of some requests."""
    for _ in range(times):
        answer = await drive(gateway, http_scope(CHAT), body=BODY)
    return answer


def test_the_gauge_that_the_alert_reads_is_there() -> None:
    """At 1 for the provider that is kept away from, and at 0 for the other."""

    async def story() -> None:
        gateway = create_gateway(configured(a=FAILING, b=WORKING))
        await ask(gateway, 5)
        shown = (await drive(gateway, http_scope("/metrics", method="GET"))).body.decode()
        assert 'rad_gateway_circuit_breaker_open{provider="a"} 1.0' in shown
        assert 'rad_gateway_circuit_breaker_open{provider="b"} 0.0' in shown
        await gateway.aclose()

    asyncio.run(story())


def test_not_all_providers_of_a_model_open_at_once() -> None:
    """When both fail, one stays in use and its own error is what callers get."""

    async def story() -> None:
        gateway = create_gateway(configured(a=FAILING, b=FAILING))
        answer = await ask(gateway, 10)
        assert (answer.status, answer.header("x-radgateway-error-source")) == (500, "upstream")
        found = policies(gateway)
        assert sorted(policy.state for policy in found.values()) == ["closed", "open"]
        assert [policy.held for policy in found.values()].count(True) == 1
        metrics = await drive(gateway, http_scope("/metrics", method="GET"))
        lines = metrics.body.decode().splitlines()
        held = [line for line in lines if line.startswith("rad_gateway_circuit_breaker_held{")]
        assert sorted(line.split()[-1] for line in held) == ["0.0", "1.0"]
        refused = 'rad_gateway_circuit_breaker_refused_total{provider="a",reason="open"} '
        assert any(line.startswith(refused) and not line.endswith(" 0.0") for line in lines)
        await gateway.aclose()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("model", "providers"),
    [({"max_open_ratio": 1.0}, {"a": FAILING, "b": FAILING}), ({}, {"a": FAILING})],
)
def test_all_open_where_it_was_asked_or_there_is_one(model: Any, providers: Any) -> None:
    """Then callers are told when to come back, and no attempt is made."""

    async def story() -> None:
        gateway = create_gateway(configured(model, **providers))
        answer = await ask(gateway, 10)
        assert json.loads(answer.body)["error"]["code"] == "no_provider_available"
        assert 27 <= int(answer.header("retry-after") or "") <= 30
        assert {policy.state for policy in policies(gateway).values()} == {"open"}
        await gateway.aclose()

    asyncio.run(story())


def test_a_provider_without_a_breaker_counts_in_its_group() -> None:
    """The one beside it may open: somebody is left."""

    async def story() -> None:
        gateway = create_gateway(configured(a=FAILING, b={"kind": "mock", "breaker": None}))
        assert (await ask(gateway, 5)).status == 200
        app: Any = gateway
        while not hasattr(app, "providers"):
            app = app.app
        assert app.providers["a"].policy.state == "open"
        await gateway.aclose()

    asyncio.run(story())


def test_an_isolated_provider_costs_no_attempt() -> None:
    """An operator's word goes before priority, at once."""

    async def story() -> None:
        gateway = create_gateway(configured(a=WORKING, b=WORKING))
        policies(gateway)["a"].set_mode("isolated")
        answer = await ask(gateway)
        assert answer.status == 200
        assert answer.header("x-radgateway-provider") == "b"
        assert answer.header("x-radgateway-attempts") == "1"
        await gateway.aclose()

    asyncio.run(story())


@pytest.mark.servers
def test_gateways_warn_each_other_through_their_redis() -> None:
    """What one gateway's calls open, another one probes; without the setting nothing is shared."""

    async def story(uri: str) -> None:
        def replica(hints: bool, a: dict[str, Any]) -> Gateway:
            config = configured(a=a, b=WORKING)
            config["storage"] |= {"limits": uri, "breaker_hints": hints}
            return create_gateway(config)

        failing = replica(True, FAILING)
        told, deaf = replica(True, WORKING), replica(False, WORKING)
        for gateway in (failing, told, deaf):
            gateway.start()
        await asyncio.sleep(0.1)
        await ask(failing, 3)
        assert policies(failing)["a"].state == "open"
        async with asyncio.timeout(5):
            while policies(told)["a"].state != "half_open":
                await asyncio.sleep(0.01)
        assert policies(told)["b"].state == "closed"
        assert (await ask(told)).header("x-radgateway-provider") == "a"  # the probe
        assert policies(told)["a"].state == "closed"
        assert policies(deaf)["a"].snapshot().generation == 0
        ready = await drive(told, http_scope("/health/ready", method="GET"))
        assert json.loads(ready.body)["dependencies"]["breaker_hints"] == "ok"
        for gateway in (failing, told, deaf):
            await gateway.aclose()

    with running_valkey() as server:
        asyncio.run(story(server.uri))
