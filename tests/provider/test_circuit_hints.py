from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from circuits import CONFIG, Clock, call, state_of
from valkey_server import Valkey, running_valkey

from radgateway.provider.circuit.ejection import EjectionGroup
from radgateway.provider.circuit.hints import BreakerHints, hints_client
from radgateway.provider.circuit.policy import BreakerPolicy

NAME = "openai"
FAST = {"interval_s": 0.05}


@pytest.fixture
def server() -> Iterator[Valkey]:
    with running_valkey() as made:
        yield made


async def until(true: Callable[[], object], limit_s: float = 5.0) -> None:
    """Wait for what a background task brings about."""
    async with asyncio.timeout(limit_s):
        while not true():
            await asyncio.sleep(0.005)


class Replica:
    """A breaker as a replica has it, with its hints."""

    def __init__(self, uri: str, timeout_s: float = 0.5, **options: Any) -> None:
        self.told: list[tuple[bool, str]] = []
        self.heeded: list[str] = []
        self.hints = BreakerHints(
            hints_client(uri, timeout_s),
            timeout_s=timeout_s,
            on_change=lambda available, reason: self.told.append((available, reason)),
            on_heeded=self.heeded.append,
            **{**FAST, **options},
        )
        self.policy = BreakerPolicy(CONFIG, on_change=self._changed, name=NAME)
        self.hints.watch(NAME, self.policy)

    def _changed(self, old: str, new: str) -> None:
        if (old, new) == ("closed", "open"):
            self.hints.publish(NAME, self.policy.retry_after_s())

    def fail(self) -> None:
        for _ in range(CONFIG.min_calls):
            call(self.policy, "fail")
        assert state_of(self.policy) == "open"


@pytest.mark.servers
def test_replicas_in_two_loops_warn_each_other(server: Valkey) -> None:
    """What opens in one makes the other probe, within moments, and opens nothing there."""
    uri = server.uri
    ready, opened, seen = threading.Event(), threading.Event(), threading.Event()
    states: list[str] = []

    async def other() -> None:
        replica = Replica(uri)
        replica.hints.start()
        await asyncio.sleep(0.1)
        ready.set()
        await until(lambda: replica.heeded)
        states.append(replica.policy.state)
        for _ in range(CONFIG.half_open_calls):
            call(replica.policy, "ok")
        await asyncio.sleep(0.2)  # the same hint is there to be read again, and is not heeded
        states.append(replica.policy.state)
        assert replica.heeded == [NAME]
        await replica.hints.aclose()
        seen.set()

    async def one() -> None:
        replica = Replica(uri)
        replica.hints.start()
        assert await asyncio.to_thread(ready.wait, 5)
        replica.fail()
        assert await asyncio.to_thread(seen.wait, 5)
        assert replica.heeded == []  # its own word
        assert replica.policy.state == "open"
        await replica.hints.aclose()
        opened.set()

    thread = threading.Thread(target=asyncio.run, args=(other(),))
    thread.start()
    asyncio.run(one())
    thread.join(5)
    assert opened.is_set()
    assert states == ["half_open", "closed"]


@pytest.mark.servers
def test_a_replica_that_starts_later_is_warned_too(server: Valkey) -> None:
    """The key stands for as long as the circuit is open, by the server's clock, and no longer."""

    async def story() -> None:
        first = Replica(server.uri)
        first.hints.publish(NAME, 0.4)
        first.hints.start()
        await asyncio.sleep(0.1)
        second = Replica(server.uri)
        second.hints.start()
        await until(lambda: second.heeded)
        await asyncio.sleep(0.5)
        third = Replica(server.uri)
        third.hints.start()
        await asyncio.sleep(0.2)
        assert third.heeded == []
        # And the next opening is a new hint to those that heeded the last one.
        for _ in range(CONFIG.half_open_calls):
            call(second.policy, "ok")
        first.hints.publish(NAME, 30)
        await until(lambda: len(second.heeded) == 2)
        await until(lambda: third.heeded)
        await asyncio.gather(*(r.hints.aclose() for r in (first, second, third)))

    asyncio.run(story())


@pytest.mark.servers
def test_a_hint_is_not_heeded_where_nobody_else_takes_the_calls(server: Valkey) -> None:
    """Another's word alone never leaves a model without a provider."""

    async def story() -> None:
        first, second = Replica(server.uri), Replica(server.uri)
        second.policy.join(EjectionGroup([second.policy]))
        for replica in (first, second):
            replica.hints.start()
        first.fail()
        await asyncio.sleep(0.3)
        assert (second.policy.state, second.heeded) == ("closed", [])
        await asyncio.gather(first.hints.aclose(), second.hints.aclose())

    asyncio.run(story())


@pytest.mark.servers
def test_without_its_redis_it_goes_on_and_says_so_once(server: Valkey) -> None:
    """One word when it goes, one when it is back, and what was to be told is told then."""

    async def story() -> None:
        first, second = Replica(server.uri), Replica(server.uri)
        for replica in (first, second):
            replica.hints.start()
        await asyncio.sleep(0.2)
        assert first.told == []
        server.kill()
        await until(lambda: first.told and second.told)
        began = time.perf_counter()
        first.fail()
        assert time.perf_counter() - began < 0.05
        await asyncio.sleep(0.3)
        assert [available for available, _ in first.told] == [False]
        assert not first.hints.available
        server.start()
        await until(lambda: second.heeded)
        assert [available for available, _ in first.told] == [False, True]
        await asyncio.gather(first.hints.aclose(), second.hints.aclose())

    asyncio.run(story())


def test_a_redis_that_does_not_answer_is_given_up_each_time() -> None:
    """A server that accepts and is silent costs the task its time limit, and requests nothing."""

    async def story() -> None:
        connected = 0

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connected
            connected += 1
            with suppress(ConnectionError):
                await reader.read()
            writer.close()

        listener = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        replica = Replica(f"redis://127.0.0.1:{port}/0", timeout_s=0.1)
        replica.hints.start()
        replica.hints.start()
        await until(lambda: connected >= 3)
        replica.fail()
        ((available, reason),) = replica.told
        assert not available
        assert "no answer" in reason or "Timeout" in reason
        await replica.hints.aclose()
        listener.close()
        await listener.wait_closed()

    asyncio.run(story())


def test_what_was_not_told_in_time_is_not_told() -> None:
    """A circuit that is no longer open when the store comes back is no news."""
    written: list[str] = []

    class Pipeline:
        async def __aenter__(self) -> Pipeline:
            return self

        async def __aexit__(self, *error: object) -> None:
            return None

        def set(self, key: str, token: str, px: int) -> None:
            written.append(f"{key} {px}")

        def mget(self, keys: list[str]) -> None:
            assert keys == ["radgateway:breaker:openai"]

        async def execute(self) -> list[Any]:
            return [*[True] * len(written), [None]]

    class Client:
        def pipeline(self, transaction: bool) -> Pipeline:
            return Pipeline()

        async def aclose(self) -> None:
            raise ConnectionError("gone already")

    async def story() -> None:
        clock = Clock()
        hints = BreakerHints(Client(), clock=clock)
        hints.watch(NAME, BreakerPolicy())
        hints.publish(NAME, 10)
        clock.now += 10
        hints.start()
        await asyncio.sleep(0.02)
        assert written == []
        hints.publish(NAME, 10)
        clock.now += 4
        await asyncio.sleep(0.02)
        assert written == ["radgateway:breaker:openai 6000"]
        await hints.aclose()

    asyncio.run(story())


def test_bad_settings_are_refused() -> None:
    """A task that never sleeps would be a busy loop."""
    with pytest.raises(ValueError, match="interval_s"):
        BreakerHints(None, interval_s=0)


@pytest.mark.servers
def test_it_ends_whenever_it_is_told_to(server: Valkey) -> None:
    """Also in those moments of connecting in which the client loses a cancellation: a drain that
    waits for it would never end."""

    async def story() -> None:
        for turns in range(40):
            hints = BreakerHints(hints_client(server.uri))
            hints.watch(NAME, BreakerPolicy())
            hints.start()
            for _ in range(turns % 20):
                await asyncio.sleep(0)
            async with asyncio.timeout(5):
                await hints.aclose()

    asyncio.run(story())
