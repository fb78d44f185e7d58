from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from drive import Answer, drive, http_scope, no_other_tasks
from virtual_time import now, pending_timers, run_virtual

from radgateway.exchange import KEY, Exchange, Principal, Priority
from radgateway.inbound.admission import AdmissionQueue, priority_of
from radgateway.inbound.load_shed import LoadShed


async def busy(scope: Any, receive: Any, send: Any) -> None:
    """Starts at once, and streams for as many seconds as its path says."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.sleep(float(scope["path"][1:]))
    await send({"type": "http.response.body", "body": b"done"})


def code_of(answer: Answer) -> str:
    code: str = json.loads(answer.body)["error"]["code"]
    return code


def test_who_waits_is_served_in_order() -> None:
    """A place held to the end of a stream goes to the first in line, then to the next."""

    async def story() -> None:
        order: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            order.append(scope["name"])
            await busy(scope, receive, send)

        queue = AdmissionQueue(app, 1, 10, 5.0)
        running = [
            asyncio.create_task(drive(queue, {**http_scope("/1"), "name": name})) for name in "abc"
        ]
        await asyncio.sleep(0.5)
        assert (queue.in_use, queue.depth) == (1, 2)
        assert order == ["a"]
        answers = await asyncio.gather(*running)
        assert [answer.status for answer in answers] == [200] * 3
        assert order == ["a", "b", "c"]
        assert now() == 3
        assert (queue.in_use, queue.depth, pending_timers()) == (0, 0, 0)

    run_virtual(story())


def test_a_full_line_is_refused_at_once() -> None:
    """The one too many hears so without waiting, and when to come back."""

    async def story() -> None:
        queue = AdmissionQueue(busy, 1, 1, 5.0)
        running = [asyncio.create_task(drive(queue, http_scope("/1"))) for _ in range(2)]
        await asyncio.sleep(0.1)
        refused = await drive(queue, http_scope("/1"))
        assert now() == 0.1
        assert refused.status == 503
        assert code_of(refused) == "overloaded"
        assert refused.header("retry-after") == "1"
        await asyncio.gather(*running)

    run_virtual(story())


def test_nobody_waits_longer_than_allowed() -> None:
    """Who gets no place in time is told so, and leaves the line; the wait is recorded."""

    async def story() -> None:
        queue = AdmissionQueue(busy, 1, 5, 0.5, clock=now)
        running = asyncio.create_task(drive(queue, http_scope("/2")))
        await asyncio.sleep(0)
        exchange = Exchange("r")
        refused = await drive(queue, {**http_scope("/1"), "state": {KEY: exchange}})
        assert (refused.status, code_of(refused)) == (503, "queue_timeout")
        assert refused.header("retry-after") == "1"
        assert (now(), exchange.queued_s, queue.depth) == (0.5, 0.5, 0)
        assert (await running).status == 200

    run_virtual(story())


def test_the_wait_of_an_admitted_request_is_recorded() -> None:
    """The record says how long a request stood in line; not at all is 0."""

    async def story() -> None:
        queue = AdmissionQueue(busy, 1, 5, 5.0, clock=now)
        first, second = Exchange("1"), Exchange("2")
        await asyncio.gather(
            drive(queue, {**http_scope("/1.5"), "state": {KEY: first}}),
            drive(queue, {**http_scope("/0"), "state": {KEY: second}}),
        )
        assert (first.queued_s, second.queued_s) == (0, 1.5)

    run_virtual(story())


def test_changes_of_the_depth_are_told() -> None:
    """Whoever waits is counted in and, however the wait ends, out again."""

    async def story() -> None:
        told: list[int] = []
        queue = AdmissionQueue(busy, 1, 2, 0.5, on_depth=told.append)
        running = [asyncio.create_task(drive(queue, http_scope("/1"))) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert sum(told) == queue.depth == 2
        running[1].cancel()
        await asyncio.gather(*running, return_exceptions=True)
        assert sum(told) == queue.depth == 0

    run_virtual(story())


def keyed(path: str, priority: Priority = "normal", patience_s: float | None = None) -> Any:
    """A request of a caller, with its record."""
    exchange = Exchange("r", clock=now)
    exchange.principal = Principal("caller", priority=priority)
    if patience_s is not None:
        exchange.deadline = now() + patience_s
    return {**http_scope(path), "state": {KEY: exchange}}


def test_a_client_that_leaves_frees_its_place_in_line() -> None:
    """It is seen while it waits; no work is done for it, and nobody is answered."""

    async def story() -> None:
        served: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            served.append(scope["path"])
            await busy(scope, receive, send)

        queue = AdmissionQueue(app, 1, 1, 5.0, clock=now)
        first = asyncio.create_task(drive(queue, http_scope("/2")))
        await asyncio.sleep(0)
        leave, scope = asyncio.Event(), keyed("/1")
        leaving = asyncio.create_task(drive(queue, scope, b"body", leave=leave))
        await asyncio.sleep(0.5)
        assert (await drive(queue, http_scope("/0"))).status == 503
        leave.set()
        gone = await leaving
        assert (gone.status, now(), queue.depth) == (0, 0.5, 0)
        exchange = scope["state"][KEY]
        assert (exchange.disconnected, exchange.queued_s) == (True, 0.5)
        assert (await drive(queue, http_scope("/0.5"))).status == 200
        assert (await first).status == 200
        assert served == ["/2", "/0.5"]
        assert (queue.in_use, pending_timers()) == (0, 0)
        assert not await no_other_tasks()

    run_virtual(story())


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("how", ["raises", "cancelled"])
def test_a_place_is_free_again_however_its_request_ends(waits: bool, how: str) -> None:
    """By an error or a cancellation too, whether it was served at once or stood in line."""

    async def story() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await busy(scope, receive, send)
            if scope["path"] == "/1":
                raise RuntimeError("a bug")

        queue = AdmissionQueue(app, 1, 1, 5.0)
        first = asyncio.create_task(drive(queue, http_scope("/0.5"))) if waits else None
        await asyncio.sleep(0)
        ending = asyncio.create_task(drive(queue, http_scope("/1"), raises=True))
        await asyncio.sleep(0.9)
        assert (queue.in_use, queue.depth) == (1, 0)
        if how == "cancelled":
            ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        if first is not None:
            await first
        assert (queue.in_use, queue.depth) == (0, 0)
        assert (await drive(queue, http_scope("/0"))).status == 200

    run_virtual(story())


def test_the_body_of_one_that_waited_is_whole() -> None:
    """What was read while it waited, and what comes after, in order; then the disconnect."""

    async def story() -> None:
        async def echo(scope: Any, receive: Any, send: Any) -> None:
            body = b""
            while True:
                message = await receive()
                body += message["body"]
                if not message["more_body"]:
                    break
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})
            assert (await receive())["type"] == "http.disconnect"

        queue = AdmissionQueue(echo, 1, 5, 5.0)
        assert queue.line.try_enter()
        parts = [b"a" * 10, b"", b"b" * 70_000, b"c" * 10, b"d"]
        waiting = asyncio.create_task(drive(queue, http_scope("/"), parts))
        await asyncio.sleep(0.3)
        queue.line.leave()
        assert (await waiting).body == b"".join(parts)
        assert queue.in_use == 0
        assert not await no_other_tasks()

    run_virtual(story())


def test_who_has_given_up_is_not_served() -> None:
    """The client's own deadline ends its wait, with a code of its own."""

    async def story() -> None:
        reasons: list[str] = []
        queue = AdmissionQueue(busy, 1, 9, 5.0, on_shed=reasons.append)
        running = asyncio.create_task(drive(queue, http_scope("/3")))
        await asyncio.sleep(0)
        late = await drive(queue, keyed("/1", patience_s=1))
        assert (late.status, code_of(late), now()) == (504, "deadline_exceeded", 1)
        assert (await drive(queue, keyed("/1", patience_s=-1))).status == 504
        assert reasons == ["client_deadline"] * 2
        await running

    run_virtual(story())


def test_a_turn_that_would_come_too_late_is_refused_at_once() -> None:
    """Where the line is slower than the client is patient, it hears so without waiting."""

    async def story() -> None:
        reasons: list[str] = []
        queue = AdmissionQueue(busy, 1, 99, 60.0, on_shed=reasons.append)
        running = [asyncio.create_task(drive(queue, http_scope("/0.5"))) for _ in range(20)]
        await asyncio.sleep(3.1)
        refused = await drive(queue, keyed("/0", patience_s=2))
        assert (code_of(refused), now()) == ("overloaded", 3.1)
        assert int(refused.header("retry-after") or "") == 7, "14 places, two a second"
        urgent = await drive(queue, keyed("/0", "high", patience_s=2))
        assert urgent.status == 200
        assert reasons == ["client_deadline"]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        assert (queue.in_use, queue.depth) == (0, 0)

    run_virtual(story())


def test_the_keys_priority_decides_who_goes_first() -> None:
    """And who has to make room where the line is full."""

    async def story() -> None:
        order: list[str] = []
        reasons: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            order.append(priority_of(scope))
            await busy(scope, receive, send)

        queue = AdmissionQueue(app, 1, 3, 5.0, on_shed=reasons.append)
        running = [asyncio.create_task(drive(queue, http_scope("/1")))]
        arriving: list[Priority] = ["low", "normal", "low", "high"]
        for priority in arriving:
            await asyncio.sleep(0)
            running.append(asyncio.create_task(drive(queue, keyed("/0.1", priority))))
        answers = await asyncio.gather(*running)
        assert [answer.status for answer in answers] == [200, 200, 200, 503, 200]
        assert order == ["normal", "high", "normal", "low"]
        assert reasons == ["displaced"]

    run_virtual(story())


def test_while_the_loop_is_late_low_priority_is_turned_away() -> None:
    """A 503 with Retry-After, before a place is taken; who is under way is left alone."""

    async def story() -> None:
        reasons: list[str] = []
        shed = LoadShed(0.2)
        queue = AdmissionQueue(busy, 5, 5, 5.0, shed=shed, on_shed=reasons.append)
        running = asyncio.create_task(drive(queue, keyed("/1", "low")))
        await asyncio.sleep(0)
        shed.observe(1.0)
        shed.observe(1.0)
        refused = await drive(queue, keyed("/0", "low"))
        assert (refused.status, code_of(refused)) == (503, "overloaded")
        assert refused.header("retry-after") == "2"
        assert (await drive(queue, keyed("/0"))).status == 200
        shed.observe(1.0)
        shed.observe(1.0)
        assert (await drive(queue, http_scope("/0"))).status == 503, "no key is normal priority"
        assert (await drive(queue, keyed("/0", "high"))).status == 200
        assert reasons == ["loop_lag"] * 2
        assert (await running).status == 200

    run_virtual(story())


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0, 1, 1.0), "max_concurrency"), ((1, -1, 1.0), "max_queue"), ((1, 1, 0.0), "max_wait_s")],
)
def test_bad_settings_are_named(arguments: tuple[int, int, float], name: str) -> None:
    """A setting out of range is refused by its name."""
    with pytest.raises(ValueError, match=name):
        AdmissionQueue(busy, *arguments)
