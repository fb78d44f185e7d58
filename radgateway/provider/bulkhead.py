"""Bulkhead: one slow provider must not take all of the gateway's room.

M. Nygard, *Release It!*, ch. 5. A bound on the calls in progress, refused at once when it is
reached: waiting is AdmissionQueue's business, and here another candidate may have room. A slot is
held until the response's last byte, as a stream occupies the provider for as long as it runs.

Stands around one provider, inside its breaker; or, with places for each key, around any app.
Answers 503 `bulkhead_full`.
"""

from __future__ import annotations

from collections.abc import Callable

from radgateway.asgi import ASGIApp, Message, Receive, Scope, Send
from radgateway.errors import OWN_REFUSALS, Refusal, answer
from radgateway.exchange import Attempt, attempt_of
from radgateway.provider.adaptive_limit import OVERLOAD_STATUSES, OVERLOADS, AdaptiveLimit
from radgateway.provider.slots import Places, Slots

_RETRY_AFTER_S = 1.0


class Bulkhead:
    """Lets at most `max_concurrency` requests in at once.

    That is a number, `Slots` that several layers share, or an `AdaptiveLimit` that moves with what
    the provider refuses. `slots_of` finds the places by the request instead, such as those of its
    key (`KeyedSlots`).
    """

    def __init__(
        self,
        app: ASGIApp,
        max_concurrency: int | Slots | AdaptiveLimit = 100,
        *,
        slots_of: Callable[[Scope], Places] | None = None,
    ) -> None:
        self.app = app
        self.adaptive: AdaptiveLimit | None = None
        if isinstance(max_concurrency, AdaptiveLimit):
            self.adaptive = max_concurrency
            self.slots = max_concurrency.slots
        elif isinstance(max_concurrency, Slots):
            self.slots = max_concurrency
        else:
            self.slots = Slots(max_concurrency)
        self._slots_of = slots_of

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
        slots: Places = self.slots if self._slots_of is None else self._slots_of(scope)
        if not slots.take():
            refusal = Refusal(
                "bulkhead_full",
                f"All {slots.limit} places are taken.",
                retry_after_s=_RETRY_AFTER_S,
            )
            await answer(scope, send, refusal)
            return
        if self.adaptive is not None:
            await self._serve_adaptively(self.adaptive, scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            slots.give_back()

    async def _serve_adaptively(
        self, adaptive: AdaptiveLimit, scope: Scope, receive: Receive, send: Send
    ) -> None:
        epoch = adaptive.epoch
        attempt = attempt_of(scope)
        status = 0
        if attempt is None:
            inner = send

            async def send_observed(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await inner(message)

            send = send_observed
        try:
            await self.app(scope, receive, send)
        finally:
            adaptive.slots.give_back()
            overloaded = _overloaded(attempt, status)
            if overloaded or (adaptive.watching and overloaded is not None):
                adaptive.settle(epoch, overloaded=overloaded)


def _overloaded(attempt: Attempt | None, status: int) -> bool | None:
    """Whether the provider refused for having too much to do; None where it did not answer."""
    if attempt is None:
        return status in OVERLOAD_STATUSES if status else None
    if attempt.failure is None:
        return None if attempt.status is None else False
    return None if attempt.failure in OWN_REFUSALS else attempt.failure in OVERLOADS
