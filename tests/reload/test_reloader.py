"""What goes on through a reload, what does not, and that nothing is left of it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from drive import Answer, drive, http_scope
from serving import STREAM_HEAD, Call, chunked, provider, response

from radgateway import create_gateway
from radgateway.assembly.generation import Generation
from radgateway.config import ConfigError
from radgateway.config.restart import NEEDS_RESTART, needing_restart
from radgateway.gateway import Gateway
from radgateway.provider.circuit.policy import BreakerPolicy
from radgateway.reload.refusals import NeedsRestart, ReloadFailed

CHAT = "/v1/chat/completions"
Config = dict[str, Any]


def config(**changes: Any) -> Config:
    """One mock behind one key."""
    return {
        "keys": [{"name": "k", "secret": "key-1"}],
        "admin_keys": [{"name": "ops", "secret": "key-admin"}],
        "providers": {"p": {"kind": "mock"}},
        "models": {"m": {"candidates": [{"provider": "p"}]}},
        "storage": {"usage": "memory://"},
        "telemetry": {"metrics": True},
    } | changes


def at(url: str, **settings: Any) -> Config:
    """One real provider."""
    return config(providers={"p": {"kind": "openai", "base_url": url, **settings}})


async def ask(gateway: Gateway, key: str = "key-1", **body: Any) -> Answer:
    """One request."""
    data = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **body})
    headers = [("content-type", "application/json"), ("x-api-key", key)]
    return await drive(gateway, http_scope(CHAT, headers=headers), data.encode())


def told(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


def now(gateway: Gateway) -> Generation:
    assert gateway.reloader is not None
    current = gateway.reloader.current
    assert isinstance(current, Generation)
    return current


def policy(gateway: Gateway, name: str = "p") -> BreakerPolicy:
    """A provider's circuit as it is in force."""
    return now(gateway).parts.stacks.policies[name]


async def metrics(gateway: Gateway) -> str:
    return (await drive(gateway, http_scope("/metrics", method="GET"))).body.decode()


async def retired(gateway: Gateway) -> None:
    """Wait until nothing is left of earlier configurations."""
    assert gateway.reloader is not None
    while len(gateway.reloader._retirement):
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def audit(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The audit's lines."""
    with caplog.at_level(logging.INFO, "radgateway.audit"):
        yield caplog


def test_a_limit_that_was_used_up_stays_used_up() -> None:
    """Neither the same limit nor a higher one gives anybody more than the difference."""

    async def story() -> None:
        def limited(most: int) -> Config:
            return config(keys=[{"name": "k", "secret": "key-1", "limits": [f"{most}/day"]}])

        gateway = create_gateway(limited(2))
        async with gateway.lifespan():
            assert [(await ask(gateway)).status for _ in range(3)] == [200, 200, 429]
            await gateway.reload(limited(2) | {"retry_budget": {"ratio": 0.1}})
            assert (await ask(gateway)).status == 429
            await gateway.reload(limited(3))
            assert [(await ask(gateway)).status for _ in range(2)] == [200, 429]

    told(story)


def test_what_is_in_progress_counts_on() -> None:
    """A key's one place, a provider's and the gateway's: taken before, taken after, free in the
    end under the new configuration."""

    async def story() -> None:
        free = asyncio.Event()

        async def slow(call: Call) -> None:
            await free.wait()
            await call.say(response(b"{}"))

        async with provider(slow) as one:
            first = at(one.url, max_concurrency=3) | {"admission": {"max_concurrency": 5}}
            first["keys"][0]["max_concurrency"] = 2
            gateway = create_gateway(first)
            async with gateway.lifespan():
                running = asyncio.create_task(ask(gateway))
                while not one.calls:
                    await asyncio.sleep(0.005)
                second = at(one.url, max_concurrency=1) | {"admission": {"max_concurrency": 1}}
                second["keys"][0]["max_concurrency"] = 1
                await gateway.reload(second)
                assert (await ask(gateway)).header("retry-after") is not None
                parts = now(gateway).parts
                assert parts.line is not None
                assert (parts.line.in_use, parts.line.max_concurrency) == (1, 1)
                places = parts.statuses[0].show()
                assert (places["inFlight"], places["maxConcurrency"]) == (1, 1)
                free.set()
                assert (await running).status == 200
                assert (parts.line.in_use, parts.statuses[0].show()["inFlight"]) == (0, 0)
                assert (await ask(gateway)).status == 200

    told(story)


def test_who_waits_gets_a_place_that_a_reload_makes() -> None:
    """More places are handed to the line at once, under the configuration that it joined."""

    async def story() -> None:
        free = asyncio.Event()

        async def slow(call: Call) -> None:
            await free.wait()
            await call.say(response(b"{}"))

        async with provider(slow) as one:
            gateway = create_gateway(at(one.url) | {"admission": {"max_concurrency": 1}})
            async with gateway.lifespan():
                waiting = [asyncio.create_task(ask(gateway)) for _ in range(3)]
                line = now(gateway).parts.line
                assert line is not None
                while line.depth < 2:
                    await asyncio.sleep(0.005)
                await gateway.reload(at(one.url) | {"admission": {"max_concurrency": 2}})
                while len(one.calls) < 2:
                    await asyncio.sleep(0.005)
                assert (line.in_use, line.depth) == (2, 1)
                free.set()
                assert [(await each).status for each in waiting] == [200] * 3
                assert (line.in_use, line.depth) == (0, 0)

    told(story)


def test_places_at_a_provider_go_on_however_they_are_bounded() -> None:
    """A number, a limit that moves, and back: who has a place has it, and the limit is the new
    one, whatever calls that began before still have to tell the one that moved."""

    async def story() -> None:
        free = asyncio.Event()

        async def slow(call: Call) -> None:
            await free.wait()
            await call.say(response(b"{}", "529 Overloaded"))

        async with provider(slow) as one:
            gateway = create_gateway(at(one.url, max_concurrency=10, breaker=None))
            async with gateway.lifespan():

                def places() -> tuple[int, int]:
                    shown = now(gateway).parts.statuses[0].show()
                    return shown["inFlight"], shown["concurrencyLimit"]

                running = []
                for number, (most, adaptive) in enumerate(
                    [(20, {}), (30, {"min_concurrency": 5}), (6, None), (8, {}), (7, None)], 1
                ):
                    running.append(asyncio.create_task(ask(gateway)))
                    while len(one.calls) < number:
                        await asyncio.sleep(0.005)
                    settings = {"max_concurrency": most, "adaptive": adaptive, "breaker": None}
                    await gateway.reload(at(one.url, **settings))
                    assert places() == (number, most)
                    assert f'concurrency_limit{{provider="p"}} {most}.0' in await metrics(gateway)
                free.set()
                await asyncio.gather(*running)
                assert places() == (0, 7)

    told(story)


def test_a_provider_that_is_the_same_goes_on_whole() -> None:
    """Its stack is the very same, with its connection; another's change does not concern it."""

    async def story() -> None:
        async def quick(call: Call) -> None:
            await call.say(response(b"{}"))

        async with provider(quick) as one:
            gateway = create_gateway(at(one.url))
            async with gateway.lifespan():
                await ask(gateway)
                before = now(gateway).parts.providers["p"].app
                changed = at(one.url)
                changed["providers"]["q"] = {"kind": "mock"}
                await gateway.reload(changed)
                assert now(gateway).parts.providers["p"].app is before
                assert (await ask(gateway)).status == 200
                assert one.open == 1

    told(story)


def test_an_open_circuit_stays_open() -> None:
    """Through a new key and through other settings of the breaker; a mode that was set stays even
    where the provider has moved, and elsewhere its failures are forgotten."""

    async def story() -> None:
        url = "http://127.0.0.1:1"
        gateway = create_gateway(at(url, api_key="one"))
        async with gateway.lifespan():
            policy(gateway).breaker.open()
            await gateway.reload(at(url, api_key="two"))
            assert policy(gateway).state == "open"
            await gateway.reload(at(url, api_key="two", breaker={"min_calls": 5}))
            assert policy(gateway).state == "open"
            assert 'circuit_breaker_open{provider="p"} 1.0' in await metrics(gateway)
            await gateway.reload(at("http://127.0.0.2:1", api_key="two"))
            assert policy(gateway).state == "closed"
            assert 'circuit_breaker_open{provider="p"} 0.0' in await metrics(gateway)
            policy(gateway).set_mode("isolated")
            await gateway.reload(at("http://127.0.0.3:1", api_key="two"))
            assert policy(gateway).mode == "isolated"

    told(story)


def test_a_new_credential_gets_its_try() -> None:
    """A provider that rests for its old key's sake is asked with the new one at once."""

    async def story() -> None:
        async def strict(call: Call) -> None:
            good = b"Bearer good" in call.head
            await call.say(response(b"{}", "200 OK" if good else "401 Unauthorized"))

        async with provider(strict) as one:
            gateway = create_gateway(at(one.url, api_key="bad-key"))
            async with gateway.lifespan():
                while policy(gateway).blocked_by() != "resting":
                    assert (await ask(gateway)).status == 401
                assert (await ask(gateway)).status == 503
                await gateway.reload(at(one.url, api_key="bad-key", include_usage=False))
                assert (await ask(gateway)).status == 503
                await gateway.reload(at(one.url, api_key="good-key"))
                assert (await ask(gateway)).status == 200

    told(story)


def test_what_only_the_old_one_used_is_closed_after_its_last_request() -> None:
    """The connection to a provider that is gone carries its stream to the end, and then closes."""

    async def story() -> None:
        free = asyncio.Event()

        async def streams(call: Call) -> None:
            await call.say(STREAM_HEAD + chunked(b'data: {"choices":[]}\n\n'))
            await free.wait()
            await call.say(chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")

        async with provider(streams) as one:
            gateway = create_gateway(at(one.url))
            async with gateway.lifespan():
                running = asyncio.create_task(ask(gateway, stream=True))
                while not one.calls:
                    await asyncio.sleep(0.005)
                await gateway.reload(config(upstream={"max_connections": 7}))
                assert 'provider_requests_total{model="m",provider="p"' in await metrics(gateway)
                await asyncio.sleep(0.3)
                assert not running.done()
                assert one.open == 1
                free.set()
                assert (await running).body.endswith(b"data: [DONE]\n\n")
                await retired(gateway)
                while one.open:
                    await asyncio.sleep(0.005)

    told(story)


def test_what_is_not_valid_or_can_not_be_made_changes_nothing(
    tmp_path: Path, audit: pytest.LogCaptureFixture
) -> None:
    """Whatever is wrong, and however late it is found: the same generation, tasks and series."""
    wrong = tmp_path / "wrong"
    wrong.write_text("neither: this\nnor: that\n")

    async def story() -> None:
        gateway = create_gateway(config())
        async with gateway.lifespan():
            await ask(gateway)
            generation, served = now(gateway), gateway.served
            before, tasks = (await metrics(gateway)).count("\n"), len(asyncio.all_tasks())
            issuer = {"issuer": "i", "audience": "a", "jwks_url": "http://127.0.0.1:1/jwks"}
            bad: list[tuple[Config, type[Exception]]] = [
                (config(modles={}), ConfigError),
                (config(server={"port": 1}), NeedsRestart),
                (at("http://127.0.0.1:1", ca_file=str(wrong)), ReloadFailed),
                (config(prices={"file": str(wrong)}), ConfigError),
            ]
            for made, error in bad:
                with pytest.raises(error):
                    await gateway.reload(made)
            new = config(jwt=issuer, providers={"p": {"kind": "mock"}, "q": {"kind": "mock"}})
            with pytest.raises(ReloadFailed, match="issuer's keys"):
                await gateway.reload(new)
            assert (now(gateway), gateway.served) == (generation, served)
            assert len(asyncio.all_tasks()) == tasks
            assert (await metrics(gateway)).count("\n") == before
            assert (await ask(gateway)).status == 200

    told(story)
    refused = [vars(r)["outcome"] for r in audit.records if "refused" in r.getMessage()]
    # What the caller of `gateway.reload` gave it to read, it hears of itself.
    assert refused == ["needs_restart", "failed", "invalid", "failed"]


def test_fifty_reloads_leave_what_one_leaves() -> None:
    """No task, thread, file descriptor or series more, whatever each of them changed."""

    async def story() -> None:
        async def quick(call: Call) -> None:
            await call.say(response(b"{}"))

        async with provider(quick) as one:

            def made(number: int) -> Config:
                changed = at(one.url, api_key=f"key-{number}", probe={"interval_s": 60})
                changed["providers"][f"other-{number}"] = {"kind": "mock", "latency_ms": number}
                changed["models"][f"m{number}"] = {
                    "candidates": [{"provider": f"other-{number}", "model": f"m-{number}"}]
                }
                changed["upstream"] = {"max_connections": 10 + number}
                return changed

            async def left(gateway: Gateway) -> dict[str, int]:
                await ask(gateway)
                await retired(gateway)
                await drive(
                    gateway, http_scope("/health/ready", method="GET")
                )  # looks at all dependencies
                text = await metrics(gateway)
                counted = [line for line in text.splitlines() if line.startswith("rad_gateway")]
                while one.open > 1:
                    await asyncio.sleep(0.005)
                return {
                    "tasks": len(asyncio.all_tasks()),
                    "files": len(os.listdir("/proc/self/fd")),
                    "threads": min(threading.active_count(), 40),
                    "series": len(counted),
                }

            gateway = create_gateway(made(0))
            async with gateway.lifespan():
                for number in range(1, 9):  # until there are as many threads as there will be
                    await gateway.reload(made(number))
                first = await left(gateway)
                for number in range(9, 51):
                    await gateway.reload(made(number))
                    await ask(gateway)
                last = await left(gateway)
                for _ in range(1_000):  # the provider's own ends end a moment after ours
                    last = await left(gateway)
                    if all(last[name] <= first[name] for name in ("tasks", "files")):
                        break
                    await asyncio.sleep(0.01)
            # What other tests have left may go meanwhile, so there may be less of it.
            assert last["threads"] <= first["threads"] + 2
            assert last["tasks"] <= first["tasks"]
            assert last["files"] <= first["files"]
            assert last["series"] == first["series"]

    told(story)


def test_reloads_at_once_come_one_after_the_other() -> None:
    """Each finds the one before it in force; who gives up waiting stops none."""

    async def story() -> None:
        gateway = create_gateway(config())
        async with gateway.lifespan():
            made = [config(retry_budget={"ratio": each / 10}) for each in (1, 3, 4)]
            tasks = [asyncio.create_task(gateway.reload(each)) for each in made]
            await asyncio.sleep(0)
            diffs = await asyncio.gather(*tasks)
            assert [diff.paths for diff in diffs] == [["retry_budget.ratio"]] * 3
            assert now(gateway).loaded.generation == 4
            task = asyncio.create_task(gateway.reload(config()))
            while gateway.reloader is not None and not gateway.reloader._lock.locked():
                await asyncio.sleep(0)
            task.cancel()
            while now(gateway).loaded.generation < 5:
                await asyncio.sleep(0.005)

    told(story)


def test_a_file_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    """The certificates that a provider's client trusts, though the configuration is the same."""
    import trustme

    ca_file = tmp_path / "ca.pem"

    async def story() -> None:
        trustme.CA().cert_pem.write_to_path(str(ca_file))
        made = at("https://127.0.0.1:1", ca_file=str(ca_file))
        gateway = create_gateway(made)
        async with gateway.lifespan():
            assert (await gateway.reload(made)).changes == ()
            (before,) = now(gateway).parts.stacks.clients.values()
            trustme.CA().cert_pem.write_to_path(str(ca_file))
            assert (await gateway.reload(made)).shown()["changes"] == [
                {"path": "providers.p.ca_file", "changed": True}
            ]
            (after,) = now(gateway).parts.stacks.clients.values()
            assert after is not before

    told(story)


def test_a_password_that_waits_for_a_restart_holds_back_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else no reload would be taken between the rotation of a database's password and a restart."""
    address = tmp_path / "address"
    storage = {"usage": f"file:{address}"}

    async def story() -> None:
        address.write_text(f"sqlite:///{tmp_path}/first.db")
        gateway = create_gateway(config(storage=storage))
        async with gateway.lifespan():
            address.write_text(f"sqlite:///{tmp_path}/other.db")
            assert (await gateway.reload(config(storage=storage))).changes == ()
            key = {"name": "k", "secret": "key-2"}
            diff = await gateway.reload(config(storage=storage, keys=[key]))
            assert diff.paths == ["keys.k.secret"]
            assert (await ask(gateway, "key-2")).status == 200
            with pytest.raises(NeedsRestart, match=r"storage\.usage"):
                await gateway.reload(config(keys=[key]))

    told(story)
    waiting = [r for r in caplog.records if r.getMessage() == "radgateway.secrets.needs_restart"]
    assert [vars(record)["changed"] for record in waiting] == [
        [f"storage.usage from file:{address}"]
    ] * 2
    assert "other.db" not in caplog.text


def test_an_issuer_that_is_the_same_keeps_its_keys() -> None:
    """What judges tokens goes on through a reload of something else, and not through a new secret,
    after which a token by the old one is refused."""

    async def story() -> None:
        def made(secret: str, **changes: Any) -> Config:
            return config(jwt={"issuer": "i", "audience": "a", "secret": secret}, **changes)

        old, new = "0123456789abcdef" * 2, "fedcba9876543210" * 2
        claims = {"iss": "i", "aud": "a", "sub": "ann", "exp": int(time.time()) + 600}
        token = jwt.encode(claims, old, algorithm="HS256")
        gateway = create_gateway(made(old))
        async with gateway.lifespan():
            tokens = now(gateway).parts.tokens
            await gateway.reload(made(old, retry_budget={"ratio": 0.1}))
            assert now(gateway).parts.tokens is tokens
            assert (await ask(gateway, token)).status == 200
            await gateway.reload(made(new))
            assert (await ask(gateway, token)).status == 401

    told(story)


def test_armed_faults_end_with_a_reload(audit: pytest.LogCaptureFixture) -> None:
    """What was armed for another configuration spoils nothing of this one; the log says so."""

    async def story() -> None:
        gateway = create_gateway(config())
        async with gateway.lifespan():
            order = {"provider": "p", "faults": {"error_ratio": 1.0}, "for_s": 60}
            order["abort"] = {"all_affected": False, "error_ratio": None}
            headers = [("x-api-key", "key-admin"), ("content-type", "application/json")]
            scope = http_scope("/v0/management/faults", headers=headers)
            armed = await drive(gateway, scope, json.dumps(order).encode())
            assert armed.status == 200, armed.body
            assert (await ask(gateway)).status >= 500
            await gateway.reload(config(retry_budget={"ratio": 0.1}))
            assert (await ask(gateway)).status == 200
            assert 'faults_armed{provider="p"} 0.0' in await metrics(gateway)

    told(story)
    (ended,) = (r for r in audit.records if r.getMessage() == "radgateway.faults.disarmed")
    assert vars(ended)["reason"] == "reloaded"


def test_a_drain_refuses_a_reload() -> None:
    """What is about to end takes up nothing new."""

    async def story() -> None:
        gateway = create_gateway(config())
        async with gateway.lifespan():
            gateway.drain.begin()
            with pytest.raises(ReloadFailed, match="shutting down"):
                await gateway.reload(config(keys=[]))

    told(story)


@pytest.mark.parametrize("path", NEEDS_RESTART)
def test_what_needs_a_restart_is_found_with_all_below_it(path: str) -> None:
    """A key, and what is in it; none that only begins alike."""
    assert needing_restart([path, f"{path}.below", f"{path}_too"]) == [path, f"{path}.below"]


def test_a_gateway_of_a_finished_configuration_has_nothing_to_read_again() -> None:
    """It says so, and takes another one."""

    async def story() -> None:
        from radgateway import load_config

        gateway = create_gateway(load_config(config(), {}))
        async with gateway.lifespan():
            with pytest.raises(ReloadFailed, match="give the new configuration"):
                await gateway.reload()
            diff = await gateway.reload(load_config(config(keys=[]), {}))
            assert diff.paths == ["keys.k"]
            assert (await ask(gateway, "whoever")).status == 200

    told(story)


def test_a_key_that_was_made_up_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody could know another one: reading the embedded configuration again changes nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("RAD_KEY", "RADGATEWAY_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    async def story() -> None:
        gateway = create_gateway()
        async with gateway.lifespan():
            assert (await gateway.reload()).changes == ()

    told(story)


def test_the_route_says_what_has_changed() -> None:
    """200 with the paths; the same again is `unchanged`; a caller's key may not."""

    async def story() -> None:
        gateway = create_gateway(config())
        async with gateway.lifespan():
            transport = httpx.ASGITransport(gateway)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                admin = {"x-api-key": "key-admin"}
                await gateway.reload(config(retry_budget={"ratio": 0.5}))
                answer = await client.post("/v0/management/reload", headers=admin, json={})
                change = {"path": "retry_budget.ratio", "old": 0.5, "new": 0.2}
                assert answer.json() == {
                    "status": "applied",
                    "generation": 3,
                    "changes": [change],
                    "more": 0,
                }
                answer = await client.post("/v0/management/reload", headers=admin)
                assert answer.json()["status"] == "unchanged"
                answer = await client.post(
                    "/v0/management/reload", headers=admin, json={"now": True}
                )
                assert answer.status_code == 400
                answer = await client.post("/v0/management/reload", headers={"x-api-key": "key-1"})
                assert answer.status_code == 403
                shown = (await client.get("/v0/management/config", headers=admin)).json()
                assert (shown["generation"], shown["loadedBy"]) == (3, "ops")

    told(story)
