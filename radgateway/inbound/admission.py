"""AdmissionQueue: how much is done at once, and who waits for how long.

Beyond its capacity a server that accepts everything serves nobody in time, and an unbounded queue
only hides it (Little's law; Google SRE book, "Addressing Cascading Failures"). A few wait a
bounded time in a bounded line; the rest hear at once that they must come back.

Stands inside the rate limits, so that who is over a limit takes nobody's place, and around all
that costs something. Answers 503 `overloaded` or `queue_timeout`.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from radgateway.asgi import ASGIApp, Clock, Receive, Scope, Send
from radgateway.errors import Refusal, answer
from radgateway.exchange import exchange_of

_RETRY_AFTER_S = 1.0


def _ignore(change: int) -> None:
    """Nobody wants to know."""


Entry = Literal["admitted", "full", "timeout"]


class WaitingLine:
    """A number of places and a line before them, first come first served.

    Nobody waits while a place is free: a place that is left goes straight to the first in line.
    """

    def __init__(
        self,
        max_concurrency: int,
        max_queue: int,
        max_wait_s: float,
        on_depth: Callable[[int], object] | None = None,
    ) -> None:
        if max_concurrency < 1:
            raise ValueError(f"max_concurrency must be at least 1, not {max_concurrency}")
        if max_queue < 0:
            raise ValueError(f"max_queue must be 0 or more, not {max_queue}")
        if max_wait_s <= 0:
            raise ValueError(f"max_wait_s must be over 0, not {max_wait_s}")
        self.max_concurrency = max_concurrency
        self.max_queue = max_queue
        self.max_wait_s = max_wait_s
        self.in_use = 0
        self._on_depth = on_depth or _ignore
        # Ordered, since leaving the line from its middle must cost no more than from its head.
        self._line: OrderedDict[asyncio.Future[bool], None] = OrderedDict()

    @property
    def depth(self) -> int:
        """How many are waiting."""
        return len(self._line)

    def try_enter(self) -> bool:
        """Take a free place; False where there is none."""
        if self.in_use >= self.max_concurrency:
            return False
        self.in_use += 1
        return True

    async def enter(self) -> Entry:
        """Take a place, in line if need be. Each "admitted" must be followed by `leave`."""
        if self.try_enter():
            return "admitted"
        line = self._line
        if len(line) >= self.max_queue:
            return "full"
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_later(self.max_wait_s, self._give_up, turn)
        line[turn] = None
        self._on_depth(1)
        try:
            return "admitted" if await turn else "timeout"
        except asyncio.CancelledError:
            if turn.cancelled():
                line.pop(turn, None)
            elif turn.result():
                # The place was handed over in the same tick; hand it on.
                self.leave()
            raise
        finally:
            timer.cancel()
            self._on_depth(-1)

    def leave(self) -> None:
        """Give a place up, to the first in line if anybody waits."""
        while self._line:
            turn, _ = self._line.popitem(last=False)
            if not turn.done():
                turn.set_result(True)
                return
        self.in_use -= 1

    def _give_up(self, turn: asyncio.Future[bool]) -> None:
        self._line.pop(turn, None)
        if not turn.done():
            turn.set_result(False)


class AdmissionQueue:
    """Serves at most `max_concurrency` requests at once; up to `max_queue` wait for `max_wait_s`.

    A place is held until the response's last byte. Costs nothing but a count while one is free.
    `on_depth` is told how the number of those that wait changes: 1 or -1.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_concurrency: int = 1000,
        max_queue: int = 1000,
        max_wait_s: float = 5.0,
        *,
        on_depth: Callable[[int], object] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.app = app
        self.line = WaitingLine(max_concurrency, max_queue, max_wait_s, on_depth)
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
        if not self.line.try_enter():
            entry = await self._wait(scope)
            if entry != "admitted":
                await answer(scope, send, self._refusal(entry))
                return
        try:
            await self.app(scope, receive, send)
        finally:
            self.line.leave()

    async def _wait(self, scope: Scope) -> Entry:
        exchange = exchange_of(scope)
        began = self._clock()
        try:
            return await self.line.enter()
        finally:
            if exchange is not None:
                exchange.queued_s = self._clock() - began

    def _refusal(self, entry: Entry) -> Refusal:
        if entry == "full":
            return Refusal(
                "overloaded",
                f"{self.line.max_concurrency} requests are being served and "
                f"{self.line.max_queue} are waiting.",
                retry_after_s=_RETRY_AFTER_S,
            )
        return Refusal(
            "queue_timeout",
            f"No place became free within {self.line.max_wait_s:g} s.",
            retry_after_s=_RETRY_AFTER_S,
        )
