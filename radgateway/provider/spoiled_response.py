"""A response that had begun and is then spoiled: broken off, cut short, stalled, or slowed down.

The mechanics of `FaultInjector`, one request at a time. Where a stream of events suffers, it does
so between two events, as most real ones do: a connection carries whole writes.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final, Literal

from radgateway.asgi import ASGIApp, Message, Receive, Scope, Send, is_event_stream, without
from radgateway.errors import Refusal, end_broken
from radgateway.exchange import attempt_of, exchange_of

if TYPE_CHECKING:
    from radgateway.provider.faults import Faults

SpoiledKind = Literal["break", "truncate", "stall", "trickle"]

FAULT_HEADER: Final = b"x-radgateway-fault"
_LENGTH = frozenset({b"content-length"})
_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_PIECES_PER_S = 10
"""How often a trickle moves; a piece is at least one byte."""


async def spoiled(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, *, kind: SpoiledKind, faults: Faults
) -> None:
    """Serve a request and spoil its response."""
    spoiler = _Spoiler(kind, faults, scope, send)
    try:
        await app(scope, receive, spoiler.send)
    except Exception:
        # Frameworks wrap what `send` raises (in groups, for one); after the cut it is ours.
        if not spoiler.cut:
            raise
    if not spoiler.cut:
        return
    if kind == "truncate":
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    refusal = Refusal("upstream_connection_lost", "An injected fault cut the response.")
    await end_broken(scope, send, refusal, events=spoiler.events)


async def pause(scope: Scope, seconds: float, *, in_body: bool = False) -> None:
    """Wait as a provider makes one wait, and account for it as that."""
    attempt, exchange = attempt_of(scope), exchange_of(scope)
    if attempt is None or exchange is None:
        await asyncio.sleep(seconds)
        return
    began = exchange.clock()
    try:
        await asyncio.sleep(seconds)
    finally:
        waited_s = exchange.clock() - began
        attempt.waited_s += waited_s
        if in_body:
            attempt.longest_gap_s = max(attempt.longest_gap_s, waited_s)


class _Spoiler:
    """One response on its way out. `send` is the ASGI send that the provider gets."""

    __slots__ = (
        "_faults",
        "_kind",
        "_left",
        "_scope",
        "_send",
        "_struck",
        "_tail",
        "cut",
        "events",
    )

    def __init__(self, kind: SpoiledKind, faults: Faults, scope: Scope, send: Send) -> None:
        self.cut = False
        """Nothing more is taken; whoever sends is told by an exception."""
        self.events = False
        self._kind = kind
        self._faults = faults
        self._scope = scope
        self._send = send
        self._left = faults.after_events
        self._tail = b""
        self._struck = False

    async def send(self, message: Message) -> None:
        """Take a message of the response."""
        if self.cut:
            raise _Cut
        kind = message["type"]
        if kind == "http.response.start":
            headers = [*message.get("headers", ())]
            self.events = is_event_stream(headers)
            if self._kind == "truncate":
                # With its length it would be a broken response, and not one that ends too early.
                headers = without(headers, _LENGTH)
            mark = (FAULT_HEADER, self._kind.encode())
            await self._send({**message, "headers": [*headers, mark]})
        elif kind == "http.response.body" and not self._struck:
            body: bytes = message.get("body", b"")
            more: bool = message.get("more_body", False)
            if self._kind == "trickle":
                await self._trickle(body, more=more)
            else:
                await self._pass_until_struck(body, more=more)
        else:
            await self._send(message)

    async def _pass_until_struck(self, body: bytes, *, more: bool) -> None:
        at = self._place(body, more=more)
        if at is None:
            await self._body(body, more=more)
            return
        self._struck = True
        before, after = body[:at], body[at:]
        if self._kind == "stall":
            await self._body(before, more=True)
            await pause(self._scope, self._faults.stall_s, in_body=True)
            await self._body(after, more=more)
            return
        self.cut = True
        await self._body(before, more=True)
        raise _Cut

    def _place(self, body: bytes, *, more: bool) -> int | None:
        """How much of this chunk still passes; None where all of it does, and more after it."""
        if self.events:
            tail = self._tail
            for end in _EVENT_END.finditer(tail + body):
                if self._left <= 0:
                    break
                if end.end() > len(tail):
                    self._left -= 1
                    if self._left == 0:
                        return end.end() - len(tail)
            self._tail = (tail + body)[-3:]
            if self._left <= 0:
                return 0
            return None if more else len(body) // 2
        # All of it would look complete to a caller that counts bytes.
        return len(body) // 2 if body or not more else None

    async def _trickle(self, body: bytes, *, more: bool) -> None:
        rate = self._faults.trickle_bytes_per_s
        size = max(1, int(rate / _PIECES_PER_S))
        for start in range(0, len(body), size):
            piece = body[start : start + size]
            await pause(self._scope, len(piece) / rate, in_body=True)
            await self._body(piece, more=more or start + size < len(body))
        if not body:
            await self._body(body, more=more)

    async def _body(self, body: bytes, *, more: bool) -> None:
        if body or not more:
            await self._send({"type": "http.response.body", "body": body, "more_body": more})


class _Cut(Exception):
    """Stops an app whose response was cut."""
