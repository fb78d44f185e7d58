"""A provider that needs no network: it speaks every dialect, and fails on demand.

It serves first runs, demonstrations and tests, so it answers in the real APIs' shapes, always the
same for the same request, and can do to a caller what real providers do: be slow, answer 429 or
500, put an error under a 200 or into a stream, cut or stall a response, or send nothing at all.
It stands where `HTTPProvider` does, below a router or alone as the app of a server. Its refusals
are a provider's own (400, 404, 405, 413 in the dialect of the path), not the gateway's.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from radgateway.asgi import (
    Clock,
    Headers,
    Receive,
    Scope,
    Send,
    StreamBroken,
    decline,
    header,
    respond,
    route_path,
)
from radgateway.body import ClientDisconnected, read_body
from radgateway.disconnect import DisconnectWatch
from radgateway.errors import Refusal
from radgateway.exchange import attempt_of, exchange_of, joined
from radgateway.provider.mock_replies import error_body, error_event, reply_to
from radgateway.provider.mock_request import JSON, BadRequest, Part, Reply
from radgateway.shared_timer import SharedTimer
from radgateway.surface import dialect_of_path, operation_of

Sleep = Callable[[float], Awaitable[object]]
"""Waits a number of seconds; injected so that tests own the time."""

FAILURE: Final = "The mock provider was asked to fail."
"""The message of every error that was asked for."""
FAULTS: Final = frozenset(
    {"status", "error_body", "error_event", "break", "hang_before", "hang_mid", "empty"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MockConfig:
    """How the mock behaves. The defaults are a provider that is instant and never fails."""

    latency_ms: float = 0.0
    """Milliseconds before the first byte, 0 or more."""
    tokens_per_s: float = 0.0
    """Words of the answer a second, 0 or more; 0 is as fast as possible."""
    error_ratio: float = 0.0
    """Share of requests answered with `error_status`, 0 to 1."""
    error_status: int = 500
    """Their status, 400 to 599."""
    break_ratio: float = 0.0
    """Share of requests whose response is cut in its middle, 0 to 1."""
    hang_ratio: float = 0.0
    """Share of requests whose response stalls in its middle, 0 to 1; the three add up to 1 at
    most, since a request suffers one fault."""
    hang_s: float = 300.0
    """Seconds a stall lasts, over 0. The default is longer than a caller's patience."""
    fault_header: str | None = None
    """A request header that asks for a fault (see `Fault`), such as `x-mock-fault`. None ignores
    all headers, since callers of a shared gateway should not be able to break it."""
    max_body_bytes: int = 32 * 1024 * 1024
    """Largest request body, in bytes, over 0: the default of the gateway's own server."""

    def __post_init__(self) -> None:
        """Refuse what can't be meant."""
        for name in ("latency_ms", "tokens_per_s"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be 0 or more, not {getattr(self, name)}")
        for name in ("error_ratio", "break_ratio", "hang_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, not {getattr(self, name)}")
        total = self.error_ratio + self.break_ratio + self.hang_ratio
        if total > 1 + 1e-9:
            raise ValueError(f"error_ratio, break_ratio and hang_ratio add up to {total}, over 1")
        if not 400 <= self.error_status <= 599:
            raise ValueError(f"error_status must be 400 to 599, not {self.error_status}")
        for name in ("hang_s", "max_body_bytes"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be over 0, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with one response.

    status       an error answer with `status`, and Retry-After if `retry_after` is set
    error_body   a 200 whose body is an error
    error_event  an error event after `after` parts of a stream (an error body where none streams)
    break        the connection is cut after `after` parts
    hang_before  silence before the headers, for `MockConfig.hang_s`
    hang_mid     silence after `after` parts
    empty        a 200 without a body
    """

    kind: str
    status: int = 500
    retry_after: int | None = None
    """Whole seconds."""
    after: int | None = None
    """Parts of the response (events of a stream) sent first; None is half of them."""

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read `status=429;retry_after=3`, `break`, `hang_mid;after=2`. Raises ValueError."""
        kind = text.partition(";")[0].partition("=")[0].strip()
        if kind not in FAULTS:
            raise ValueError(f"unknown fault {kind!r}; known are {', '.join(sorted(FAULTS))}")
        numbers: dict[str, int] = {}
        for option in text.split(";"):
            name, has_value, value = (piece.strip() for piece in option.partition("="))
            if not has_value and name == kind:
                continue
            if name not in ("status", "retry_after", "after") or not value.isdigit():
                raise ValueError(f"{option.strip()!r} is no option of a fault")
            numbers[name] = int(value)
        status = numbers.get("status", 500)
        if not 400 <= status <= 599:
            raise ValueError(f"status must be 400 to 599, not {status}")
        retry_after, after = numbers.get("retry_after"), numbers.get("after")
        return cls(kind=kind, status=status, retry_after=retry_after, after=after)


class FaultPlan:
    """Decides which request suffers what, by the configured ratios; one draw a request."""

    def __init__(self, config: MockConfig, rng: random.Random) -> None:
        self._config = config
        self._rng = rng

    def next(self) -> Fault | None:
        """The fault of the next request, mostly None."""
        config = self._config
        draw = self._rng.random()
        if draw < config.error_ratio:
            return Fault(kind="status", status=config.error_status)
        draw -= config.error_ratio
        if draw < config.break_ratio:
            return Fault(kind="break")
        return Fault(kind="hang_mid") if draw - config.break_ratio < config.hang_ratio else None


class MockProvider:
    """An ASGI app that answers like the providers do, without a model behind it.

    `rng` draws the faults, `sleep` waits, and `clock` (Unix seconds) dates the answers.
    """

    def __init__(
        self,
        config: MockConfig | None = None,
        rng: random.Random | None = None,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = time.time,
    ) -> None:
        self.config = config or MockConfig()
        self._plan = FaultPlan(self.config, rng or random.Random(0))
        self._sleep = sleep
        self._timer = SharedTimer()
        self._clock = clock
        name = self.config.fault_header
        self._fault_header = name.lower().encode("latin-1") if name is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await decline(scope, receive, send)
            return
        if attempt_of(scope) is not None:
            # Below a router, which owns the real `receive` and cancels this when the client leaves.
            await self._serve(scope, receive, send)
            return
        scope, send, exchange = joined(scope, send)
        try:
            body = await self._read(scope, receive, send)
        except ClientDisconnected:
            exchange.disconnected = True
            return
        if body is None:
            return
        with DisconnectWatch(receive, exchange, self._timer):
            await self._answer(scope, send, body)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self._read(scope, receive, send)
        if body is not None:
            await self._answer(scope, send, body)

    async def _read(self, scope: Scope, receive: Receive, send: Send) -> bytes | None:
        """The body; None where the request was refused for it."""
        try:
            return await read_body(scope, receive, limit_bytes=self.config.max_body_bytes)
        except Refusal as refusal:
            await _refuse(scope, send, refusal.status, refusal.message, refusal.headers)
            return None

    async def _answer(self, scope: Scope, send: Send, body: bytes) -> None:
        path = route_path(scope)
        operation = operation_of(path)
        if operation is None or operation.api_type == "models":
            await _refuse(scope, send, 404, f"The mock provider does not serve {path!r}.")
            return
        if scope["method"] != "POST":
            await _refuse(scope, send, 405, "This path takes POST.", [(b"allow", b"POST")])
            return
        try:
            fault = self._fault(scope)
            content_type = header(scope["headers"], b"content-type") or b""
            query = scope.get("query_string", b"")
            reply = reply_to(operation, path, content_type, body, query=query, now=self._clock())
        except (BadRequest, ValueError) as error:
            await _refuse(scope, send, 400, str(error))
            return
        await self._pause(scope, self.config.latency_ms / 1000)
        if fault is None:
            await self._play(scope, send, reply)
        else:
            await self._fail(scope, send, reply, fault)

    def _fault(self, scope: Scope) -> Fault | None:
        fault = self._plan.next()
        if self._fault_header is not None:
            wanted = header(scope["headers"], self._fault_header)
            if wanted is not None:
                return Fault.parse(wanted.decode("latin-1"))
        return fault

    async def _fail(self, scope: Scope, send: Send, reply: Reply, fault: Fault) -> None:
        dialect = dialect_of_path(route_path(scope)).name
        if fault.kind == "status":
            headers: Headers = []
            if fault.retry_after is not None:
                headers.append((b"retry-after", b"%d" % fault.retry_after))
            await _refuse(scope, send, fault.status, FAILURE, headers)
        elif fault.kind == "error_body" or (fault.kind == "error_event" and not reply.events):
            body = error_body(dialect, fault.status, FAILURE)
            await respond(send, 200, [(b"content-type", JSON)], body)
        elif fault.kind == "empty":
            await respond(send, 200, [(b"content-type", reply.content_type)], b"")
        elif fault.kind == "hang_before":
            await self._pause(scope, self.config.hang_s)
            await self._play(scope, send, reply)
        else:
            await self._play(scope, send, reply, fault)

    async def _play(
        self, scope: Scope, send: Send, reply: Reply, fault: Fault | None = None
    ) -> None:
        """Send the reply at its pace, and in its midst the fault."""
        parts = reply.parts if fault is None else _in_pieces(reply.parts)
        last = len(parts) - 1
        fault_at = -1
        if fault is not None:
            fault_at = len(parts) // 2 if fault.after is None else min(fault.after, last)
        pace_s = 1 / self.config.tokens_per_s if self.config.tokens_per_s else 0.0
        await self._pause(scope, pace_s * parts[0].tokens)
        await send({"type": "http.response.start", "status": 200, "headers": _headers(reply)})
        for at, part in enumerate(parts):
            if at == fault_at and fault is not None and await self._strike(scope, send, fault):
                return
            if at:
                await self._pause(scope, pace_s * part.tokens)
            await send({"type": "http.response.body", "body": part.data, "more_body": at < last})

    async def _strike(self, scope: Scope, send: Send, fault: Fault) -> bool:
        """Let a begun response suffer its fault; True where that was its end."""
        if fault.kind == "break":
            raise StreamBroken("the mock provider was asked to break off")
        if fault.kind == "hang_mid":
            await self._pause(scope, self.config.hang_s)
            return False
        failure = error_event(dialect_of_path(route_path(scope)).name, fault.status, FAILURE)
        await send({"type": "http.response.body", "body": failure, "more_body": False})
        return True

    async def _pause(self, scope: Scope, seconds: float) -> None:
        """Wait as a real provider makes one wait, and account for it as that."""
        if seconds <= 0:
            return
        attempt, exchange = attempt_of(scope), exchange_of(scope)
        if attempt is None or exchange is None:
            await self._sleep(seconds)
            return
        began = exchange.clock()
        try:
            await self._sleep(seconds)
        finally:
            attempt.waited_s += exchange.clock() - began


def _headers(reply: Reply) -> Headers:
    headers: Headers = [(b"content-type", reply.content_type)]
    if reply.events:
        headers.append((b"cache-control", b"no-cache"))
    elif len(reply.parts) == 1:
        headers.append((b"content-length", b"%d" % len(reply.parts[0].data)))
    return headers


def _in_pieces(parts: Sequence[Part]) -> Sequence[Part]:
    """A single part in two, so that there is a middle."""
    if len(parts) > 1:
        return parts
    data, tokens = parts[0]
    half = len(data) // 2
    return (Part(data[:half], tokens), Part(data[half:]))


async def _refuse(
    scope: Scope, send: Send, status: int, message: str, headers: Headers | None = None
) -> None:
    """An error as the path's own vendor words it."""
    body = error_body(dialect_of_path(route_path(scope)).name, status, message)
    await respond(send, status, [(b"content-type", JSON), *(headers or [])], body)
