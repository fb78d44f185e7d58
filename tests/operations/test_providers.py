from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from drive import drive, http_scope
from serving import Call, provider, response

from radgateway import create_gateway
from radgateway.asgi import ASGIApp
from radgateway.exchange import Attempt
from radgateway.gateway import Gateway
from radgateway.operations.providers import ProviderStatus
from radgateway.provider.breaker import CircuitBreaker
from radgateway.provider.bulkhead import Bulkhead
from radgateway.provider.circuit.ejection import EjectionGroup
from radgateway.provider.circuit.policy import BreakerPolicy
from radgateway.provider.health import ProviderHealth
from radgateway.provider.probe import ProbeResult
from radgateway.provider.slots import Slots

ANSWER = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hi"},
                "finish_reason": "stop",
            }
        ],
    }
).encode()


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """A provider nobody calls."""


def status(
    app: ASGIApp, health: ProviderHealth | None = None, probe: ProbeResult | None = None
) -> ProviderStatus:
    probes = {"p": probe} if probe is not None else {}
    return ProviderStatus(
        "p", app, health or ProviderHealth(), probes, kind="openai", base_url="http://p"
    )


def failing() -> ProviderHealth:
    made = ProviderHealth(clock=lambda: 100.0)
    for _ in range(10):
        attempt = Attempt("p", "m", 99.0)
        attempt.ended, attempt.failure = 100.0, "upstream_unreachable"
        made.observe(attempt)
    return made


DOWN = ProbeResult(False, "upstream_unreachable", 0.1, 1.5e9)


def test_the_gravest_state_is_the_one_that_is_told() -> None:
    """Whether it is asked at all goes before how that turns out, and traffic before probes."""
    breaker = CircuitBreaker(nothing)
    full = Slots(1)
    stacked = CircuitBreaker(Bulkhead(nothing, full))
    assert status(nothing).state == "ok"
    assert status(nothing, probe=DOWN).state == "unreachable"
    assert status(nothing, failing(), DOWN).state == "failing"
    assert status(stacked, failing(), DOWN).state == "failing"
    full.take()
    assert status(stacked, failing(), DOWN).state == "full"
    stacked.policy.breaker.open()
    assert status(stacked, failing(), DOWN).state == "open"
    breaker.policy.breaker.open()
    breaker.policy.breaker.half_open()
    assert status(breaker).state == "half_open"


def test_the_last_of_its_group_is_failing_and_not_open() -> None:
    """It is asked all the same, and whoever looks sees that it does badly."""
    last, gone = CircuitBreaker(nothing), CircuitBreaker(nothing)
    group = EjectionGroup([last.policy, gone.policy])
    last.policy.join(group)
    gone.policy.set_mode("isolated")
    for _ in range(last.policy.config.min_calls):
        admission = last.policy.acquire()
        assert admission is not None
        last.policy.release(admission, "fail")
    assert (status(last).state, status(gone).state) == ("failing", "isolated")


@pytest.mark.parametrize("mode", ["disabled", "metrics_only"])
def test_a_circuit_that_keeps_nobody_away_is_no_state(mode: str) -> None:
    """Where an administrator has taken the decision from it, it is asked whatever it counts."""

    class Overruled(BreakerPolicy):
        @property
        def mode(self) -> Any:
            return mode

    policy = Overruled()
    policy.breaker.open()
    assert status(CircuitBreaker(nothing, policy)).state == "ok"


def test_what_is_not_known_is_null() -> None:
    """No traffic, no breaker, no bulkhead, no probe: no number is made up."""
    shown = status(nothing).show()
    assert shown == {
        "name": "p",
        "kind": "openai",
        "baseUrl": "http://p",
        "state": "ok",
        "circuitState": None,
        "circuitMode": None,
        "circuit": None,
        "retryAfterS": None,
        "inFlight": None,
        "maxConcurrency": None,
        "concurrencyLimit": None,
        "attempts": 0,
        "failures": 0,
        "errorRatio": None,
        "firstByteMs": {"ewma": None, "p50": None, "p95": None},
        "lastError": None,
        "probe": None,
    }


def test_what_stands_now_is_shown() -> None:
    """Calls under way of the places there are, and an open circuit with its count and its wait."""
    slots = Slots(3)
    slots.take()
    breaker = CircuitBreaker(Bulkhead(nothing, slots))
    policy = breaker.policy
    for _ in range(policy.config.min_calls):
        admission = policy.acquire()
        assert admission is not None
        policy.release(admission, "fail", reason="http_503")
    shown = status(breaker, failing()).show()
    assert (shown["inFlight"], shown["maxConcurrency"], shown["concurrencyLimit"]) == (1, 3, 3)
    assert (shown["state"], shown["circuitState"], shown["circuitMode"]) == ("open", "open", "auto")
    assert shown["circuit"].last_failure == "http_503"
    assert 25 < shown["retryAfterS"] <= 30
    assert (shown["attempts"], shown["failures"], shown["errorRatio"]) == (10, 10, 1.0)
    assert shown["lastError"]["reason"] == "upstream_unreachable"


async def get(gateway: Gateway, path: str, key: str = "key-admin") -> Any:
    scope = http_scope(path, headers=[("x-api-key", key)], method="GET")
    return json.loads((await drive(gateway, scope)).body)


def test_the_management_api_shows_what_traffic_and_probes_have_shown() -> None:
    """One provider that answers and one that refuses, over real sockets."""

    async def story() -> None:
        async def well(call: Call) -> None:
            if call.head.startswith(b"GET"):
                await call.say(response(b'{"data":[]}'))
                return
            await asyncio.sleep(0.02)
            await call.say(response(ANSWER))

        async def ill(call: Call) -> None:
            await call.say(response(b'{"error":{}}', "429 Too Many Requests", "retry-after: 40"))

        async with provider(well) as one, provider(ill) as other:
            probe = {"interval_s": 1, "timeout_s": 1}
            gateway = create_gateway(
                {
                    "keys": [],
                    "admin_keys": [{"name": "ops", "secret": "key-admin"}],
                    "providers": {
                        "ill": {"kind": "openai", "base_url": other.url, "probe": probe},
                        "well": {"kind": "openai", "base_url": one.url, "probe": probe},
                        "silent": {
                            "kind": "openai",
                            "base_url": "http://127.0.0.1:1",
                            "probe": {**probe, "path": ""},
                        },
                    },
                    "models": {"m": {"candidates": [{"provider": "ill"}, {"provider": "well"}]}},
                    "storage": {"usage": "memory://"},
                    "telemetry": {"metrics": True},
                }
            )
            for _ in range(3):
                scope = http_scope("/v1/chat/completions")
                answer = await drive(gateway, scope, b'{"model":"m","messages":[]}')
                assert answer.status == 200
            async with asyncio.timeout(5):
                while True:
                    found = await get(gateway, "/v0/management/providers")
                    shown = {row["name"]: row for row in found["data"]}
                    if all(row["probe"] for row in shown.values()):
                        break
                    await asyncio.sleep(0.05)
            assert shown["well"]["attempts"] == 3
            assert shown["well"]["errorRatio"] == 0
            assert 15 <= shown["well"]["firstByteMs"]["p50"] < 1000
            assert shown["well"]["lastError"] is None
            assert (shown["well"]["inFlight"], shown["well"]["maxConcurrency"]) == (0, 200)
            assert shown["well"]["probe"]["ok"] is True
            assert shown["ill"]["errorRatio"] == 1
            assert shown["ill"]["lastError"]["reason"] == "http_429"
            assert 0 < shown["ill"]["retryAfterS"] <= 40
            assert shown["ill"]["probe"]["ok"] is True  # it is busy, not gone
            assert shown["silent"]["probe"]["reason"] == "upstream_unreachable"
            assert shown["silent"]["state"] == "unreachable"
            assert shown["silent"]["circuitState"] == "closed"
            await asyncio.sleep(1.1)
            ready = await get(gateway, "/health/ready")
            assert ready["dependencies"]["provider:silent"] == "unreachable"
            scope = http_scope("/metrics", method="GET")
            metrics = (await drive(gateway, scope)).body.decode()
            assert 'rad_gateway_provider_healthy{provider="silent"} 0.0' in metrics
            assert 'rad_gateway_provider_healthy{provider="well"} 1.0' in metrics
            await gateway.aclose()

    asyncio.run(story())


def test_a_mock_is_not_asked() -> None:
    """It has no address."""
    with pytest.raises(ValueError, match="probe"):
        create_gateway(
            {
                "keys": [],
                "providers": {"mock": {"kind": "mock", "probe": {}}},
                "models": {"m": {"candidates": [{"provider": "mock"}]}},
            }
        )
