from __future__ import annotations

import asyncio
import json
import logging
from functools import partial
from typing import Any

import pytest
from drive import Answer, drive, http_scope

from radgateway import create_gateway
from radgateway.asgi import ASGIApp
from radgateway.composition import compose
from radgateway.exchange import Principal
from radgateway.inbound.auth import ApiKeyAuth, ApiKeys
from radgateway.inbound.drain import Drain, DrainLimits
from radgateway.inbound.request_context import RequestContextMiddleware
from radgateway.operations.management import Management, changes
from radgateway.operations.providers import ProviderStatus
from radgateway.provider.breaker import CircuitBreaker
from radgateway.provider.circuit.policy import BreakerPolicy
from radgateway.provider.circuit.standing import Mode
from radgateway.provider.health import ProviderHealth

KEYS = ApiKeys([(Principal("ann", admin=True), "key-admin"), (Principal("bob"), "key-1")])
BREAKER = "/v0/management/providers/p/breaker"
DRAIN = "/v0/management/drain"


class Ordered(BreakerPolicy):
    """A breaker's policy that notes the orders it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.orders: list[str] = []

    def set_mode(self, mode: Mode) -> None:
        """Take a mode."""
        super().set_mode(mode)
        self.orders.append(mode)

    def reset(self) -> None:
        """Begin anew."""
        super().reset()
        self.orders.append("reset")


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """A provider nobody calls."""


class Rig:
    """The management API around one provider, as the reference app puts it together."""

    def __init__(self, app: ASGIApp | None = None) -> None:
        self.policy = Ordered()
        self.drain = Drain(DrainLimits(timeout_s=7, stream_timeout_s=9))
        self.stopped = 0
        status = ProviderStatus(
            "p",
            app or CircuitBreaker(nothing, self.policy),
            ProviderHealth(),
            {},
            kind="openai",
            base_url="http://p",
        )
        self.app = compose(
            Management(changes(self.drain, self.stop, [status])),
            RequestContextMiddleware,
            partial(ApiKeyAuth, keys=KEYS, require_admin=True),
        )

    def stop(self) -> None:
        """Somebody wants it to end."""
        self.stopped += 1

    def post(self, path: str, body: bytes, key: str = "key-admin", method: str = "POST") -> Answer:
        """Send one order."""
        scope = http_scope(path, headers=[("x-api-key", key)], method=method)
        return asyncio.run(drive(self.app, scope, body))


@pytest.mark.parametrize(
    ("body", "order"),
    [
        (b'{"mode":"isolated"}', "isolated"),
        (b'{"mode":"disabled"}', "disabled"),
        (b'{"mode":"metrics_only"}', "metrics_only"),
        (b'{"mode":"auto"}', "auto"),
        (b'{"action":"reset"}', "reset"),
    ],
)
def test_a_breaker_takes_orders_and_they_are_logged(
    body: bytes, order: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is the provider as it is then; the log says who ordered what, from where."""
    rig = Rig()
    answer = rig.post(BREAKER, body)
    assert answer.status == 200
    assert rig.policy.orders == [order]
    shown = json.loads(answer.body)
    assert shown["name"] == "p"
    assert shown["circuit"]["mode"] == rig.policy.mode
    assert shown["circuit"]["state"] == rig.policy.state
    assert shown["circuitMode"] == rig.policy.mode
    assert shown["state"] == ("isolated" if order == "isolated" else "ok")
    (record,) = (r for r in caplog.records if r.name == "radgateway.admin")
    assert (record.levelno, record.getMessage()) == (logging.WARNING, "radgateway.admin.breaker")
    said = vars(record)
    assert (said["by"], said["from"], said["outcome"]) == ("ann", "127.0.0.1", "done")
    assert said["path"] == BREAKER
    assert said["order"] == json.loads(body)


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (b"", "invalid_request", "either"),
        (b"{}", "invalid_request", "either"),
        (b'{"mode":"auto","action":"reset"}', "invalid_request", "either"),
        (b'{"mode":"open"}', "invalid_request", "$.mode"),
        (b'{"action":"explode"}', "invalid_request", "$.action"),
        (b'{"mode":"auto","force":true}', "invalid_request", "force"),
        (b"[]", "invalid_request", "object"),
        (b'{"mode":', "invalid_json", "JSON"),
        (b"\xff\xfe", "invalid_json", "JSON"),
        (b"[" * 10_000, "invalid_request", "object"),
    ],
)
def test_an_order_that_is_none_is_refused_with_its_reason(
    body: bytes, code: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """400, nothing changed, and logged as refused."""
    rig = Rig()
    answer = rig.post(BREAKER, body)
    assert answer.status == 400
    error = json.loads(answer.body)["error"]
    assert error["code"] == code
    assert says in error["message"]
    assert rig.policy.orders == []
    assert [vars(r)["outcome"] for r in caplog.records if r.name == "radgateway.admin"] == [
        "refused"
    ]


def test_a_body_has_a_bound() -> None:
    """Nobody orders 16 KiB."""
    rig = Rig()
    assert rig.post(BREAKER, b'{"mode":"%s"}' % (b"x" * 20_000)).status == 413


def test_a_provider_without_a_breaker_has_none_to_set() -> None:
    """Said so, rather than pretended."""
    rig = Rig(nothing)
    answer = rig.post(BREAKER, b'{"action":"reset"}')
    assert answer.status == 400
    assert "no circuit breaker" in json.loads(answer.body)["error"]["message"]


def test_orders_are_for_administrators_and_for_post() -> None:
    """A caller's key is refused, GET is pointed at POST, and an unknown provider is not found."""
    rig = Rig()
    assert rig.post(BREAKER, b'{"mode":"isolated"}', key="key-1").status == 403
    assert rig.post(BREAKER, b'{"mode":"isolated"}', key="key-2").status == 401
    refused = rig.post(BREAKER, b"", method="GET")
    assert (refused.status, refused.header("allow")) == (405, "POST")
    unknown = rig.post("/v0/management/providers/q/breaker", b'{"mode":"isolated"}')
    assert (unknown.status, json.loads(unknown.body)["error"]["code"]) == (404, "unknown_path")
    assert rig.policy.orders == []


def test_a_drain_can_be_ordered(caplog: pytest.LogCaptureFixture) -> None:
    """It answers with what is in flight and how long that may take, and leaves a line."""
    rig = Rig()
    answer = rig.post(DRAIN, b"")
    assert answer.status == 202
    assert json.loads(answer.body) == {
        "status": "draining",
        "inFlight": 0,
        "streams": 0,
        "drainTimeoutS": 7,
        "streamDrainTimeoutS": 9,
    }
    assert rig.stopped == 1
    assert "radgateway.admin.drain" in caplog.text
    assert rig.post(DRAIN, b'{"now":true}').status == 400
    assert rig.stopped == 1


def test_a_mounted_gateway_drains_alone() -> None:
    """Nobody told it how to stop its host, so it refuses its own work and ends what is overdue."""

    async def story() -> None:
        gateway = create_gateway(
            {
                "keys": [],
                "admin_keys": [{"name": "ops", "secret": "key-admin"}],
                "providers": {"mock": {"kind": "mock", "tokens_per_s": 1, "latency_ms": 1}},
                "models": {"m": {"candidates": [{"provider": "mock"}]}},
                "storage": {"usage": "memory://"},
                "server": {"stream_drain_timeout_s": 2},
            }
        )
        words = "word " * 99
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": words}]}
        scope = http_scope("/v1/chat/completions")
        stream = asyncio.create_task(drive(gateway, scope, json.dumps(body).encode()))
        await asyncio.sleep(1.5)
        admin = http_scope(DRAIN, headers=[("x-api-key", "key-admin")])
        answer = await drive(gateway, admin)
        assert (answer.status, json.loads(answer.body)["streams"]) == (202, 1)
        await asyncio.sleep(0)
        assert (await drive(gateway, http_scope("/v1/chat/completions"))).status == 503
        assert b'"draining"' in (await stream).chunks[-1]
        # What it still answers is how it is.
        admin = http_scope(
            "/v0/management/usage", headers=[("x-api-key", "key-admin")], method="GET"
        )
        assert (await drive(gateway, admin)).status == 200
        await gateway.aclose()

    asyncio.run(story())
