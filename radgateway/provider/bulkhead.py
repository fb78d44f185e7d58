"""Bulkhead: one slow provider must not take all of the gateway's room.

M. Nygard, *Release It!*, ch. 5. A bound on the calls in progress, refused at once when it is
reached: waiting is AdmissionQueue's business, and here another candidate may have room. A slot is
held until the response's last byte, as a stream occupies the provider for as long as it runs.

Stands around one provider, inside its breaker. Answers 503 `bulkhead_full`.
"""

from __future__ import annotations

from radgateway.asgi import ASGIApp, Receive, Scope, Send
from radgateway.errors import Refusal, answer

_RETRY_AFTER_S = 1.0


class Slots:
    """A number of places, each free or taken. Layers that share one share its places."""

    __slots__ = ("in_use", "limit")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"max_concurrency must be at least 1, not {limit}")
        self.limit = limit
        self.in_use = 0

    def take(self) -> bool:
        """Take a place; False where none is free."""
        if self.in_use >= self.limit:
            return False
        self.in_use += 1
        return True

    def give_back(self) -> None:
        """Free a place that was taken."""
        self.in_use -= 1


class Bulkhead:
    """Lets at most `max_concurrency` requests (or as many as the given slots) in at once."""

    def __init__(self, app: ASGIApp, max_concurrency: int | Slots = 100) -> None:
        self.app = app
        self.slots = (
            max_concurrency if isinstance(max_concurrency, Slots) else Slots(max_concurrency)
        )

    def available(self) -> bool:
        """Whether a request would be admitted now, so that a router can pass this one over."""
        return self.slots.in_use < self.slots.limit

    def retry_after_s(self) -> float:
        """Seconds until asking again may help; 0 if a request would be admitted now."""
        return 0.0 if self.available() else _RETRY_AFTER_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        slots = self.slots
        if not slots.take():
            refusal = Refusal(
                "bulkhead_full",
                f"All {slots.limit} places at this provider are taken.",
                retry_after_s=_RETRY_AFTER_S,
            )
            await answer(scope, send, refusal)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            slots.give_back()
