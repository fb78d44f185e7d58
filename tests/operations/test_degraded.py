"""The table of degraded modes, driven: each dependency is really put into each of its states.

A situation sets up real servers (Valkey, PostgreSQL, SQLite, an OTLP receiver, an issuer of tokens,
providers on sockets), brings about the state, and checks that what the table declares is what
happens. Every row of the table has one, and readiness and metrics have to agree with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import minting
import pytest
from drive import Answer, drive, http_scope
from processes import started
from serving import Call, provider, response
from valkey_server import Valkey, running_valkey

from radgateway import create_gateway
from radgateway.chaos.fake_infisical import FakeInfisical
from radgateway.chaos.postgres import PostgresServer, postgres_server
from radgateway.gateway import Gateway
from radgateway.operations.degraded import MODES, DependencyWatch, Mode, mode_of

pytestmark = pytest.mark.servers

CHAT = "/v1/chat/completions"
MOCK = {"kind": "mock"}
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()

Situation = Callable[["Rig"], Awaitable[None]]
SITUATIONS: dict[tuple[str, str], list[Situation]] = {}


def when(dependency: str, state: str) -> Callable[[Situation], Situation]:
    """Registers a situation for one row of the table."""

    def register(situation: Situation) -> Situation:
        SITUATIONS.setdefault((dependency, state), []).append(situation)
        return situation

    return register


class Rig:
    """A gateway to be put into a situation. `shows` is how the dependency is named."""

    def __init__(self, mode: Mode, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mode = mode
        self.directory = directory
        self.monkeypatch = monkeypatch
        self.shows = "provider:p" if mode.dependency == "provider" else mode.dependency

    @contextlib.asynccontextmanager
    async def gateway(self, **settings: Any) -> AsyncIterator[Gateway]:
        """A gateway of these settings, on a mock where nothing else is said."""
        config = {
            "keys": [{"name": "k", "secret": "key-1"}],
            "admin_keys": [{"name": "ops", "secret": "key-admin"}],
            "providers": {"p": MOCK},
            "models": {"m": {"candidates": [{"provider": "p"}]}},
            "storage": {"usage": "memory://"},
            "telemetry": {"metrics": True, "tracing": {"enabled": False}},
            **settings,
        }
        made = create_gateway(config)
        made.start()
        try:
            yield made
        finally:
            await made.aclose()

    async def is_shown(self, gateway: Gateway, within_s: float = 10.0) -> None:
        """Readiness and the metrics come to show this row, and it is ready where that says so."""
        expected = {
            "dependency": self.shows,
            "state": self.mode.state,
            "behaviour": self.mode.behaviour,
        }
        until = time.monotonic() + within_s
        while True:
            answer = await get(gateway, "/health/ready")
            ready = json.loads(answer.body)
            if ready["dependencies"][self.shows] == self.mode.state:
                break
            assert time.monotonic() < until, ready
            await asyncio.sleep(0.02)
        assert (answer.status, ready["status"]) == (
            (200, "ready") if self.mode.ready else (503, "unavailable")
        )
        in_force = [row for row in ready["degraded"] if row["dependency"] == self.shows]
        assert in_force == ([expected] if self.mode.behaviour else [])
        metrics = (await get(gateway, "/metrics")).body.decode()
        available = f'rad_gateway_dependency_available{{dependency="{self.shows}"}}'
        assert f"{available} {float(self.mode.available)}" in metrics
        in_force_now = [
            line
            for line in metrics.splitlines()
            if line.startswith(f'rad_gateway_degraded_mode{{dependency="{self.shows}"')
            and line.endswith(" 1.0")
        ]
        expected_line = (
            f'rad_gateway_degraded_mode{{dependency="{self.shows}",mode="{self.mode.state}"}} 1.0'
        )
        assert in_force_now == ([expected_line] if self.mode.behaviour else [])


async def get(gateway: Gateway, path: str) -> Answer:
    scope = http_scope(path, headers=[("x-api-key", "key-admin")], method="GET")
    return await drive(gateway, scope)


async def chat(gateway: Gateway, key: str = "key-1") -> Answer:
    """One chat, with a key or a token."""
    headers = [("authorization", f"Bearer {key}")]
    return await drive(gateway, http_scope(CHAT, headers=headers), BODY)


def code_of(answer: Answer) -> str:
    code: str = json.loads(answer.body)["error"]["code"]
    return code


# limits


def limited(server: Valkey, **limits: Any) -> dict[str, Any]:
    return {
        "keys": [{"name": "k", "secret": "key-1", "limits": ["2/minute"]}],
        "storage": {"usage": "memory://", "limits": server.uri},
        # A server that is there may be slow on a machine that is busy; one that is gone says so.
        "limits": {"storage_timeout_s": 2} | limits,
    }


@when("limits", "ok")
async def limits_are_kept(rig: Rig) -> None:
    with running_valkey() as server:
        async with rig.gateway(**limited(server)) as gateway:
            assert [(await chat(gateway)).status for _ in range(3)] == [200, 200, 429]
            await rig.is_shown(gateway)


@when("limits", "unchecked")
async def the_store_of_limits_is_gone(rig: Rig) -> None:
    with running_valkey() as server:
        async with rig.gateway(**limited(server)) as gateway:
            assert (await chat(gateway)).status == 200
            server.kill()
            assert [(await chat(gateway)).status for _ in range(5)] == [200] * 5
            await rig.is_shown(gateway)


@when("limits", "unchecked")
async def the_store_of_limits_hangs(rig: Rig) -> None:
    with running_valkey() as server:
        async with rig.gateway(**limited(server, storage_timeout_s=0.04)) as gateway:
            assert (await chat(gateway)).status == 200
            server.pause()
            for _ in range(5):
                began = time.monotonic()
                assert (await chat(gateway)).status == 200
                assert time.monotonic() - began < 0.3
            await rig.is_shown(gateway)
            server.resume()
            async with asyncio.timeout(10):
                while (await chat(gateway)).status != 429:
                    await asyncio.sleep(0.1)
            assert mode_now(await get(gateway, "/health/ready"), "limits") == "ok"


@when("limits", "refused")
async def the_store_of_limits_is_gone_and_they_are_strict(rig: Rig) -> None:
    with running_valkey() as server:
        async with rig.gateway(**limited(server, on_storage_failure="closed")) as gateway:
            assert (await chat(gateway)).status == 200
            server.kill()
            refused = await chat(gateway)
            assert (refused.status, code_of(refused)) == (503, "overloaded")
            await rig.is_shown(gateway)


@when("limits", "local")
async def the_store_of_limits_is_gone_and_each_counts_its_share(rig: Rig) -> None:
    with running_valkey() as server:
        shared = limited(server, on_storage_failure="local", replicas=2)
        async with rig.gateway(**shared) as gateway:
            assert (await chat(gateway)).status == 200
            server.kill()
            # Of two a minute one is this replica's.
            assert [(await chat(gateway)).status for _ in range(3)] == [200, 429, 429]
            await rig.is_shown(gateway)


def mode_now(ready: Answer, dependency: str) -> str:
    state: str = json.loads(ready.body)["dependencies"][dependency]
    return state


# usage


async def stored(gateway: Gateway, count: int) -> None:
    """Wait until the ledger has this many rows."""
    async with asyncio.timeout(10):
        while True:
            answer = await get(gateway, "/v0/management/usage")
            if answer.status == 200 and json.loads(answer.body)["total"] == count:
                return
            await asyncio.sleep(0.05)


@when("usage", "ok")
async def usage_is_written(rig: Rig) -> None:
    path = rig.directory / "usage.db"
    async with rig.gateway(storage={"usage": f"sqlite:///{path}"}) as gateway:
        assert (await chat(gateway)).status == 200
        await stored(gateway, 1)
        await rig.is_shown(gateway)


@when("usage", "unavailable")
async def the_ledger_is_locked(rig: Rig) -> None:
    path = rig.directory / "usage.db"
    async with rig.gateway(storage={"usage": f"sqlite:///{path}"}) as gateway:
        assert (await chat(gateway)).status == 200
        await stored(gateway, 1)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        assert [(await chat(gateway)).status for _ in range(5)] == [200] * 5
        assert time.monotonic() - began < 1
        await rig.is_shown(gateway)
        other.execute("ROLLBACK")
        other.close()
        await stored(gateway, 6)
        assert mode_now(await get(gateway, "/health/ready"), "usage") == "ok"


@when("usage", "unavailable")
async def the_ledger_can_not_be_opened(rig: Rig) -> None:
    path = rig.directory / "not-there" / "usage.db"
    async with rig.gateway(storage={"usage": f"sqlite:///{path}"}) as gateway:
        assert [(await chat(gateway)).status for _ in range(3)] == [200] * 3
        await rig.is_shown(gateway)
        for view in ("usage", "traces"):
            refused = await get(gateway, f"/v0/management/{view}")
            assert (refused.status, code_of(refused)) == (503, "overloaded")
            assert refused.header("retry-after")
        path.parent.mkdir()
        await stored(gateway, 3)
        assert mode_now(await get(gateway, "/health/ready"), "usage") == "ok"


def in_postgresql(server: PostgresServer, rig: Rig) -> dict[str, str]:
    return {"usage": server.dsn, "journal": str(rig.directory / "journal")}


@when("usage", "ok")
async def usage_is_written_to_postgresql(rig: Rig) -> None:
    with postgres_server() as server:
        async with rig.gateway(storage=in_postgresql(server, rig)) as gateway:
            assert (await chat(gateway)).status == 200
            await stored(gateway, 1)
            await rig.is_shown(gateway)


@when("usage", "unavailable")
async def postgresql_is_down(rig: Rig) -> None:
    with postgres_server() as server:
        async with rig.gateway(storage=in_postgresql(server, rig)) as gateway:
            assert (await chat(gateway)).status == 200
            await stored(gateway, 1)
            server.stop()
            assert [(await chat(gateway)).status for _ in range(5)] == [200] * 5
            await rig.is_shown(gateway)
            refused = await get(gateway, "/v0/management/usage")
            assert (refused.status, code_of(refused)) == (503, "overloaded")
            server.start()
            await stored(gateway, 6)
            assert mode_now(await get(gateway, "/health/ready"), "usage") == "ok"


@when("usage", "unavailable")
async def postgresql_hangs(rig: Rig) -> None:
    with postgres_server() as server:
        async with rig.gateway(storage=in_postgresql(server, rig)) as gateway:
            assert (await chat(gateway)).status == 200
            await stored(gateway, 1)
            server.hang()
            began = time.monotonic()
            assert [(await chat(gateway)).status for _ in range(5)] == [200] * 5
            assert time.monotonic() - began < 1
            await rig.is_shown(gateway)
            server.resume()
            await stored(gateway, 6)
            assert mode_now(await get(gateway, "/health/ready"), "usage") == "ok"


@when("journal", "ok")
async def rows_are_on_disk_at_once(rig: Rig) -> None:
    path = rig.directory / "usage.db"
    async with rig.gateway(storage={"usage": f"sqlite:///{path}"}) as gateway:
        assert (await chat(gateway)).status == 200
        assert list(Path(f"{path}.journal").iterdir())
        await rig.is_shown(gateway)


@when("journal", "unavailable")
async def the_journal_can_not_be_written(rig: Rig) -> None:
    path = rig.directory / "usage.db"
    Path(f"{path}.journal").write_text("in the way")
    async with rig.gateway(storage={"usage": f"sqlite:///{path}"}) as gateway:
        assert [(await chat(gateway)).status for _ in range(3)] == [200] * 3
        await rig.is_shown(gateway)
        await stored(gateway, 3)


# secrets


@contextlib.asynccontextmanager
async def kept_in_a_store(rig: Rig, **store: Any) -> AsyncIterator[tuple[FakeInfisical, Gateway]]:
    """A gateway whose caller's key is in a store."""
    with FakeInfisical() as server:
        server.values["/"]["CALLER"] = "key-1"
        for name, value in server.environ.items():
            rig.monkeypatch.setenv(name, value)
        async with rig.gateway(
            keys=[{"name": "k", "secret": "infisical:CALLER"}],
            secrets={"refresh_s": 1, "infisical": server.settings(**store)},
        ) as gateway:
            yield server, gateway


@when("secrets", "ok")
async def secrets_are_read_again(rig: Rig) -> None:
    async with kept_in_a_store(rig) as (server, gateway):
        assert (await chat(gateway)).status == 200
        server.values["/"]["CALLER"] = "key-2"
        async with asyncio.timeout(10):
            while (await chat(gateway, "key-2")).status != 200:
                await asyncio.sleep(0.05)
        assert (await chat(gateway)).status == 401
        await rig.is_shown(gateway)


@when("secrets", "stale")
async def a_secret_that_goes_away_stays_in_force(rig: Rig) -> None:
    file = rig.directory / "key"
    file.write_text("key-2")
    keys = [{"name": "k", "secret": f"file:{file}"}]
    async with rig.gateway(keys=keys, secrets={"file_poll_s": 0.1}) as gateway:
        file.unlink()
        await rig.is_shown(gateway)
        assert (await chat(gateway, "key-2")).status == 200


@when("secrets", "stale")
async def the_store_goes_away(rig: Rig) -> None:
    async with kept_in_a_store(rig) as (server, gateway):
        server.refuse()
        await rig.is_shown(gateway)
        assert (await chat(gateway)).status == 200


@when("secrets", "expired")
async def the_store_stays_away(rig: Rig) -> None:
    async with kept_in_a_store(rig, max_stale_s=2) as (server, gateway):
        assert (await chat(gateway)).status == 200
        server.refuse()
        await rig.is_shown(gateway)
        refused = await chat(gateway)
        assert (refused.status, code_of(refused)) == (503, "secrets_expired")
        assert refused.header("retry-after") in ("1", "2")
        view = await get(gateway, "/v0/management/config")
        assert view.status == 503
        server.listen()
        async with asyncio.timeout(10):
            while (await chat(gateway)).status != 200:
                await asyncio.sleep(0.05)


@when("secrets", "unreadable")
async def a_secret_that_is_not_there_ends_the_start(rig: Rig) -> None:
    config = {
        "keys": [{"name": "k", "secret": f"file:{rig.directory}/none"}],
        "admin_keys": [{"name": "ops", "secret": "env:RAD_NOT_SET"}],
        "providers": {"p": MOCK},
        "models": {"m": {"candidates": [{"provider": "p"}]}},
    }
    (rig.directory / "gateway.yaml").write_text(json.dumps(config))
    arguments = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
    with started(arguments, rig.directory) as process:
        assert await asyncio.to_thread(process.process.wait, 20) == 2
        process.wait_for(r"keys\[0\]\.secret")
        process.wait_for("RAD_NOT_SET")


# tokens


class Issuer:
    """What the issuer's server says of its keys."""

    def __init__(self) -> None:
        self.document = minting.KEY_SET
        self.ahead_s = 0.0
        self.there = True

    async def __call__(self, call: Call) -> None:
        date = email.utils.formatdate(time.time() + self.ahead_s, usegmt=True)
        if self.there:
            await call.say(response(self.document, "200 OK", f"date: {date}", "connection: close"))
        call.writer.close()


def issued(url: str, **more: Any) -> dict[str, Any]:
    said = {"issuer": minting.ISSUER, "audience": minting.AUDIENCE, "jwks_url": f"{url}/keys"}
    return {"jwt": {**said, "refresh_s": 1, **more}}


def token(**said: Any) -> str:
    now = int(time.time())
    return minting.token("RS256", 0, **{"iat": now, "exp": now + 60, **said}).decode()


@when("tokens", "ok")
async def tokens_are_checked(rig: Rig) -> None:
    async with provider(Issuer()) as server, rig.gateway(**issued(server.url)) as gateway:
        assert (await chat(gateway, token())).status == 200
        await rig.is_shown(gateway)


@when("tokens", "stale")
async def the_issuer_is_gone_after_the_first_keys(rig: Rig) -> None:
    issuer = Issuer()
    async with provider(issuer) as server, rig.gateway(**issued(server.url)) as gateway:
        assert (await chat(gateway, token())).status == 200
        issuer.there = False
        await rig.is_shown(gateway)
        assert (await chat(gateway, token())).status == 200


@when("tokens", "unavailable")
async def the_issuer_was_never_there(rig: Rig) -> None:
    async with rig.gateway(**issued("http://127.0.0.1:1")) as gateway:
        await rig.is_shown(gateway)
        refused = await chat(gateway, token())
        assert (refused.status, code_of(refused)) == (503, "auth_unavailable")
        assert (await chat(gateway, "key-1")).status == 200


@when("tokens", "unusable")
async def the_issuer_has_no_key_for_us(rig: Rig) -> None:
    issuer = Issuer()
    issuer.document = b'{"keys":[]}'
    async with provider(issuer) as server, rig.gateway(**issued(server.url)) as gateway:
        await rig.is_shown(gateway)
        assert (await chat(gateway, token())).status == 401
        assert (await chat(gateway, "key-1")).status == 200


@when("tokens", "clocks_differ")
async def the_issuers_clock_is_ahead(rig: Rig) -> None:
    issuer = Issuer()
    issuer.ahead_s = 90
    async with provider(issuer) as server, rig.gateway(**issued(server.url)) as gateway:
        await rig.is_shown(gateway)
        now = int(time.time())
        assert (await chat(gateway, token(iat=now + 30, exp=now + 90))).status == 200
        early = await chat(gateway, token(iat=now + 90, nbf=now + 90, exp=now + 150))
        assert (early.status, code_of(early)) == (401, "token_not_yet_valid")


# traces


def traced(endpoint: str) -> dict[str, Any]:
    tracing = {"enabled": True, "otlp_endpoint": endpoint, "sampling_rate": 1.0}
    return {"telemetry": {"metrics": True, "tracing": tracing}}


@when("traces", "off")
async def nobody_wants_traces(rig: Rig) -> None:
    async with rig.gateway() as gateway:
        assert (await chat(gateway)).status == 200
        await rig.is_shown(gateway)


@when("traces", "ok")
async def the_collector_takes_spans(rig: Rig) -> None:
    async def collector(call: Call) -> None:
        await call.say(response(b"", "200 OK", "content-type: application/x-protobuf"))

    rig.monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    async with provider(collector) as server, rig.gateway(**traced(server.url)) as gateway:
        assert (await chat(gateway)).status == 200
        async with asyncio.timeout(10):
            while not server.calls:
                await asyncio.sleep(0.05)
        assert b"gateway_request" in server.calls[0].body
        await rig.is_shown(gateway)


@when("traces", "unavailable")
async def the_collector_is_down(rig: Rig) -> None:
    rig.monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    async with rig.gateway(**traced("http://127.0.0.1:1")) as gateway:
        assert (await chat(gateway)).status == 200
        await rig.is_shown(gateway, within_s=15)
        began = time.monotonic()
        assert [(await chat(gateway)).status for _ in range(20)] == [200] * 20
        assert time.monotonic() - began < 2


# providers


def pair(url: str, *, alone: bool = False, **more: Any) -> dict[str, Any]:
    """A provider at an address, and a mock that stands in where it is not alone."""
    candidates = [{"provider": "p"}, {"provider": "spare"}]
    return {
        "providers": {"p": {"kind": "openai", "base_url": url, **more}, "spare": MOCK},
        "models": {"m": {"candidates": candidates[:1] if alone else candidates}},
        "retry_budget": {"min_per_s": 100},
    }


def route_of(answer: Answer) -> tuple[int, str | None, str | None]:
    """Status, who answered, and in which attempt."""
    return (
        answer.status,
        answer.header("x-radgateway-provider"),
        answer.header("x-radgateway-attempts"),
    )


NOWHERE = "http://127.0.0.1:1"
PASSED_OVER = (200, "spare", "1")
FAILED_OVER = (200, "spare", "2")


@when("provider", "ok")
async def a_provider_answers(rig: Rig) -> None:
    async with rig.gateway() as gateway:
        assert route_of(await chat(gateway)) == (200, "p", "1")
        await rig.is_shown(gateway)


@when("provider", "failing")
async def a_provider_without_a_breaker_refuses(rig: Rig) -> None:
    async with rig.gateway(**pair(NOWHERE, breaker=None)) as gateway:
        for _ in range(12):
            assert route_of(await chat(gateway)) == FAILED_OVER
        await rig.is_shown(gateway)


@when("provider", "open")
async def a_circuit_is_open(rig: Rig) -> None:
    breaker = {"min_calls": 2, "open_s": 60}
    async with rig.gateway(**pair(NOWHERE, breaker=breaker)) as gateway:
        for _ in range(2):
            assert route_of(await chat(gateway)) == FAILED_OVER
        assert route_of(await chat(gateway)) == PASSED_OVER
        await rig.is_shown(gateway)


@when("provider", "half_open")
async def a_circuit_tries_a_few(rig: Rig) -> None:
    hanging = asyncio.Event()

    async def refusing_then_hanging(call: Call) -> None:
        if hanging.is_set():
            await call.until_closed()
            return
        await call.say(response(b"{}", "500 Internal Server Error"))

    breaker = {"min_calls": 2, "open_s": 1, "half_open_calls": 1}
    async with (
        provider(refusing_then_hanging) as server,
        rig.gateway(**pair(server.url, breaker=breaker)) as gateway,
    ):
        for _ in range(2):
            assert route_of(await chat(gateway)) == FAILED_OVER
        hanging.set()
        seen = len(server.calls)
        trying: list[asyncio.Task[Answer]] = []
        async with asyncio.timeout(10):
            while len(server.calls) == seen:
                trying.append(asyncio.create_task(chat(gateway)))
                await asyncio.sleep(0.1)
        await rig.is_shown(gateway)
        assert route_of(await chat(gateway)) == PASSED_OVER
        for task in trying:
            task.cancel()
        await asyncio.gather(*trying, return_exceptions=True)


@when("provider", "isolated")
async def a_provider_is_isolated_by_hand(rig: Rig) -> None:
    async def order(gateway: Gateway, mode: str) -> int:
        path = "/v0/management/providers/p/breaker"
        scope = http_scope(path, headers=[("x-api-key", "key-admin")])
        return (await drive(gateway, scope, json.dumps({"mode": mode}).encode())).status

    settings = {
        "providers": {"p": MOCK, "spare": MOCK},
        "models": {"m": {"candidates": [{"provider": "p"}, {"provider": "spare"}]}},
    }
    async with rig.gateway(**settings) as gateway:
        assert route_of(await chat(gateway)) == (200, "p", "1")
        assert await order(gateway, "isolated") == 200
        assert route_of(await chat(gateway)) == PASSED_OVER
        await rig.is_shown(gateway)
        assert await order(gateway, "auto") == 200
        assert route_of(await chat(gateway)) == (200, "p", "1")


@when("provider", "resting")
async def a_provider_asks_to_be_left_alone(rig: Rig) -> None:
    async def limited(call: Call) -> None:
        await call.say(response(b"{}", "429 Too Many Requests", "retry-after: 60"))

    async with provider(limited) as server, rig.gateway(**pair(server.url)) as gateway:
        assert route_of(await chat(gateway)) == FAILED_OVER
        assert route_of(await chat(gateway)) == PASSED_OVER
        await rig.is_shown(gateway)


@when("breaker_hints", "ok")
async def replicas_warn_each_other(rig: Rig) -> None:
    with running_valkey() as server:
        async with rig.gateway(**hinting(server)) as gateway:
            await rig.is_shown(gateway)


@when("breaker_hints", "unavailable")
async def replicas_do_not_hear_of_each_other(rig: Rig) -> None:
    with running_valkey() as server:
        async with rig.gateway(**hinting(server)) as gateway:
            server.kill()
            await rig.is_shown(gateway)
            assert (await chat(gateway)).status == 200


def hinting(server: Valkey) -> dict[str, Any]:
    settings = limited(server)
    return {**settings, "storage": {**settings["storage"], "breaker_hints": True}}


@when("provider", "full")
async def all_places_at_a_provider_are_taken(rig: Rig) -> None:
    async def hanging(call: Call) -> None:
        await call.until_closed()

    async with (
        provider(hanging) as server,
        rig.gateway(**pair(server.url, max_concurrency=1)) as gateway,
    ):
        waiting = asyncio.create_task(chat(gateway))
        async with asyncio.timeout(5):
            while not server.calls:
                await asyncio.sleep(0.01)
        await rig.is_shown(gateway)
        assert route_of(await chat(gateway)) == PASSED_OVER
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


@when("provider", "unreachable")
async def only_the_probes_of_a_provider_fail(rig: Rig) -> None:
    async def script(call: Call) -> None:
        if call.head.startswith(b"GET"):
            await call.say(response(b"{}", "503 Service Unavailable"))
            return
        answer = {"object": "chat.completion", "choices": [{"finish_reason": "stop"}]}
        await call.say(response(json.dumps(answer).encode()))

    probe = {"interval_s": 1, "timeout_s": 1}
    async with (
        provider(script) as server,
        rig.gateway(**pair(server.url, probe=probe)) as gateway,
    ):
        await rig.is_shown(gateway)
        assert route_of(await chat(gateway)) == (200, "p", "1")


@pytest.mark.parametrize(
    ("mode", "situation"),
    [
        pytest.param(mode, situation, id=f"{mode.dependency}-{mode.state}-{situation.__name__}")
        for mode in MODES
        for situation in SITUATIONS.get((mode.dependency, mode.state), [])
    ],
)
def test_what_is_declared_is_what_happens(
    mode: Mode, situation: Situation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row of the table, in each way there is here to bring it about."""
    asyncio.run(asyncio.wait_for(situation(Rig(mode, tmp_path, monkeypatch)), 40))


def test_every_declared_mode_is_driven() -> None:
    """A row that is added without a situation fails here, and so does a row declared twice."""
    declared = [(mode.dependency, mode.state) for mode in MODES]
    assert len(declared) == len(set(declared))
    assert set(declared) == SITUATIONS.keys()


def test_where_no_candidate_is_left_the_caller_hears_when_to_come_back() -> None:
    """What an open circuit declares for a provider without a stand-in."""

    async def story() -> None:
        settings = pair(NOWHERE, alone=True, breaker={"min_calls": 4, "open_s": 60})
        gateway = create_gateway({"keys": [], "storage": {"usage": "memory://"}, **settings})
        assert [(await chat(gateway)).status for _ in range(2)] == [502, 502]
        refused = await chat(gateway)
        assert (refused.status, code_of(refused)) == (503, "no_provider_available")
        assert int(refused.header("retry-after") or 0) > 1
        await gateway.aclose()

    asyncio.run(story())


def test_a_state_that_nobody_declared_is_shown_as_such() -> None:
    """A dependency with a new word does not take readiness down."""
    changes: list[tuple[str, Mode | None, Mode]] = []
    words = iter(["ok", "ok", "odd"])
    checks = {"usage": lambda: next(words), "limits": lambda: "ok"}
    watch = DependencyWatch(checks, lambda *change: changes.append(change))
    well, odd = mode_of("usage", "ok"), Mode("usage", "odd", False, "undeclared")
    assert [watch.read()["usage"] for _ in range(3)] == [well, well, odd]
    # The other one has not changed, so nothing is said of it a second time.
    assert changes == [
        ("usage", None, well),
        ("limits", None, mode_of("limits", "ok")),
        ("usage", well, odd),
    ]


def test_what_nothing_depends_on_any_more_is_degraded_no_more() -> None:
    """A dependency that goes away while it is not well leaves no gauge that says so.

    That is told when it goes: a second later its gauges are gone, and would come back.
    """
    told: list[tuple[str, str, bool]] = []
    watch = DependencyWatch(
        {"usage": lambda: "ok", "provider:gone": lambda: "open"},
        lambda name, before, mode: told.append((name, mode.state, mode.available)),
    )
    watch.read()
    watch.watch({"usage": lambda: "ok"})
    assert told[2:] == [("provider:gone", "ok", True)]
    watch.read()
    assert len(told) == 3
