"""Reloads and rotations while callers are served: none of them notices."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from reload.live_reload import CHAT, Live, base, live
from serving import STREAM_HEAD, Call, Provider, chunked, provider, response

pytestmark = [pytest.mark.ops, pytest.mark.servers, pytest.mark.slow]

PLAIN, STREAMS = 6, 4
ANSWER = json.dumps(
    {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()


class Vendor:
    """A provider that knows some keys and refuses any other."""

    def __init__(self) -> None:
        self.accepted = {"vendor-key-1"}
        self.seen: Counter[str] = Counter()

    async def serve(self, call: Call) -> None:
        """Answer one call: a stream of as many pieces as its last message says, or at once."""
        key = next(
            line.partition("Bearer ")[2]
            for line in call.head.decode().split("\r\n")
            if line.lower().startswith("authorization:")
        )
        self.seen[key] += 1
        if key not in self.accepted:
            await call.say(response(b'{"error": {"message": "no such key"}}', "401 Unauthorized"))
            return
        body = json.loads(call.body)
        if not body.get("stream"):
            await asyncio.sleep(0.005)
            await call.say(response(ANSWER))
            return
        await call.say(STREAM_HEAD)
        for number in range(int(body["messages"][-1]["content"])):
            piece = {"choices": [{"index": 0, "delta": {"content": f"{number} "}}]}
            await call.say(chunked(b"data: %s\n\n" % json.dumps(piece).encode()))
            await asyncio.sleep(0.1)
        await call.say(chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")


class Load:
    """Callers that ask one request after the other over kept connections, with the current key."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key
        self.failures: list[str] = []
        self.plain = self.streams = 0
        self._ended = False
        self._under_way: set[object] = set()
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask for as long as the block runs, and let each last request end."""
        limits = httpx.Limits(max_connections=PLAIN + STREAMS + 2)
        async with httpx.AsyncClient(base_url=self.url, timeout=20, limits=limits) as client:
            work = [self._repeat(self._ask, client) for _ in range(PLAIN)]
            work += [self._repeat(self._stream, client) for _ in range(STREAMS)]
            self._tasks = [asyncio.create_task(each) for each in work]
            try:
                yield
            finally:
                self._ended = True
                await asyncio.gather(*self._tasks)

    async def stream(self, client: httpx.AsyncClient, pieces: int) -> None:
        """One stream, which must be whole."""
        said = [{"role": "user", "content": str(pieces)}]
        body = {"model": "m", "stream": True, "messages": said}
        key = self.key
        async with client.stream("POST", CHAT, json=body, headers={"x-api-key": key}) as answer:
            lines = [line async for line in answer.aiter_lines() if line]
        if answer.status_code != 200 or len(lines) != pieces + 1 or lines[-1] != "data: [DONE]":
            self.failures.append(f"stream {key}: {answer.status_code} {lines[-1:]}")
        self.streams += 1

    async def turned(self) -> None:
        """Wait until each request that is under way now has ended."""
        before = set(self._under_way)
        while before & self._under_way:
            await asyncio.sleep(0.02)

    async def _stream(self, client: httpx.AsyncClient) -> None:
        await self.stream(client, 6)

    async def _ask(self, client: httpx.AsyncClient) -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": "1"}]}
        key = self.key
        answer = await client.post(CHAT, json=body, headers={"x-api-key": key})
        if answer.status_code != 200:
            self.failures.append(f"plain {key}: {answer.status_code} {answer.text[:200]}")
        self.plain += 1
        await asyncio.sleep(0.01)

    async def _repeat(self, ask: Callable[[httpx.AsyncClient], Any], client: Any) -> None:
        while not self._ended:
            request = object()
            self._under_way.add(request)
            try:
                await ask(client)
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
            finally:
                self._under_way.discard(request)


def config(vendor: Provider, *, vendor_key: str = "vendor-key-1", **changes: Any) -> dict[str, Any]:
    """One provider, and what changes."""
    made = base()
    made["keys"] = [{"name": "one", "secret": "key-of-the-caller-1"}]
    made["providers"] = {
        "vendor": {"kind": "openai", "base_url": vendor.url, "api_key": vendor_key}
    }
    made["models"] = {"m": {"candidates": [{"provider": "vendor"}]}}
    return made | changes


def changed(vendor: Provider, number: int) -> dict[str, Any]:
    """A configuration that differs from the one before in much of what can change."""
    made = config(vendor)
    made["keys"][0]["limits"] = [f"{90_000 + number}/minute"]
    made["admission"] = {"max_concurrency": 200 + number}
    made["retry_budget"] = {"ratio": 0.1 + number % 5 / 100}
    settings = made["providers"]["vendor"]
    settings["max_concurrency"] = 100 + number
    settings["timeouts"] = {"connect_s": 2 + number % 3, "idle_s": 20 + number}
    if number % 2:
        settings["breaker"] = {"window_s": 20 + number}
        made["upstream"] = {"max_connections": 300 + number}
    made["providers"][f"other-{number}"] = {"kind": "mock"}
    made["telemetry"]["log_level"] = "warn" if number % 2 else "info"
    return made


async def reloaded(gateway: Live, made: dict[str, Any], *, by_signal: bool) -> None:
    """Put a configuration into force, and see that it is."""
    before = (await asyncio.to_thread(gateway.shown))["generation"]
    gateway.write(made)
    if by_signal:
        gateway.hang_up()
        await asyncio.to_thread(gateway.until_generation, before + 1)
    else:
        answer = await asyncio.to_thread(gateway.order)
        assert answer.json()["status"] == "applied", answer.text


def test_no_request_fails_while_all_is_changed(tmp_path: Path) -> None:
    """Twelve reloads by signal and by route: every answer is whole, and so is a stream that began
    with the first configuration and ends with the last."""

    async def story() -> None:
        vendor = Vendor()
        async with provider(vendor.serve) as upstream:
            with live(tmp_path, config(upstream)) as gateway:
                load = Load(gateway.url, "key-of-the-caller-1")
                async with load.running(), httpx.AsyncClient(base_url=gateway.url) as client:
                    long = asyncio.create_task(load.stream(client, 60))
                    await asyncio.sleep(0.5)
                    for number in range(1, 13):
                        await reloaded(gateway, changed(upstream, number), by_signal=number % 2 > 0)
                        await asyncio.sleep(0.2)
                    await long
                assert load.failures == []
                assert load.plain > 100
                assert load.streams > STREAMS
                shown = await asyncio.to_thread(gateway.shown)
                assert shown["generation"] == 13
                assert await asyncio.to_thread(gateway.process.end) == 0

    asyncio.run(asyncio.wait_for(story(), 90))


def test_no_request_fails_while_keys_are_rotated(tmp_path: Path) -> None:
    """A provider that takes the old key, both, then the new one alone; callers that move to a new
    key while both are known. A removed key is refused with its next request."""

    async def story() -> None:
        vendor = Vendor()
        async with provider(vendor.serve) as upstream:
            with live(tmp_path, config(upstream)) as gateway:
                load = Load(gateway.url, "key-of-the-caller-1")
                async with load.running():
                    signals = itertools.cycle((True, False))
                    for number in range(2, 5):
                        old, new = f"vendor-key-{number - 1}", f"vendor-key-{number}"
                        keys = [
                            {"name": f"caller-{n}", "secret": f"key-of-the-caller-{n}"}
                            for n in (number - 1, number)
                        ]
                        vendor.accepted = {old, new}
                        both = config(upstream, vendor_key=new, keys=keys)
                        await reloaded(gateway, both, by_signal=next(signals))
                        load.key = keys[1]["secret"]
                        await load.turned()
                        vendor.accepted = {new}
                        alone = config(upstream, vendor_key=new, keys=keys[1:])
                        await reloaded(gateway, alone, by_signal=next(signals))
                        removed = {"x-api-key": keys[0]["secret"]}
                        answer = await asyncio.to_thread(gateway.ask, "m", **removed)
                        assert answer.status_code == 401
                        await asyncio.sleep(0.4)
                assert load.failures == []
                assert set(vendor.seen) == {f"vendor-key-{n}" for n in range(1, 5)}
                assert load.plain > 100
                assert await asyncio.to_thread(gateway.process.end) == 0
                assert "vendor-key" not in gateway.process.output

    asyncio.run(asyncio.wait_for(story(), 90))
