"""Prices and budgets of a configuration, through the whole gateway."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import genai_prices
import pytest
from drive import Answer, drive, http_scope
from serving import STREAM_HEAD, Call, chunked, provider, response
from usage_rows import usage_row
from valkey_server import running_valkey

from radgateway import create_gateway
from radgateway.config import load_config
from radgateway.exchange import Exchange
from radgateway.gateway import Gateway
from radgateway.inbound.limit_period import index_of, start_of
from radgateway.telemetry.request_log import fields_of
from radgateway.usage.journal import Journal, Segment
from radgateway.usage.ledger import SQLiteLedger
from radgateway.usage.price_book import PackagedPrices, Vendor
from radgateway.usage.prices import Price

CHAT = "/v1/chat/completions"
CONFIG: dict[str, Any] = {
    "keys": [
        {"name": "thrifty", "secret": "key-1", "budget": {"usd": "1", "per": "month"}},
        {"name": "free", "secret": "key-2"},
    ],
    "admin_keys": [{"name": "ops", "secret": "admin-1"}],
    "providers": {"mock": {"kind": "mock"}},
    "models": {
        "m": {"candidates": [{"provider": "mock", "price": {"input": 1000, "output": 2000}}]}
    },
    "storage": {"usage": "memory://"},
    "telemetry": {"metrics": True},
}
Story = Callable[[Gateway], Awaitable[None]]


def running(story: Story, **config: Any) -> None:
    async def run() -> None:
        gateway = create_gateway(CONFIG | config)
        try:
            gateway.start()
            await story(gateway)
        finally:
            await gateway.aclose()

    asyncio.run(run())


async def ask(gateway: Gateway, key: str = "key-1", path: str = CHAT, **options: Any) -> Answer:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20}
    headers = [("x-api-key", key), ("content-type", "application/json")]
    driving = {name: options.pop(name) for name in ("leave", "on_chunk") if name in options}
    data = json.dumps(body | options).encode()
    return await drive(gateway, http_scope(path, headers=headers), data, **driving)


async def look(gateway: Gateway, what: str) -> Any:
    scope = http_scope(f"/v0/management/{what}", method="GET", headers=[("x-api-key", "admin-1")])
    answer = await drive(gateway, scope)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


async def metric(gateway: Gateway, name: str) -> float:
    text = (await drive(gateway, http_scope("/metrics", method="GET"))).body.decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found is not None else 0.0


def until_next_month_s() -> float:
    now = time.time()
    return start_of("month", index_of("month", now) + 1) - now


async def spend(gateway: Gateway) -> tuple[Decimal, Answer]:
    """Ask until refused; what the answers cost, and the refusal."""
    total = Decimal()
    for _ in range(200):
        answer = await ask(gateway)
        if answer.status != 200:
            return total, answer
        usage = json.loads(answer.body)["usage"]
        total += Decimal(usage["prompt_tokens"] + 2 * usage["completion_tokens"]) / 1000
    raise AssertionError("nothing was refused")


def test_a_budget_runs_out_and_says_until_when() -> None:
    """In the caller's dialect, with a code of its own; nobody is told to try again."""

    async def story(gateway: Gateway) -> None:
        spent, refused = await spend(gateway)
        assert Decimal("0.9") < spent <= Decimal("1.02")
        error = json.loads(refused.body)["error"]
        assert (refused.status, error["code"]) == (429, "budget_exceeded")
        assert "1 USD per calendar month" in error["message"]
        wait_s = int(refused.header("retry-after") or "")
        assert wait_s == pytest.approx(until_next_month_s(), abs=5)
        assert refused.header("x-should-retry") == "false"
        assert (refused.header("ratelimit-policy") or "") == '"budget";q=100'
        theirs = await ask(gateway, path="/v1/messages")
        body = json.loads(theirs.body)
        assert (theirs.status, body["type"], body["error"]["code"]) == (
            429,
            "error",
            "budget_exceeded",
        )
        assert await metric(gateway, 'rad_gateway_rate_limited_total{reason="budget"}') == 2
        assert (await ask(gateway, "key-2")).status == 200

    running(story)


def test_what_is_spent_and_left_is_shown_without_a_secret() -> None:
    """Exactly what the rows say, in the same decimals."""

    async def story(gateway: Gateway) -> None:
        for _ in range(3):
            assert (await ask(gateway)).status == 200
        shown = await look(gateway, "keys")
        assert shown["total"] == 2
        thrifty, free = shown["data"]
        (limit,) = thrifty["limits"]
        rows: list[Any] = []
        while len(rows) < 3:
            rows = (await look(gateway, "usage"))["data"]
        total = sum(Decimal(row["costUsd"]) for row in rows)
        assert Decimal(limit["spent"]) == total
        assert Decimal(limit["left"]) == 1 - total
        assert (limit["limit"], limit["kind"], limit["amount"], limit["shadow"]) == (
            "1 USD per calendar month",
            "budget",
            "1",
            False,
        )
        assert limit["resetsAt"][8:] == "01T00:00:00Z"
        assert free == {"name": "free", "priority": "normal", "limits": []}
        assert "key-1" not in json.dumps(shown)

    running(story)


def test_a_budget_in_shadow_refuses_nobody_and_reports() -> None:
    """To see what it would do before it does it."""

    async def story(gateway: Gateway) -> None:
        for _ in range(40):
            assert (await ask(gateway)).status == 200
        assert await metric(gateway, 'rad_gateway_rate_limited_total{reason="shadow_budget"}') > 0

    running(story, keys=[CONFIG["keys"][0] | {"shadow_limits": True}])


def test_a_restart_gives_no_budget_back(tmp_path: Path) -> None:
    """Though limits are counted in memory: the ledger knows what was spent."""
    storage = {"usage": f"sqlite:///{tmp_path}/usage.db"}
    spent: list[Decimal] = []

    async def first(gateway: Gateway) -> None:
        spent.append((await spend(gateway))[0])

    async def second(gateway: Gateway) -> None:
        async with asyncio.timeout(10):
            while True:
                (limit,) = (await look(gateway, "keys"))["data"][0]["limits"]
                if Decimal(limit["spent"]) > 0:
                    break
                await asyncio.sleep(0.01)
        assert Decimal(limit["spent"]) == spent[0]
        assert (await ask(gateway)).status == 429

    running(first, storage=storage)
    running(second, storage=storage)


def test_a_restart_gives_callers_without_keys_no_budget_back(tmp_path: Path) -> None:
    """What all of them may spend together is spent."""

    async def first(gateway: Gateway) -> None:
        assert (await spend(gateway))[0] > Decimal("0.9")

    async def second(gateway: Gateway) -> None:
        for _ in range(15):  # which alone would not spend it
            if (await ask(gateway)).status == 429:
                return
            await asyncio.sleep(0.2)
        raise AssertionError("the budget was given back")

    budget = {"usd": "1", "per": "month"}
    settings = {"keys": [], "limits": {"total": {"budget": budget}}}
    for story in (first, second):
        running(story, storage={"usage": f"sqlite:///{tmp_path}/usage.db"}, **settings)


def test_a_process_that_was_killed_gives_no_budget_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only its journal knows is brought into the ledger first, however long that takes."""
    path = f"{tmp_path}/usage.db"
    ledger = SQLiteLedger(path)
    ledger.migrate()
    ledger.close()
    killed = Journal(Path(f"{path}.journal"))
    killed.append(usage_row(time.time() - 1, api_key_name="thrifty", cost_usd="0.75"))
    killed.close()
    adopt = Journal.adopt

    def slowly(journal: Journal) -> list[Segment]:
        time.sleep(1.0)
        return adopt(journal)

    monkeypatch.setattr(Journal, "adopt", slowly)

    async def story(gateway: Gateway) -> None:
        async with asyncio.timeout(10):
            while True:
                (limit,) = (await look(gateway, "keys"))["data"][0]["limits"]
                if limit["spent"] != "0":
                    break
                await asyncio.sleep(0.01)
        assert limit["spent"] == "0.75"

    running(story, storage={"usage": f"sqlite:///{path}"})


def test_replicas_share_a_budget_in_redis_and_a_restart_keeps_it() -> None:
    """What one spends the other lacks, whoever has restarted."""
    with running_valkey() as valkey:
        storage = {"usage": "memory://", "limits": valkey.uri}
        settings = {"storage": storage, "limits": {"storage_timeout_s": 10}}

        async def first(gateway: Gateway) -> None:
            for _ in range(5):
                assert (await ask(gateway)).status == 200

        async def second(gateway: Gateway) -> None:
            (limit,) = (await look(gateway, "keys"))["data"][0]["limits"]
            assert Decimal(limit["spent"]) > 0
            more, refused = await spend(gateway)
            assert refused.status == 429
            assert Decimal(limit["spent"]) + more == pytest.approx(Decimal(1), abs=Decimal("0.08"))
            valkey.kill()
            assert (await look(gateway, "keys"))["data"][0]["limits"] is None

        running(first, **settings)
        running(second, **settings)


PRICE = {"input": 3, "output": 15, "cached_input": "0.3", "cache_write": "3.75"}
START = {
    "type": "message_start",
    "message": {
        "usage": {
            "input_tokens": 100,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 200,
            "output_tokens": 1,
        }
    },
}
DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}
END: list[dict[str, Any]] = [
    {"type": "message_delta", "usage": {"output_tokens": 40}},
    {"type": "message_stop"},
]


def events(*payloads: dict[str, Any]) -> bytes:
    return b"".join(
        chunked(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode())
        for each in payloads
    )


@pytest.mark.parametrize(
    ("end", "written", "source", "cost"),
    [
        ("whole", 40, "reported", "0.00195"),
        ("broken", 6, "estimated", "0.00144"),
        ("left", 6, "estimated", "0.00144"),
    ],
)
def test_row_log_metrics_and_limits_have_one_figure(
    end: str, written: int, source: str, cost: str
) -> None:
    """Of a stream of Anthropic's that ends, breaks off, or whose client leaves."""
    records: list[Exchange] = []
    leave = asyncio.Event()

    async def script(call: Call) -> None:
        await call.say(STREAM_HEAD + events(START, *[DELTA] * 5))
        if end == "whole":
            await call.say(events(*END) + b"0\r\n\r\n")
        elif end == "broken":
            call.writer.close()
        else:
            await call.until_closed()

    async def run() -> None:
        async with provider(script) as made:
            config = CONFIG | {
                "providers": {"p": {"kind": "anthropic", "base_url": made.url}},
                "models": {"m": {"candidates": [{"provider": "p", "price": PRICE}]}},
            }
            gateway = create_gateway(config, on_end=records.append)
            gateway.start()

            def enough(answer: Answer) -> None:
                if end == "left" and answer.body.count(b"text_delta") == 5:
                    leave.set()

            await ask(gateway, path="/v1/messages", stream=True, leave=leave, on_chunk=enough)
            rows: list[Any] = []
            async with asyncio.timeout(10):
                while not rows:
                    rows = (await look(gateway, "usage"))["data"]
            check(rows[0])
            (limit,) = (await look(gateway, "keys"))["data"][0]["limits"]
            assert limit["spent"] == cost
            name = 'rad_gateway_cost_usd_total{model="m",provider="p"}'
            assert await metric(gateway, name) == float(cost)
            await gateway.aclose()

    def check(row: dict[str, Any]) -> None:
        (attempt,) = row["attempts"]
        for said in (row, attempt):
            assert (said["costUsd"], said["usageSource"], said["priceVersion"]) == (
                cost,
                source,
                "config",
            )
            usage = said["usage"]
            assert (usage["prompt_tokens"], usage["completion_tokens"]) == (1300, written)
            assert (usage["cached_tokens"], usage["cache_write_tokens"]) == (1000, 200)
        logged = fields_of(next(r for r in records if r.model is not None))
        assert (logged["cost_usd"], logged["usage_source"]) == (cost, source)
        assert (logged["input_tokens"], logged["output_tokens"]) == (1300, written)

    asyncio.run(run())


def left_at_once() -> asyncio.Event:
    """The client sends its request and is gone."""
    leave = asyncio.Event()
    leave.set()
    return leave


def test_whoever_leaves_again_and_again_comes_to_the_end_of_the_budget() -> None:
    """The provider has each of the requests, and will charge for them."""
    slow = {"kind": "mock", "latency_ms": 60_000}

    async def story(gateway: Gateway) -> None:
        answers = [await ask(gateway, leave=left_at_once()) for _ in range(30)]
        served = sum(answer.status == 0 for answer in answers)
        # Each is some 22 tokens of a prompt and the 20 of the answer that it allows: 6 cents.
        assert 14 <= served <= 17
        refused = [json.loads(answer.body)["error"]["code"] for answer in answers[served:]]
        assert refused == ["budget_exceeded"] * (30 - served)
        (limit,) = (await look(gateway, "keys"))["data"][0]["limits"]
        rows: list[Any] = []
        async with asyncio.timeout(10):
            while len(rows) < served:
                rows = (await look(gateway, "usage"))["data"]
        assert {row["outcome"] for row in rows} == {"client_disconnected"}
        assert Decimal(limit["spent"]) == sum(Decimal(row["costUsd"]) for row in rows)

    running(story, providers={"mock": slow})


@pytest.mark.parametrize(
    ("end", "failure", "code"),
    [
        ("left", None, None),
        ("timed out", "total_timeout", "total_timeout"),
        ("reset", "upstream_connection_lost", "upstream_connection_lost"),
    ],
)
def test_an_answer_that_never_came_has_one_figure(
    end: str, failure: str | None, code: str | None
) -> None:
    """Whether its client left, a clock ran out or the provider hung up: in the row, the log line,
    the metrics, and against the budget."""
    records: list[Exchange] = []
    leave = asyncio.Event()

    async def script(call: Call) -> None:
        if end == "left":
            leave.set()
        if end == "reset":
            call.writer.transport.abort()
        else:
            await call.until_closed()

    async def run() -> None:
        async with provider(script) as made:
            served = {"kind": "openai", "base_url": made.url, "timeouts": {"total_s": 0.2}}
            if end == "left":
                del served["timeouts"]
            config = CONFIG | {
                "providers": {"p": served},
                "models": {"m": {"candidates": [{"provider": "p", "price": PRICE}]}},
                "retry_budget": {"max_attempts": 1},
            }
            gateway = create_gateway(config, on_end=records.append)
            gateway.start()
            await ask(gateway, leave=leave)
            rows: list[Any] = []
            async with asyncio.timeout(10):
                while not rows:
                    rows = (await look(gateway, "usage"))["data"]
            read, written = -(-len(made.calls[0].body) // 4), 20
            cost = f"{Decimal(3 * read + 15 * written) / 10**6:f}"
            assert (rows[0]["errorCode"], rows[0]["attempts"][0]["error"]) == (code, failure)
            for said in (rows[0], rows[0]["attempts"][0]):
                assert (said["costUsd"], said["usageSource"]) == (cost, "estimated")
                usage = said["usage"]
                assert (usage["prompt_tokens"], usage["completion_tokens"]) == (read, written)
            (limit,) = (await look(gateway, "keys"))["data"][0]["limits"]
            assert limit["spent"] == cost
            name = 'rad_gateway_cost_usd_total{model="m",provider="p"}'
            assert await metric(gateway, name) == float(cost)
            logged = fields_of(next(r for r in records if r.model is not None))
            assert (logged["cost_usd"], logged["usage_source"]) == (cost, "estimated")
            assert (logged["input_tokens"], logged["output_tokens"]) == (read, written)
            await gateway.aclose()

    asyncio.run(run())


def test_a_request_that_was_never_sent_costs_nothing() -> None:
    """Its provider refuses the connection: the budget is as it was."""

    async def story(gateway: Gateway) -> None:
        assert (await ask(gateway)).status == 502
        (limit,) = (await look(gateway, "keys"))["data"][0]["limits"]
        assert limit["spent"] == "0"
        rows: list[Any] = []
        async with asyncio.timeout(10):
            while not rows:
                rows = (await look(gateway, "usage"))["data"]
        assert (rows[0]["usageSource"], rows[0]["costUsd"]) == ("absent", None)

    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    nobody = {"kind": "openai", "base_url": f"http://127.0.0.1:{port}"}
    running(story, providers={"mock": nobody})


def test_a_race_has_a_row_for_each_of_the_two() -> None:
    """The one that lost says what it is taken to have used; what the request cost is the sum."""
    turns = 0

    async def late_at_last(call: Call) -> None:
        nonlocal turns
        turns += 1
        if turns <= 3:
            await answers(call)
        else:
            await call.until_closed()

    async def answers(call: Call) -> None:
        usage = {"prompt_tokens": 10, "completion_tokens": 2}
        await call.say(response(json.dumps({"choices": [], "usage": usage}).encode()))

    async def run() -> None:
        async with provider(late_at_last) as one, provider(answers) as other:
            model = {
                "candidates": [{"provider": name, "price": PRICE} for name in ("a", "b")],
                "hedge": {"min_samples": 3, "min_delay_s": 0.05},
            }
            config = CONFIG | {
                "providers": {
                    "a": {"kind": "openai", "base_url": one.url},
                    "b": {"kind": "openai", "base_url": other.url},
                },
                "models": {"m": model},
            }
            gateway = create_gateway(config)
            gateway.start()
            for _ in range(4):
                assert (await ask(gateway)).status == 200
            rows: list[Any] = []
            async with asyncio.timeout(10):
                while len(rows) < 4:
                    rows = (await look(gateway, "usage"))["data"]
            row = rows[0]
            lost, won = row["attempts"]
            assert [(each["provider"], each["hedge"]) for each in (lost, won)] == [
                ("a", False),
                ("b", True),
            ]
            assert (lost["error"], lost["usageSource"]) == ("hedge_lost", "estimated")
            # What the model's prompts have come to by then, and not more than the caller allows.
            assert 10 <= lost["usage"]["prompt_tokens"] <= -(-len(one.calls[0].body) // 4)
            assert lost["usage"]["completion_tokens"] == 20
            assert (won["error"], won["usageSource"]) == (None, "reported")
            assert (row["provider"], row["usageSource"]) == ("b", "reported")
            assert row["usage"]["completion_tokens"] == 2
            total = Decimal(lost["costUsd"]) + Decimal(won["costUsd"])
            assert Decimal(row["costUsd"]) == total
            (limit,) = (await look(gateway, "keys"))["data"][0]["limits"]
            assert Decimal(limit["spent"]) == sum(Decimal(each["costUsd"]) for each in rows)
            await gateway.aclose()

    asyncio.run(run())


def test_an_attempt_that_failed_has_a_row_of_its_own() -> None:
    """Each attempt says what it used; what the request cost is the sum."""

    async def fails(call: Call) -> None:
        await call.say(STREAM_HEAD + events(START))
        call.writer.close()

    async def answers(call: Call) -> None:
        usage = {"input_tokens": 10, "output_tokens": 2}
        await call.say(response(json.dumps({"type": "message", "usage": usage}).encode()))

    async def run() -> None:
        async with provider(fails) as one, provider(answers) as other:
            candidates = [{"provider": name, "price": PRICE} for name in ("a", "b")]
            config = CONFIG | {
                "providers": {
                    "a": {"kind": "anthropic", "base_url": one.url},
                    "b": {"kind": "anthropic", "base_url": other.url},
                },
                "models": {"m": {"candidates": candidates}},
            }
            gateway = create_gateway(config)
            gateway.start()
            assert (await ask(gateway, path="/v1/messages")).status == 200
            rows: list[Any] = []
            async with asyncio.timeout(10):
                while not rows:
                    rows = (await look(gateway, "usage"))["data"]
            failed, answered = rows[0]["attempts"]
            assert (failed["usageSource"], answered["usageSource"]) == ("estimated", "reported")
            assert failed["usage"]["prompt_tokens"] == 1300
            assert answered["usage"]["prompt_tokens"] == 10
            total = Decimal(failed["costUsd"]) + Decimal(answered["costUsd"])
            assert Decimal(rows[0]["costUsd"]) == total
            assert (failed["hedge"], answered["hedge"]) == (False, False)
            await gateway.aclose()

    asyncio.run(run())


def test_the_version_of_prices_is_shown(tmp_path: Path) -> None:
    """In the configuration, and in the row of a request that was charged by it."""
    path = tmp_path / "prices.yaml"
    path.write_text(
        "version: '7'\nprices: [{provider: mock, model: m, price: {input: 1, output: 1}}]\n"
    )

    async def story(gateway: Gateway) -> None:
        assert (await look(gateway, "config"))["prices"] == {"source": "file", "version": "7"}
        await ask(gateway)
        rows: list[Any] = []
        while not rows:
            rows = (await look(gateway, "usage"))["data"]
        assert rows[0]["priceVersion"] == "7"
        assert rows[0]["costUsd"] is not None

    models = {"m": {"candidates": [{"provider": "mock"}]}}
    running(story, models=models, prices={"file": str(path)})


def test_a_price_of_hours_of_the_day_is_that_of_the_requests_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the row and against the budget, as the package's keepers reckon it for that moment."""
    model, vendor_url = "deepseek-chat", "https://api.deepseek.com"
    price_at_own_address = PackagedPrices.price

    def price(book: PackagedPrices, vendor: Vendor, name: str) -> Price | None:
        return price_at_own_address(book, replace(vendor, base_url=vendor_url), name)

    monkeypatch.setattr(PackagedPrices, "price", price)
    today = time.time() // 86_400 * 86_400
    noon, evening = today + 12 * 3600, today + 17 * 3600
    costs: list[Decimal] = []

    async def story(gateway: Gateway) -> None:
        for moment in (noon, evening):
            with monkeypatch.context() as clock:
                clock.setattr(
                    "radgateway.exchange.time", SimpleNamespace(time=partial(float, moment))
                )
                usage = json.loads((await ask(gateway)).body)["usage"]
            theirs = genai_prices.calc_price(
                genai_prices.Usage(
                    input_tokens=usage["prompt_tokens"], output_tokens=usage["completion_tokens"]
                ),
                model,
                provider_api_url=vendor_url,
                genai_request_timestamp=datetime.fromtimestamp(moment, UTC),
            )
            costs.append(theirs.total_price)
        assert costs[0] != costs[1]
        rows: list[Any] = []
        async with asyncio.timeout(10):
            while len(rows) < 2:
                rows = (await look(gateway, "usage"))["data"]
        assert [Decimal(row["costUsd"]) for row in reversed(rows)] == costs
        (limit,) = (await look(gateway, "keys"))["data"][0]["limits"]
        assert Decimal(limit["spent"]) == sum(costs)

    models = {"m": {"candidates": [{"provider": "mock", "model": model}]}}
    running(story, models=models, prices={"source": "builtin"})


def test_budgets_of_keys_are_read_from_a_configuration() -> None:
    """As they are written, with a mistake named by its place."""
    config = load_config(CONFIG, {})
    budget = config.keys[0].budget
    assert budget is not None
    assert (budget.usd, budget.per) == (Decimal(1), "month")
    wrong = CONFIG["keys"][0] | {"budget": {"usd": 0, "per": "weak"}}
    with pytest.raises(ValueError, match=r"keys\[0\]\.budget\.usd: must be over 0") as raised:
        load_config(CONFIG | {"keys": [wrong]}, {})
    assert "keys[0].budget.per: must be one of day, month" in str(raised.value)
