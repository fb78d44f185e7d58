"""The limits of a configuration, through the whole gateway."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from drive import Answer, drive, http_scope
from processes import Process, started
from valkey_server import Valkey, running_valkey

from radgateway import create_gateway
from radgateway.assembly import prices
from radgateway.assembly.limits import limit_book
from radgateway.assembly.providers import model_table
from radgateway.config import load_config
from radgateway.gateway import Gateway
from radgateway.inbound.limit_estimate import Estimate
from radgateway.routing.models import Candidate, ModelTable, Route
from radgateway.usage.price_book import NoPrices
from radgateway.usage.prices import Price

ROOT = Path(__file__).resolve().parents[2]
CHAT = "/v1/chat/completions"
CONFIG: dict[str, Any] = {
    "keys": [{"name": "caller", "secret": "key-1"}, {"name": "other", "secret": "key-2"}],
    "providers": {"mock": {"kind": "mock"}, "slow": {"kind": "mock", "tokens_per_s": 20}},
    "models": {
        "m": {"candidates": [{"provider": "mock", "price": {"input": 1000, "output": 2000}}]},
        "s": {"candidates": [{"provider": "slow"}]},
    },
    "storage": {"usage": "memory://"},
    "telemetry": {"metrics": True},
}


FREE = {"candidates": [{"provider": "mock"}]}


def with_limits(**first_key: Any) -> dict[str, Any]:
    keys = [CONFIG["keys"][0] | first_key, CONFIG["keys"][1]]
    return CONFIG | {"keys": keys}


def ask(gateway: Gateway, key: str = "key-1", **options: Any) -> Any:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20}
    scope = http_scope(CHAT, headers=[("x-api-key", key), ("content-type", "application/json")])
    driving = {name: options.pop(name) for name in ("leave", "on_chunk") if name in options}
    return drive(gateway, scope, json.dumps(body | options).encode(), **driving)


async def metric(gateway: Gateway, name: str) -> float:
    text = (await drive(gateway, http_scope("/metrics", method="GET"))).body.decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def left_of(answer: Answer, kind: str) -> int:
    found = re.search(rf'"{kind}";r=(\d+)', answer.header("ratelimit") or "")
    assert found is not None, answer.headers
    return int(found[1])


def refused_for(answer: Answer) -> str:
    assert answer.status == 429
    message: str = json.loads(answer.body)["error"]["message"]
    return message.removeprefix("The limit of ").partition(" is reached")[0]


def running(config: dict[str, Any], story: Any) -> None:
    async def run() -> None:
        gateway = create_gateway(config)
        try:
            await story(gateway)
        finally:
            await gateway.aclose()

    asyncio.run(run())


def test_tokens_of_a_key_are_settled_with_what_the_provider_reports() -> None:
    """Reserved by its bound, charged by its usage; the next answer shows it."""

    async def story(gateway: Gateway) -> None:
        first = await ask(gateway)
        assert 900 < left_of(first, "tokens") < 1000 - 20
        used = json.loads(first.body)["usage"]["total_tokens"]
        second = await ask(gateway, max_tokens=1)
        reserved = left_of(second, "tokens")
        third = await ask(gateway, max_tokens=1)
        assert 1000 - used - reserved < 50
        assert left_of(third, "tokens") < reserved
        refused = [await ask(gateway, max_tokens=500) for _ in range(30)]
        assert {answer.status for answer in refused} <= {200, 429}
        assert (await ask(gateway, "key-2")).header("ratelimit") is None

    running(with_limits(token_limits=["1000/hour"]), story)


def test_money_of_a_key_runs_out() -> None:
    """A dollar buys what it buys; then the caller hears when there is more."""

    async def story(gateway: Gateway) -> None:
        answers = [await ask(gateway, max_tokens=5) for _ in range(80)]
        served = [answer for answer in answers if answer.status == 200]
        refused = answers[len(served)]
        usage = json.loads(served[0].body)["usage"]
        cost = (usage["prompt_tokens"] + 2 * usage["completion_tokens"]) / 1000
        # The mock writes more than it is allowed, so the last one may go over.
        assert 1 / cost - 1 < len(served) < 1 / cost + 1
        assert refused_for(refused) == "1.00 USD per day"
        assert int(refused.header("retry-after") or "") > 60
        assert await metric(gateway, 'rad_gateway_rate_limited_total{reason="money"}') > 0

    running(with_limits(money_limits=["1.00/day"]), story)


def test_money_is_reserved_for_whoever_will_serve() -> None:
    """One asks more for the prompt and another for the answer: enough for either is held."""
    candidates = [
        {"provider": "mock", "price": {"input": 2, "output": 3}},
        {"provider": "slow", "price": {"input": 1, "output": 100}},
    ]
    config = load_config(CONFIG | {"models": {"m": {"candidates": candidates}, "f": FREE}}, {})
    prices_of = limit_book(config, model_table(config)).prices_of
    assert prices_of is not None
    for read, written, enough in ((1000, 0, 2000), (0, 1000, 100_000)):
        estimate = Estimate("m", 0, read, written, prices_of("m"))
        assert estimate.nano_usd == enough * 1000
    assert (prices_of("f"), prices_of("unknown")) == ([], [])


def test_money_is_reserved_at_the_price_of_the_moment() -> None:
    """What holds since a day is what is charged, so it is what is held."""
    first, second = (Price(Decimal(usd), Decimal(usd)) for usd in (2, 5))
    dated = Price(None, None, later=((100.0, first), (200.0, second)))
    models = ModelTable({"m": Route((Candidate("mock", "m", price=dated),))})
    moment = 0.0
    prices_of = limit_book(load_config(CONFIG, {}), models, wall=lambda: moment).prices_of
    assert prices_of is not None
    for at, nano_usd in ((0.0, 0), (150.0, 2000 * 1000), (250.0, 5000 * 1000)):
        moment = at
        assert Estimate("m", 0, 1000, 0, prices_of("m")).nano_usd == nano_usd


def test_limits_of_models_and_of_all_hold_for_every_caller() -> None:
    """Two keys share them; who is refused is told whose limit it was."""

    async def story(gateway: Gateway) -> None:
        for key in ("key-1", "key-2"):
            assert (await ask(gateway, key)).status == 200
        assert refused_for(await ask(gateway)) == "2 requests per hour for m"
        assert (await ask(gateway, model="s", max_tokens=1)).status == 200
        assert (await ask(gateway, model="s", max_tokens=1)).status == 200
        refused = await ask(gateway, "key-2", model="s", max_tokens=1)
        assert refused_for(refused) == "4 requests per hour for all callers"
        assert await metric(gateway, 'rad_gateway_rate_limited_total{reason="requests"}') == 2

    models = CONFIG["models"] | {"m": CONFIG["models"]["m"] | {"limits": {"requests": ["2/hour"]}}}
    limits = {"total": {"requests": ["4/hour"]}}
    running(CONFIG | {"models": models, "limits": limits}, story)


def test_callers_without_limits_of_their_own_get_those_of_each() -> None:
    """Also those who have no key here, and come by address."""

    async def story(gateway: Gateway) -> None:
        assert [(await ask(gateway)).status for _ in range(3)] == [200, 200, 200]
        statuses = [(await ask(gateway, "key-2")).status for _ in range(3)]
        assert statuses == [200, 200, 429]

    limits = {"per_caller": {"requests": ["2/hour"]}}
    running(with_limits(limits=["9/hour"]) | {"limits": limits}, story)

    async def open_door(gateway: Gateway) -> None:
        assert [(await ask(gateway)).status for _ in range(3)] == [200, 200, 429]

    running(CONFIG | {"keys": [], "limits": limits}, open_door)


def test_a_client_that_leaves_gets_back_what_was_not_written() -> None:
    """A stream broken off costs its prompt and the tokens that went out; its place is free."""

    async def story(gateway: Gateway) -> None:
        leave = asyncio.Event()

        def seen(answer: Answer) -> None:
            if len(answer.chunks) == 3:
                leave.set()

        words = [{"role": "user", "content": "a word or two " * 20}]
        gone = await ask(
            gateway,
            model="s",
            stream=True,
            messages=words,
            max_tokens=1000,
            leave=leave,
            on_chunk=seen,
        )
        assert not gone.complete
        after = await ask(gateway, max_tokens=1)
        assert after.status == 200
        # 1000 was held for the stream; a handful went out.
        assert 1000 - 30 < left_of(after, "output_tokens") < 1000 - 1
        assert left_of(after, "concurrency") == 0

    running(with_limits(output_token_limits=["1000/hour"], max_concurrency=1), story)


def test_all_limits_can_be_tried_in_shadow() -> None:
    """Nobody is refused; the metric and the log say who would have been."""

    async def story(gateway: Gateway) -> None:
        answers = [await ask(gateway, max_tokens=40) for _ in range(6)]
        assert [answer.status for answer in answers] == [200] * 6
        assert answers[0].header("ratelimit") is None
        reason = 'rad_gateway_rate_limited_total{reason="shadow_tokens"}'
        assert 3 <= await metric(gateway, reason) <= 5

    running(with_limits(token_limits=["100/day"]) | {"limits": {"shadow": True}}, story)


def test_memory_and_several_replicas_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    """In the notices, and in the log of those who start it another way."""
    config = load_config(CONFIG | {"limits": {"replicas": 3}}, {})
    assert any("up to 3 times what is configured" in notice for notice in config.notices)
    with caplog.at_level(logging.WARNING, "radgateway.app"):
        gateway = create_gateway(config)
    assert [record.message for record in caplog.records] == [
        "radgateway.rate_limit.memory_per_replica"
    ]
    asyncio.run(gateway.aclose())
    quiet = load_config(CONFIG | {"limits": {"replicas": 1}}, {})
    assert not any("replicas" in notice for notice in quiet.notices)


def test_money_without_a_price_is_said_aloud() -> None:
    """What has no price is not counted, and whoever sets a limit on money should know."""
    for limits in ({"money_limits": ["1/day"]}, {"budget": {"usd": 1, "per": "day"}}):
        config = load_config(with_limits(**limits), {})
        (notice,) = prices.notices(config, NoPrices())
        assert "models.s" in notice
        assert "slow" in notice
    assert list(prices.notices(load_config(CONFIG, {}), NoPrices())) == []


@pytest.mark.servers
@pytest.mark.parametrize(
    ("policy", "status", "word"),
    [
        ("open", 200, "unchecked"),
        ("closed", 503, "refused"),
        ("local", 200, "local"),
    ],
)
def test_a_lost_storage_is_seen(
    policy: str, status: int, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By readiness, a gauge and one log line; the requests in progress end as if nothing was."""

    async def story(valkey: Valkey) -> None:
        gateway = create_gateway(
            with_limits(limits=["100/hour"], token_limits=["9000/hour"], max_concurrency=9)
            | {"limits": {"on_storage_failure": policy, "storage_timeout_s": 2}}
            | {"storage": {"usage": "memory://", "limits": valkey.uri}}
        )
        assert (await ask(gateway)).status == 200
        available = "rad_gateway_limits_storage_available"
        assert await metric(gateway, available) == 1
        chunks = asyncio.Event()
        stream = asyncio.ensure_future(
            ask(gateway, model="s", stream=True, on_chunk=lambda answer: chunks.set())
        )
        await chunks.wait()
        valkey.kill()
        assert [(await ask(gateway)).status for _ in range(5)] == [status] * 5
        streamed = await stream
        assert (streamed.status, streamed.complete) == (200, True)
        ready = await drive(gateway, http_scope("/health/ready", method="GET"))
        assert json.loads(ready.body)["dependencies"]["limits"] == word
        assert ready.status == 200
        assert await metric(gateway, available) == 0
        await gateway.aclose()

    with running_valkey() as valkey, caplog.at_level(logging.WARNING, "radgateway.app"):
        asyncio.run(story(valkey))
    lost = [r for r in caplog.records if r.message == "radgateway.rate_limit.storage_lost"]
    assert len(lost) == 1


@pytest.mark.servers
def test_the_storages_times_are_those_configured() -> None:
    """A lease, the wait for a storage that hangs, and the count of what could not be settled."""

    async def story(valkey: Valkey) -> None:
        gateway = create_gateway(
            with_limits(max_concurrency=9)
            | {"limits": {"lease_s": 7, "storage_timeout_s": 0.4}}
            | {"storage": {"usage": "memory://", "limits": valkey.uri}}
        )
        begun = asyncio.Event()
        stream = asyncio.ensure_future(
            ask(gateway, model="s", stream=True, on_chunk=lambda answer: begun.set())
        )
        await begun.wait()
        look: Any = redis.Redis.from_url(valkey.uri, decode_responses=True)
        (place,) = look.keys("*")
        assert 5000 < look.pttl(place) <= 7000
        look.close()
        valkey.pause()
        began = time.monotonic()
        assert (await ask(gateway)).status == 200
        assert 0.4 <= time.monotonic() - began < 1.5
        assert (await stream).complete
        await gateway.aclose()
        # At least the place of the stream.
        assert await metric(gateway, "rad_gateway_limit_settlements_lost_total") >= 1

    with running_valkey() as valkey:
        asyncio.run(story(valkey))


SHARED = """
environment: local
keys:
  - name: k
    secret: key-1
    limits: ["30/hour"]
    token_limits: ["9000000/hour"]
    max_concurrency: 50
providers: {{mock: {{kind: mock}}}}
models: {{m: {{candidates: [{{provider: mock}}]}}}}
storage: {{usage: "memory://", limits: "{uri}"}}
limits: {{storage_timeout_s: 5}}
"""


@pytest.mark.servers
def test_two_gateways_on_one_redis_let_in_together_what_the_limit_says(tmp_path: Path) -> None:
    """Real processes, asked by many clients at once: to the request, and nothing stays held."""
    with running_valkey() as valkey:
        (tmp_path / "gateway.yaml").write_text(SHARED.format(uri=valkey.uri))
        serve = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
        environ = {"PYTHONPATH": str(ROOT)}
        with (
            started(serve, tmp_path, environ) as one,
            started(serve, tmp_path, environ) as other,
        ):
            statuses = asyncio.run(_asked([address(one), address(other)], 80))
            assert sorted(statuses) == [200] * 30 + [429] * 50
            for process in (one, other):
                assert process.end() == 0
        look: Any = redis.Redis.from_url(valkey.uri, decode_responses=True)
        kinds = sorted(key.split("/")[3] for key in look.keys("*"))
        look.close()
        # Places and reservations were given back before the end: what is left is what was spent.
        assert kinds == ["requests", "tokens"]


def address(process: Process) -> str:
    url = process.wait_for(r" on (http://\S+)")[1]
    process.wait_for("Application startup complete")
    return url


async def _asked(urls: list[str], times: int) -> list[int]:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20}
    async with httpx.AsyncClient(headers={"x-api-key": "key-1"}, timeout=20) as client:
        answers = await asyncio.gather(
            *(client.post(urls[n % len(urls)] + CHAT, json=body) for n in range(times))
        )
    return [answer.status_code for answer in answers]
