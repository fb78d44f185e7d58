"""The load generator: an open loop, bounded, that tells apart what came of each request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from radgateway.chaos.load import Call, LoadGenerator, Sample, quantile_ms
from radgateway.upstream.interface import ConnectionLost, Timeouts, UpstreamRequest

EVENTS = b'data: {"choices":[]}\n\n'


class Response:
    """A response of these chunks, each after a pause; an exception in their place is raised."""

    def __init__(self, status: int, headers: dict[str, str], parts: list[Any], pause_s: float):
        self.status = status
        self.headers = [(k.encode(), v.encode()) for k, v in headers.items()]
        self.connect_s: float | None = None
        self.closed = False
        self._parts = list(parts)
        self._pause_s = pause_s

    @property
    def ended(self) -> bool:
        return not self._parts

    async def read(self) -> bytes:
        await asyncio.sleep(self._pause_s)
        part = self._parts.pop(0) if self._parts else b""
        if isinstance(part, Exception):
            raise part
        assert isinstance(part, bytes)
        return part

    async def aclose(self) -> None:
        self.closed = True


class Client:
    """An upstream client that answers what it is told to."""

    def __init__(self, make: Callable[[], Response]) -> None:
        self._make = make
        self.asked: list[UpstreamRequest] = []
        self.given: list[Response] = []

    async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> Response:
        self.asked.append(request)
        self.given.append(self._make())
        return self.given[-1]

    async def aclose(self) -> None:
        pass


def generator(
    status: int = 200,
    parts: list[Any] | None = None,
    pause_s: float = 0.0,
    headers: dict[str, str] | None = None,
    **options: Any,
) -> tuple[LoadGenerator, Client]:
    client = Client(lambda: Response(status, headers or {}, parts or [b"{}"], pause_s))
    return LoadGenerator(client, "http://h", "m", "key", **options), client


def test_slow_answers_do_not_slow_the_load() -> None:
    """What is due is sent, though nothing has been answered; latency counts from when it was."""

    async def story() -> tuple[Sample, float]:
        load, _ = generator(parts=[], pause_s=0.4)
        began = time.monotonic()
        return await load.at_rate(100, 0.2), time.monotonic() - began

    sample, took_s = asyncio.run(story())
    assert 15 <= len(sample.calls) <= 22
    assert took_s >= 0.4  # it waited for the last
    assert all(call.latency_s >= 0.39 for call in sample.calls)
    assert not sample.pending


def test_it_is_bounded_and_owns_up_to_what_it_did_not_send() -> None:
    """Over the bound nothing is sent, and the requests left out count against the success."""

    async def story() -> Sample:
        load, client = generator(pause_s=0.2, max_in_flight=5)
        sample = await load.at_rate(200, 0.15)
        assert len(client.asked) == 5
        return sample

    sample = asyncio.run(story())
    assert sample.unsent >= 10
    figures = sample.figures()
    assert figures.answered == 5
    assert figures.success_ratio == 5 / (5 + sample.unsent)


def test_a_share_of_the_load_streams() -> None:
    """Evenly mixed in, not drawn by lot."""

    async def story() -> list[bool]:
        load, client = generator(parts=[b"data: [DONE]\n\n"])
        async with load.running(200, streams=0.25):
            await asyncio.sleep(0.1)
        return [b'"stream":true' in request.body for request in client.asked]  # type: ignore[operator]

    streams = asyncio.run(story())
    assert streams[:8] == [False, False, False, True] * 2


@pytest.mark.parametrize(
    ("stream", "status", "parts", "failure"),
    [
        (False, 200, [b"{", b"}"], ""),
        (False, 503, [b'{"error":{"code":"overloaded"}}'], "overloaded"),
        (False, 500, [b"<html>"], "http_500"),
        (False, 502, [b"[1]"], "http_502"),
        (False, 200, [b"{", ConnectionLost("gone")], "connection: upstream_connection_lost"),
        (True, 200, [EVENTS, b"data: [DO", b"NE]\n\n"], ""),
        (True, 200, [EVENTS, EVENTS], "stream_incomplete"),
        (True, 200, [EVENTS, b'data: {"error":{"code":"idle_timeout"}}\n\n'], "idle_timeout"),
        (True, 200, [EVENTS, ConnectionLost("gone")], "connection: upstream_connection_lost"),
    ],
)
def test_what_came_of_a_request(stream: bool, status: int, parts: list[Any], failure: str) -> None:
    """A 200 is a success only where it is whole; a failure has the code the gateway gave it."""

    async def story() -> Call:
        load, client = generator(status, parts)
        (call,) = (await load.at_once(1, stream=stream)).calls
        assert client.given[0].closed
        return call

    call = asyncio.run(story())
    assert (call.status, call.failure, call.ok) == (status, failure, not failure)


def test_a_refusal_is_declared_only_with_the_time_to_come_back() -> None:
    """A code that says so, and Retry-After."""

    def shed(code: str, headers: dict[str, str]) -> bool:
        load, _ = generator(503, [b'{"error":{"code":"%s"}}' % code.encode()], headers=headers)
        return asyncio.run(load.one()).shed

    assert shed("overloaded", {"retry-after": "1"})
    assert not shed("overloaded", {})
    assert not shed("internal_error", {"retry-after": "1"})


def test_what_the_gateway_says_is_kept() -> None:
    """Who answered, in which attempt, under which id."""
    headers = {
        "x-radgateway-provider": "p",
        "x-radgateway-attempts": "2",
        "x-request-id": "r-1",
        "x-should-retry": "false",
        "x-replica": "127.0.0.1:1",
    }
    load, client = generator(headers=headers)
    call = asyncio.run(load.one(model="other", padding_bytes=1000))
    assert (call.provider, call.attempts, call.request_id) == ("p", 2, "r-1")
    assert (call.should_retry, call.replica) == ("false", "127.0.0.1:1")
    assert (b"authorization", b"Bearer key") in client.asked[0].headers
    body = client.asked[0].body
    assert isinstance(body, bytes)
    assert b'"other"' in body
    assert len(body) > 1000


def test_quantiles_are_of_those_that_were_measured() -> None:
    """Nearest rank; of none it is 0."""
    calls = [
        Call(due=0, ended=number / 100, first_byte_s=None, status=200, failure="")
        for number in range(1, 101)
    ]
    assert quantile_ms(calls, 0.5) == 510
    assert quantile_ms(calls, 0.99) == 1000
    assert quantile_ms(calls[:1], 0.99) == 10
    assert quantile_ms([], 0.5) == 0


def test_a_phase_is_cut_out_by_when_requests_were_due() -> None:
    """From the first moment, up to the second."""
    calls = [
        Call(due=float(number), ended=99, first_byte_s=None, status=200, failure="")
        for number in range(5)
    ]
    assert [call.due for call in Sample(calls, 3).between(1, 3).calls] == [1, 2]
