"""A router over scripted providers in virtual time, for what comes after an attempt failed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from drive import http_scope
from virtual_time import now, pending_timers

from radgateway.asgi import Headers, StreamBroken, header
from radgateway.errors import Refusal, answer
from radgateway.exchange import Exchange, attempt_of
from radgateway.inbound.request_context import RequestContextMiddleware
from radgateway.routing.hedge import HedgeConfig
from radgateway.routing.models import Candidate, Route
from radgateway.routing.retry_budget import RetryBudget, RetryBudgetConfig, TokenBudget
from radgateway.routing.router import ProviderRouter

CHAT = "/v1/chat/completions"
BODY = b'{"model":"m","stream":true}'
CONTENT = b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Does:
    """What a provider does with one call."""

    status: int = 200
    after_s: float = 0.0
    """Seconds to the response's start and its first byte."""
    rest_s: float = 0.0
    """Seconds from there to the last byte of a stream."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    refused: bool = False
    """The connection was refused: nothing was sent."""
    then: Literal["ends", "breaks", "raises"] = "ends"


OK = Does()


@dataclass
class Upstream:
    """A provider that does as told, call by call; the last of its orders holds on."""

    name: str
    orders: list[Does]
    calls: list[float] = field(default_factory=list)
    sent: int = 0
    active: int = 0
    cancelled: int = 0
    open: bool = True
    ignores_cancellation_s: float = 0.0

    def available(self) -> bool:
        return self.open

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        does = self.orders.pop(0) if len(self.orders) > 1 else self.orders[0]
        self.calls.append(now())
        self.active += 1
        self.sent += not does.refused
        try:
            await self._do(does, scope, send)
        except asyncio.CancelledError:
            self.cancelled += 1
            if self.ignores_cancellation_s:
                await asyncio.sleep(self.ignores_cancellation_s)
            raise
        finally:
            self.active -= 1

    async def _do(self, does: Does, scope: Any, send: Any) -> None:
        if does.after_s:
            await asyncio.sleep(does.after_s)
        if does.refused:
            attempt = attempt_of(scope)
            assert attempt is not None
            attempt.sent = False
            refusal = Refusal("upstream_unreachable", "refused", retry_after_s=1.0)
            await answer(scope, send, refusal)
            return
        if does.then == "raises":
            raise KeyError("bug")
        kind = (b"content-type", b"text/event-stream" if does.status == 200 else b"text/plain")
        start = {"type": "http.response.start", "status": does.status}
        await send({**start, "headers": [kind, *does.headers]})
        if does.status != 200:
            await send({"type": "http.response.body", "body": self.name.encode()})
            return
        for number, part in enumerate((CONTENT % self.name.encode(), USAGE, DONE)):
            if number and does.rest_s:
                await asyncio.sleep(does.rest_s / 2)
            if number and does.then == "breaks":
                raise StreamBroken("upstream_connection_lost")
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@dataclass
class Got:
    """What a client got, and when."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    ended_at: float | None = None

    def header(self, name: str) -> str | None:
        value = header(self.headers, name.encode())
        return value.decode() if value is not None else None

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


class Rig:
    """Make it, and everything it does, inside of `run_virtual`."""

    def __init__(
        self,
        *upstreams: Upstream,
        hedge: HedgeConfig | None = None,
        budget: RetryBudgetConfig | None = None,
        alone: bool = False,
        seed: int = 0,
    ) -> None:
        self.upstreams = upstreams
        route = Route(
            tuple(Candidate(u.name, "m", 100 - n) for n, u in enumerate(upstreams)), hedge=hedge
        )
        self.router = ProviderRouter(
            {u.name: u for u in upstreams}, {"m": route}, rng=random.Random(seed), clock=now
        )
        self.exhausted = 0
        self.balance = -1
        """The budget's, when all had settled."""
        self.budget = TokenBudget(budget, clock=now)
        self.records: list[Exchange] = []
        inner: Any = self.router
        if not alone:
            inner = RetryBudget(inner, budget=self.budget, on_exhausted=self._count)
        self.app = RequestContextMiddleware(inner, on_end=self.records.append, clock=now)

    def _count(self) -> None:
        self.exhausted += 1

    def knows(self, name: str, seconds: Sequence[float]) -> None:
        """Let the router have seen these times to the first byte."""
        for each in seconds:
            self.router._latencies.observe(name, "m", each)

    async def ask(
        self,
        *,
        leave_after_s: float | None = None,
        patience_s: float | None = None,
        body: bytes = BODY,
    ) -> Got:
        """One request, by a client that may leave, or say how long it waits."""
        got = Got()
        done = asyncio.Event()
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            if leave_after_s is not None:
                await asyncio.sleep(max(0.0, leaves_at - now()))
            else:
                await done.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                assert not got.status, "a second response start"
                got.status, got.headers = message["status"], list(message["headers"])
                return
            assert got.status
            assert got.ended_at is None, "a body after the end"
            got.body += message.get("body", b"")
            if not message.get("more_body", False):
                got.ended_at = now()
                done.set()

        headers = [("content-type", "application/json")]
        if patience_s is not None:
            headers.append(("x-stainless-read-timeout", str(patience_s)))
        leaves_at = now() + (leave_after_s or 0.0)
        with contextlib.suppress(StreamBroken, KeyError):
            await self.app(http_scope(CHAT, headers=headers), receive, send)
        return got

    async def settle(self) -> None:
        """Nothing is left of what was asked: no call, no task, no timer."""
        for _ in range(3):
            await asyncio.sleep(0)
        assert [u.active for u in self.upstreams] == [0] * len(self.upstreams)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert pending_timers() == 0
        self.balance = self.budget.balance
