"""FaultInjector: break a provider on purpose, to see that the layers around it hold.

A. Basiri et al., *Chaos Engineering* (IEEE Software, 2016). What it does looks to the layers
outside exactly as if the provider had done it, so it stands innermost, right before the provider,
and only where it is configured. An injected error carries `x-radgateway-fault`.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Literal

from radgateway.asgi import ASGIApp, Message, Receive, Scope, Send, is_event_stream, respond
from radgateway.errors import Refusal, dialect_of, end_broken
from radgateway.exchange import exchange_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What to break, and how often."""

    latency_ms: float = 0.0
    """Milliseconds to wait before each request, 0 or more."""
    error_ratio: float = 0.0
    """Share of requests answered with `error_status` in the provider's place, 0 to 1."""
    error_status: int = 503
    """Status of an injected error, 400 to 599."""
    break_ratio: float = 0.0
    """Share of the other requests whose response is cut after its first chunk, 0 to 1."""

    def __post_init__(self) -> None:
        if self.latency_ms < 0:
            raise ValueError(f"latency_ms must be 0 or more, not {self.latency_ms}")
        for name in ("error_ratio", "break_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be 0 to 1, not {getattr(self, name)}")
        if not 400 <= self.error_status <= 599:
            raise ValueError(f"error_status must be 400 to 599, not {self.error_status}")

    def draw(self, rng: random.Random) -> Literal["error", "break"] | None:
        """Decide the fate of one request."""
        if self.error_ratio and rng.random() < self.error_ratio:
            return "error"
        if self.break_ratio and rng.random() < self.break_ratio:
            return "break"
        return None


class FaultInjector:
    """Delays, fails and cuts requests as `faults` says; a seeded `rng` makes it repeatable."""

    def __init__(self, app: ASGIApp, faults: Faults, rng: random.Random | None = None) -> None:
        self.app = app
        self.faults = faults
        self._rng = rng or random.Random()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or spoil it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        fault = self.faults.draw(self._rng)
        if self.faults.latency_ms:
            await asyncio.sleep(self.faults.latency_ms / 1000)
        if fault == "error":
            await self._fail(scope, send)
        elif fault == "break":
            await self._break(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _fail(self, scope: Scope, send: Send) -> None:
        exchange = exchange_of(scope)
        refusal = Refusal("upstream_error", "An injected fault.")
        body = dialect_of(scope).error_body(refusal, exchange.request_id if exchange else "")
        headers = [(b"content-type", b"application/json"), (b"x-radgateway-fault", b"error")]
        await respond(send, self.faults.error_status, headers, body)

    async def _break(self, scope: Scope, receive: Receive, send: Send) -> None:
        events = cut = False

        async def send_until_cut(message: Message) -> None:
            nonlocal events, cut
            if cut:
                raise _Cut
            kind = message["type"]
            if kind == "http.response.start":
                events = is_event_stream(message.get("headers", ()))
            elif kind == "http.response.body" and message.get("body"):
                body: bytes = message["body"]
                if not message.get("more_body", False):
                    # All of it would look complete to a caller that counts bytes.
                    body = body[: len(body) // 2]
                cut = True
                await send({"type": "http.response.body", "body": body, "more_body": True})
                raise _Cut
            await send(message)

        try:
            await self.app(scope, receive, send_until_cut)
        except Exception:
            # Frameworks wrap what `send` raises (in groups, for one); after the cut it is ours.
            if not cut:
                raise
        if cut:
            refusal = Refusal("upstream_connection_lost", "An injected fault cut the response.")
            await end_broken(scope, send, refusal, events=events)


class _Cut(Exception):
    """Stops an app whose response was cut."""
