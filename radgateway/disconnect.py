"""Noticing that the client went away while its answer is being made.

Only `receive` tells: a server's `send` returns silently after a disconnect. One watcher owns
`receive` from the end of the body on and cancels the request's task, so that every upstream call
ends the same way, streaming or not, before its first byte or after.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from radgateway.asgi import Receive
from radgateway.exchange import Exchange
from radgateway.shared_timer import NEVER, SharedTimer

_PATIENCE_S = 0.02
"""Seconds before the watching begins. A refusal or a quick answer is over by then and is spared
the task, which is a twentieth of what a request costs; a client that left waits in `receive`."""


class DisconnectWatch:
    """`with DisconnectWatch(receive, exchange):` ends the block early when the client leaves.

    Works as `asyncio.timeout` does: the cancellation it started ends at the block, any other
    passes through. It has no limit of its own; the block it guards has. `timer` begins the watch
    after a while; without one it is `begin` that does, once the body has been read to its end.
    """

    __slots__ = (
        "_before",
        "_due",
        "_exchange",
        "_fired",
        "_receive",
        "_task",
        "_timer",
        "_watcher",
    )

    def __init__(
        self, receive: Receive, exchange: Exchange, timer: SharedTimer | None = None
    ) -> None:
        self._receive = receive
        self._exchange = exchange
        self._timer = timer
        self._due = NEVER
        self._fired = False
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> DisconnectWatch:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._before = task.cancelling()
        if self._timer is not None:
            self._due = task.get_loop().time() + _PATIENCE_S
            self._timer.add(self, self._due)
        return self

    def due(self, now: float) -> float:
        """When the timer is to ring; see `SharedTimer`."""
        return self._due

    def ring(self, now: float) -> None:
        """The answer takes its time."""
        self._due = NEVER
        self.begin()

    def begin(self) -> None:
        """Begin to watch."""
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        # Clients leave as soon as they have read the mark of the end, before the last byte.
        if not self._exchange.delivered and self._exchange.ended is None:
            self._fired = self._exchange.disconnected = True
            self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self._timer is not None:
            self._timer.remove(self)
        # Let go of, as it has us: in a traceback, once it is cancelled. A circle of all that a
        # request is made of would be left to the garbage collector.
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
        if not self._fired:
            return False
        ours = self._task.uncancel() <= self._before
        return ours and kind is not None and issubclass(kind, asyncio.CancelledError)
