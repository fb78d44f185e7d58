"""AdmissionQueue: how much is done at once, who waits for how long, and who is turned away.

Stands inside the rate limits, so that who is over a limit takes nobody's place, and around all
that costs something. Its ceiling is fixed: what a provider can take is found out at that
provider's bulkhead, and what this process can is told by its event loop. Answers 503 `overloaded`
or `queue_timeout`, and 504 `deadline_exceeded`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from radgateway.asgi import ASGIApp, Clock, Receive, Scope, Send
from radgateway.errors import Refusal, answer
from radgateway.exchange import Priority, exchange_of
from radgateway.inbound.held_receive import HeldReceive
from radgateway.inbound.load_shed import RETRY_AFTER_S, LoadShed
from radgateway.inbound.waiting_line import Entry, Turn, WaitingLine

ShedReason = Literal["queue_full", "displaced", "queue_timeout", "client_deadline", "loop_lag"]

_REASONS: dict[Entry, ShedReason] = {
    "full": "queue_full",
    "displaced": "displaced",
    "timeout": "queue_timeout",
    "late": "client_deadline",
}


def priority_of(scope: Scope) -> Priority:
    """The priority of the key that a request carries, normal where there is none."""
    exchange = exchange_of(scope)
    principal = exchange.principal if exchange is not None else None
    return principal.priority if principal is not None else "normal"


class AdmissionQueue:
    """Serves at most `max_concurrency` requests at once; up to `max_queue` wait for `max_wait_s`.

    Instead of the three it takes a `WaitingLine`, which several layers may share. A place is held
    until the response's last byte. Costs nothing but a count while one is free. Who goes first is
    `WaitingLine`'s rule. `shed` turns work away while the event loop is late; `on_depth` is told
    how the number of those that wait changes, 1 or -1, and `on_shed` why each request was turned
    away.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_concurrency: int | WaitingLine = 1000,
        max_queue: int = 1000,
        max_wait_s: float = 5.0,
        *,
        shed: LoadShed | None = None,
        on_depth: Callable[[int], object] | None = None,
        on_shed: Callable[[ShedReason], object] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.app = app
        self.line = (
            max_concurrency
            if isinstance(max_concurrency, WaitingLine)
            else WaitingLine(max_concurrency, max_queue, max_wait_s, on_depth)
        )
        self._shed = shed
        self._on_shed = on_shed
        self._clock = clock

    @property
    def depth(self) -> int:
        """How many requests are waiting."""
        return self.line.depth

    @property
    def in_use(self) -> int:
        """How many requests are being served."""
        return self.line.in_use

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, at once, later, or not at all."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        shed = self._shed
        if shed is not None and shed.level and shed.sheds(priority_of(scope)):
            await self._refuse(scope, send, "loop_lag", _LAG)
            return
        if not self.line.try_enter():
            await self._serve_in_turn(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            self.line.leave()

    async def _serve_in_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        line = self.line
        exchange = exchange_of(scope)
        patience_s: float | None = None
        if exchange is not None and exchange.deadline is not None:
            patience_s = exchange.deadline - exchange.clock()
        turn = line.join(priority_of(scope), patience_s)
        if turn.entry is not None:
            await self._turn_away(scope, send, turn)
            return
        held = HeldReceive(receive, lambda: line.abandon(turn))
        began = self._clock()
        try:
            try:
                entry = await line.outcome(turn)
            finally:
                if exchange is not None:
                    exchange.queued_s = self._clock() - began
                    exchange.queued_until = exchange.clock()
            if entry != "admitted":
                held.close()
                await self._turn_away(scope, send, turn)
                return
            try:
                await self.app(scope, held.receive, send)
            finally:
                line.leave()
        finally:
            held.close()

    async def _turn_away(self, scope: Scope, send: Send, turn: Turn) -> None:
        entry = turn.entry
        assert entry is not None
        if entry == "left":
            exchange = exchange_of(scope)
            if exchange is not None:
                exchange.disconnected = True
            return
        # The turn would have come after the limit, and that limit is the reason.
        reason = _REASONS[turn.over if entry == "hopeless" else entry]
        await self._refuse(scope, send, reason, self._refusal(entry))

    async def _refuse(self, scope: Scope, send: Send, reason: ShedReason, refusal: Refusal) -> None:
        if self._on_shed is not None:
            self._on_shed(reason)
        await answer(scope, send, refusal)

    def _refusal(self, entry: Entry) -> Refusal:
        line = self.line
        if entry == "late":
            text = "No place became free within the time that the client allows."
            return Refusal("deadline_exceeded", text)
        code = "overloaded"
        if entry == "timeout":
            code, text = "queue_timeout", f"No place became free within {line.max_wait_s:g} s."
        elif entry == "hopeless":
            text = "So many are waiting that this turn would come too late."
        else:
            text = (
                f"{line.max_concurrency} requests are being served and "
                f"{line.max_queue} are waiting."
            )
        return Refusal(code, text, retry_after_s=line.retry_after_s())


_LAG = Refusal(
    "overloaded",
    "This instance has more to do than it can do in time.",
    retry_after_s=RETRY_AFTER_S,
)
