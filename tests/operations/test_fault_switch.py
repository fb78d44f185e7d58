"""Arming faults in a gateway that runs: the door, the audit log, the metrics and the clock."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from drive import Answer, drive, http_scope
from virtual_time import pending_timers, run_virtual

from radgateway import FaultInjector, Faults, MockProvider, create_gateway, describe
from radgateway.exchange import Exchange
from radgateway.gateway import Gateway
from radgateway.operations.arming import ArmingOrder
from radgateway.operations.fault_switch import FaultSwitch
from radgateway.telemetry.instruments import Instruments, LabelSets

PATH = "/v0/management/faults"
CONFIG: dict[str, Any] = {
    "keys": [{"name": "caller", "secret": "key-1"}],
    "admin_keys": [{"name": "ops", "secret": "key-admin"}],
    "providers": {"first": {"kind": "mock"}, "second": {"kind": "mock"}},
    "models": {
        "m": {"candidates": [{"provider": "first", "weight": 200}, {"provider": "second"}]},
        "only": {"candidates": [{"provider": "first"}]},
    },
    "storage": {"usage": "memory://"},
}
PRODUCTION = {**CONFIG, "environment": "production"}
PRODUCTION["keys"] = [{"name": "caller", "secret": "env:CALLER"}]
PRODUCTION["admin_keys"] = [{"name": "ops", "secret": "env:OPS"}]
ERRORS = {"provider": "first", "faults": {"error_ratio": 1}, "for_s": 10}


async def faults(
    gateway: Gateway, method: str = "GET", order: Any = None, **options: Any
) -> Answer:
    scope = http_scope(PATH, method=method, headers=[("x-api-key", "key-admin")], **options)
    body = order if isinstance(order, bytes) else json.dumps(order).encode()
    return await drive(gateway, scope, b"" if order is None else body)


async def chat(gateway: Gateway, model: str = "m") -> Answer:
    scope = http_scope("/v1/chat/completions", headers=[("x-api-key", "key-1")])
    return await drive(gateway, scope, b'{"model":"%s","messages":[]}' % model.encode())


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    """What the audit log holds."""
    return [
        (record.getMessage(), vars(record))
        for record in caplog.records
        if record.name == "radgateway.audit"
    ]


def test_armed_counted_shown_and_over_in_time(caplog: pytest.LogCaptureFixture) -> None:
    """From the order to its end by itself: traffic, view, metrics and audit agree."""
    instruments = Instruments(labels=LabelSets(providers=frozenset({"first", "second"})))

    def gauge() -> float | None:
        return instruments.registry.get_sample_value(
            "rad_gateway_faults_armed", {"provider": "first"}
        )

    async def story() -> None:
        gateway = create_gateway(CONFIG, instruments=instruments)
        assert json.loads((await faults(gateway)).body)["armed"] == []
        assert (await chat(gateway)).header("x-radgateway-provider") == "first"

        answer = await faults(gateway, "POST", {**ERRORS, "for_s": 0.3})
        assert answer.status == 200
        (armed,) = json.loads(answer.body)["armed"]
        assert (armed["provider"], armed["by"], armed["for_s"]) == ("first", "ops", 0.3)
        assert armed["faults"] == {"error_ratio": 1.0}
        assert gauge() == 1
        assert (await chat(gateway)).header("x-radgateway-provider") == "second"
        (armed,) = json.loads((await faults(gateway)).body)["armed"]
        assert (armed["requests"], armed["failures"]) == (1, 0)

        await asyncio.sleep(0.35)  # the time limit is the clock's own
        view = json.loads((await faults(gateway)).body)
        assert view["armed"] == []
        assert [(e["provider"], e["reason"]) for e in view["ended"]] == [("first", "expired")]
        assert (await chat(gateway)).header("x-radgateway-provider") == "first"
        assert gauge() == 0
        await gateway.aclose()

    with caplog.at_level(logging.WARNING):
        asyncio.run(story())
    (armed, armed_fields), (expired, expired_fields) = lines(caplog)
    assert (armed, expired) == ("radgateway.faults.armed", "radgateway.faults.expired")
    assert (armed_fields["by"], armed_fields["faults"]) == ("ops", {"error_ratio": 1.0})
    assert expired_fields["provider"] == "first"
    injected = {"provider": "first", "fault": "error"}
    name = "rad_gateway_faults_injected_total"
    assert instruments.registry.get_sample_value(name, injected) == 1


def test_it_disarms_itself_when_callers_suffer(caplog: pytest.LogCaptureFixture) -> None:
    """Without a second provider every request fails, and soon no longer."""

    async def story() -> None:
        gateway = create_gateway(CONFIG)
        await faults(gateway, "POST", {**ERRORS, "for_s": 1800})
        statuses = []
        for _ in range(40):
            statuses.append((await chat(gateway, "only")).status)
            await asyncio.sleep(0.05)
        assert set(statuses[:10]) == {503}
        view = json.loads((await faults(gateway)).body)
        assert view["ended"][0]["reason"] == "error_ratio"
        await gateway.aclose()

    with caplog.at_level(logging.WARNING):
        run_virtual(story())
    assert [event for event, _ in lines(caplog)][-1] == "radgateway.faults.aborted"


@pytest.mark.parametrize(
    ("status", "ended", "counted"),
    [
        (200, {}, (1, 0)),
        (429, {}, (1, 0)),
        (502, {}, (1, 1)),
        (200, {"interrupted": "idle_timeout"}, (1, 1)),
        (None, {}, (1, 1)),
        (None, {"disconnected": True}, (0, 0)),
        (200, {"disconnected": True, "interrupted": "client"}, (0, 0)),
    ],
)
def test_who_suffers_is_counted_and_who_left_is_not(
    status: int | None, ended: dict[str, Any], counted: tuple[int, int]
) -> None:
    """An error of the server's kind, a stream that broke off or no answer at all is a failure; a
    client's leaving says nothing."""
    told: list[Exchange] = []

    async def story() -> None:
        injectors = {name: FaultInjector(MockProvider()) for name in ("first", "second")}
        switch = FaultSwitch(injectors, healthy=lambda name: True)
        ending = switch.watching(told.append)
        switch.arm(ArmingOrder(provider="first", faults=Faults(error_ratio=1), for_s=10), "ops")
        exchange = Exchange("r")
        exchange.status = status
        for name, value in ended.items():
            setattr(exchange, name, value)
        ending(exchange)
        (armed,) = switch.view()["armed"]
        assert (armed["requests"], armed["failures"]) == counted
        await switch.aclose()

    asyncio.run(story())
    assert len(told) == 1


def test_disarmed_by_hand_and_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """DELETE ends one or all; closing the gateway ends the rest and leaves no timer."""

    async def story() -> None:
        gateway = create_gateway(CONFIG)
        await faults(gateway, "POST", ERRORS)
        nothing = json.loads((await faults(gateway, "DELETE", query="provider=second")).body)
        assert len(nothing["armed"]) == 1
        gone = json.loads((await faults(gateway, "DELETE")).body)
        assert (gone["armed"], gone["ended"][0]["by"]) == ([], "ops")
        assert (await chat(gateway)).header("x-radgateway-provider") == "first"
        await faults(gateway, "POST", ERRORS)
        await gateway.aclose()
        await asyncio.sleep(20)
        assert pending_timers() == 0

    with caplog.at_level(logging.WARNING):
        run_virtual(story())
    assert [fields.get("reason") for _, fields in lines(caplog)] == [
        None,
        "disarmed",
        None,
        "closed",
    ]


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (b"{", "not JSON"),
        (b"[]", "object"),
        ({"provider": "first", "faults": {}}, "for_s is missing"),
        ({**ERRORS, "for_s": 1801}, "for_s"),
        ({**ERRORS, "for_s": "long"}, "for_s"),
        ({**ERRORS, "until": 3}, "until"),
        ({**ERRORS, "faults": {"latency": 5}}, "did you mean 'latency_ms'"),
        ({**ERRORS, "faults": {"error_ratio": 2}}, "error_ratio"),
        ({**ERRORS, "faults": []}, "object"),
        ({**ERRORS, "abort": {"error_ratio": 0}}, "error_ratio"),
        ({**ERRORS, "provider": "third"}, "no provider 'third'"),
    ],
)
def test_an_order_that_is_none_arms_nothing(order: Any, said: str) -> None:
    """400 with what is wrong: a typing error must not look like an armed fault."""

    async def story() -> None:
        gateway = create_gateway(CONFIG)
        answer = await faults(gateway, "POST", order)
        assert answer.status == 400
        assert said in json.loads(answer.body)["error"]["message"]
        assert json.loads((await faults(gateway)).body)["armed"] == []
        await gateway.aclose()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("method", "query", "said"),
    [
        ("DELETE", "providr=first", "did you mean 'provider'"),
        ("DELETE", "provider=frist", "no provider 'frist'"),
        ("DELETE", "provider=", "no provider ''"),
        ("DELETE", "provider=first&provider=second", "given twice"),
        ("GET", "provider=first", "it takes none"),
        ("HEAD", "provider=first", ""),
        ("POST", "provider=first", "it takes none"),
    ],
)
def test_a_query_that_means_nothing_disarms_nothing(method: str, query: str, said: str) -> None:
    """Least of all everything: a parameter misspelt is not one left out."""

    async def story() -> None:
        gateway = create_gateway(CONFIG)
        await faults(gateway, "POST", ERRORS)
        order = {**ERRORS, "provider": "second"} if method == "POST" else None
        answer = await faults(gateway, method, order, query=query)
        assert answer.status == 400
        assert said in answer.body.decode()
        armed = json.loads((await faults(gateway)).body)["armed"]
        assert [each["provider"] for each in armed] == ["first"]
        await gateway.aclose()

    asyncio.run(story())


def test_head_has_the_headers_of_get() -> None:
    """And no body, whether arming is allowed or not."""

    async def story() -> None:
        for allowed in (True, False):
            gateway = create_gateway({**CONFIG, "chaos": {"allow": allowed}})
            shown, head = await faults(gateway), await faults(gateway, "HEAD")
            assert (head.status, head.body) == (200, b"")
            assert head.header("content-length") == str(len(shown.body))
            assert head.header("cache-control") == shown.header("cache-control") == "no-store"
            await gateway.aclose()

    asyncio.run(story())


def test_the_last_provider_that_serves_is_left_alone() -> None:
    """Whoever's breaker lets nothing through counts as harmed: before the order, and after it."""

    async def second(gateway: Gateway, mode: str) -> None:
        path = "/v0/management/providers/second/breaker"
        scope = http_scope(path, headers=[("x-api-key", "key-admin")])
        order = json.dumps({"mode": mode}).encode()
        assert (await drive(gateway, scope, order)).status == 200

    async def story() -> None:
        gateway = create_gateway(CONFIG)
        await second(gateway, "isolated")
        refused = await faults(gateway, "POST", ERRORS)
        assert refused.status == 400
        assert "unharmed" in json.loads(refused.body)["error"]["message"]
        await second(gateway, "auto")
        assert (await faults(gateway, "POST", ERRORS)).status == 200
        await second(gateway, "isolated")
        await asyncio.sleep(0.5)
        view = json.loads((await faults(gateway)).body)
        assert (view["armed"], view["ended"][0]["reason"]) == ([], "all_affected")
        await gateway.aclose()

    run_virtual(story())


def test_only_an_admin_opens_the_door() -> None:
    """401, 403, 405 and, without any admin key, not there at all; nor is an injector then."""

    async def story() -> None:
        gateway = create_gateway(CONFIG)
        assert (await drive(gateway, http_scope(PATH))).status == 401
        caller = http_scope(PATH, headers=[("x-api-key", "key-1")])
        assert (await drive(gateway, caller, json.dumps(ERRORS).encode())).status == 403
        assert (await faults(gateway, "PUT")).status == 405
        assert "FaultInjector" in describe(gateway).branches["first"].names
        await gateway.aclose()
        plain = create_gateway({k: v for k, v in CONFIG.items() if k != "admin_keys"})
        assert (await drive(plain, caller, json.dumps(ERRORS).encode())).status == 404
        assert "FaultInjector" not in describe(plain).branches["first"].names
        await plain.aclose()

    asyncio.run(story())


def test_production_arms_nothing_unless_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """403 `faults_not_allowed` and no injector; with `chaos: {allow: true}`, as elsewhere."""
    monkeypatch.setenv("CALLER", "key-1")
    monkeypatch.setenv("OPS", "key-admin")

    async def story() -> None:
        gateway = create_gateway(PRODUCTION)
        assert json.loads((await faults(gateway)).body)["allowed"] is False
        refused = await faults(gateway, "POST", ERRORS)
        assert refused.status == 403
        assert json.loads(refused.body)["error"]["code"] == "faults_not_allowed"
        assert "FaultInjector" not in describe(gateway).branches["first"].names
        await gateway.aclose()
        allowed = create_gateway({**PRODUCTION, "chaos": {"allow": True}})
        assert (await faults(allowed, "POST", ERRORS)).status == 200
        assert (await chat(allowed)).header("x-radgateway-provider") == "second"
        await allowed.aclose()

    asyncio.run(story())
