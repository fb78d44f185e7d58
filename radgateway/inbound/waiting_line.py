"""WaitingLine: a number of places, and who gets the next one when all are taken.

Beyond its capacity a server that accepts everything serves nobody in time, and an unbounded queue
only hides it (Little's law; Google SRE book, "Addressing Cascading Failures"). So the line is
bounded in length and in time, and one whose turn would come too late is told so at once.

The order: higher priorities first, within one first come first served. But every eighth place goes
to whoever has waited longest of those passed over, and of a full line the last eighth is not taken
from them either: so no amount of high priority starves the low.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from radgateway.exchange import Priority

Entry = Literal["admitted", "full", "displaced", "hopeless", "timeout", "late", "left"]
"""How a wait ended: with a place; with no room in the line; moved out of a full line by a higher
priority; at once, as the turn would come too late; after the longest wait; at the client's own
deadline; by the client's leaving."""

RANKS: dict[Priority, int] = {"high": 0, "normal": 1, "low": 2}
_FAIR_EVERY = 8
_MIN_SEEN = 4
"""Places handed on before their rate is believed."""
_WEIGHT = 0.1
"""Of the newest in the mean time between two places, once there are enough."""
_LONGEST_RETRY_S = 30.0


def _ignore(change: int) -> None:
    """Nobody wants to know."""


class Turn:
    """One that stands in line. `entry` is None while it does."""

    __slots__ = ("_settled", "_timer", "entry", "number", "over", "rank", "until")

    def __init__(self, rank: int, number: int, until: float, over: Entry) -> None:
        loop = asyncio.get_running_loop()
        self.rank = rank
        self.number = number
        self.until = until
        self.over = over
        self.entry: Entry | None = None
        self._settled: asyncio.Future[None] = loop.create_future()
        self._timer: asyncio.TimerHandle | None = None

    def wake_at_end(self, call: Callable[[Turn, Entry], None]) -> None:
        """Have it told when it has waited long enough."""
        self._timer = asyncio.get_running_loop().call_at(self.until, call, self, self.over)

    def settle(self, entry: Entry) -> None:
        """The wait is over."""
        self.entry = entry
        if self._timer is not None:
            self._timer.cancel()
        if not self._settled.done():
            self._settled.set_result(None)

    async def settled(self) -> None:
        """Wait until it is over."""
        await self._settled


class WaitingLine:
    """So many places, and a line before them.

    Nobody waits while a place is free: a place that is left goes straight to the next in line.
    `on_depth` is told how the number of those that wait changes: 1 or -1.
    """

    def __init__(
        self,
        max_concurrency: int,
        max_queue: int,
        max_wait_s: float,
        on_depth: Callable[[int], object] | None = None,
    ) -> None:
        _check(max_concurrency, max_queue, max_wait_s)
        self.max_concurrency = max_concurrency
        self.max_queue = max_queue
        self.max_wait_s = max_wait_s
        self.in_use = 0
        self.depth = 0
        """How many are waiting."""
        self._on_depth = on_depth or _ignore
        # Ordered, since leaving the line from its middle must cost no more than from its head.
        self._lines: tuple[OrderedDict[Turn, None], ...] = tuple(OrderedDict() for _ in RANKS)
        self._joined = 0
        self._handed = 0
        self._pace = _Pace()

    def resize(self, max_concurrency: int, max_queue: int, max_wait_s: float) -> None:
        """Other bounds from now on.

        Who has a place keeps it and who waits stays in line, by the bounds it came under; new
        places go to those that wait.
        """
        _check(max_concurrency, max_queue, max_wait_s)
        self.max_concurrency = max_concurrency
        self.max_queue = max_queue
        self.max_wait_s = max_wait_s
        while self.depth and self.in_use < max_concurrency:
            self.in_use += 1
            self.leave()

    def try_enter(self) -> bool:
        """Take a free place; False where there is none."""
        if self.in_use >= self.max_concurrency:
            return False
        self.in_use += 1
        return True

    async def enter(self, priority: Priority = "normal", patience_s: float | None = None) -> Entry:
        """Take a place, in line if need be. Each "admitted" must be followed by `leave`.

        `patience_s` is how long the client will wait, where it said so.
        """
        if self.try_enter():
            return "admitted"
        return await self.outcome(self.join(priority, patience_s))

    def join(self, priority: Priority = "normal", patience_s: float | None = None) -> Turn:
        """Stand in line, where all places are taken. The turn may be over at once."""
        now = asyncio.get_running_loop().time()
        rank = RANKS[priority]
        over: Entry = "timeout"
        limit_s = self.max_wait_s
        if patience_s is not None and patience_s < limit_s:
            limit_s, over = patience_s, "late"
        turn = Turn(rank, self._joined, now + limit_s, over)
        refused = self._refused(rank, limit_s)
        if refused is not None:
            turn.settle(refused)
            return turn
        if self.depth >= self.max_queue:
            self._settle(self._last(), "displaced")
        if self.depth == 0:
            self._pace.begin(now)
        self._joined += 1
        self._lines[rank][turn] = None
        self.depth += 1
        self._on_depth(1)
        turn.wake_at_end(self._settle)
        return turn

    async def outcome(self, turn: Turn) -> Entry:
        """Wait for one's turn, and say how the wait ended."""
        try:
            await turn.settled()
        except asyncio.CancelledError:
            if turn.entry == "admitted":
                # The place was handed over in the same tick; hand it on.
                self.leave()
            else:
                self.abandon(turn)
            raise
        assert turn.entry is not None
        return turn.entry

    def abandon(self, turn: Turn) -> None:
        """The one that waits has gone. Does nothing where the wait is over."""
        if turn.entry is None:
            self._settle(turn, "left")

    def leave(self) -> None:
        """Give a place up, to the next in line if anybody waits."""
        if self.depth and self.in_use <= self.max_concurrency:
            now = asyncio.get_running_loop().time()
            while self.depth:
                turn = self._next()
                if turn.until > now:
                    self._handed += 1
                    self._pace.handed(now)
                    self._settle(turn, "admitted")
                    return
                # Its timer is late, as the loop is; nobody waits for what would be done now.
                self._settle(turn, turn.over)
        self.in_use -= 1

    def retry_after_s(self) -> float:
        """Seconds in which the line as it is now will have been served, 1 to 30."""
        return min(max(1.0, self._pace.wait_s(self.depth + 1)), _LONGEST_RETRY_S)

    def _refused(self, rank: int, limit_s: float) -> Entry | None:
        if limit_s <= 0:
            return "late"
        if self.depth >= self.max_queue:
            lower = sum(map(len, self._lines[rank + 1 :]))
            if lower <= self.max_queue // _FAIR_EVERY:
                return "full"
        return "hopeless" if self._pace.wait_s(self._places_until(rank)) > limit_s else None

    def _places_until(self, rank: int) -> int:
        """How many places have to be handed on until one that comes now gets one."""
        sizes = [len(line) for line in self._lines]
        in_order = sum(sizes[: rank + 1]) + 1
        if not any(sizes[:rank]):
            return in_order
        top = next(place for place, size in enumerate(sizes) if size)
        return min(in_order, _FAIR_EVERY * (sum(sizes[top + 1 :]) + 1))

    def _next(self) -> Turn:
        heads = [next(iter(line)) for line in self._lines if line]
        if len(heads) > 1 and (self._handed + 1) % _FAIR_EVERY == 0:
            return min(heads[1:], key=_number)
        return heads[0]

    def _last(self) -> Turn:
        """Who came last among the lowest."""
        line = next(line for line in reversed(self._lines) if line)
        return next(reversed(line))

    def _settle(self, turn: Turn, entry: Entry) -> None:
        del self._lines[turn.rank][turn]
        self.depth -= 1
        if not self.depth:
            self._pace.end()
        turn.settle(entry)
        self._on_depth(-1)


def _check(max_concurrency: int, max_queue: int, max_wait_s: float) -> None:
    if max_concurrency < 1:
        raise ValueError(f"max_concurrency must be at least 1, not {max_concurrency}")
    if max_queue < 0:
        raise ValueError(f"max_queue must be 0 or more, not {max_queue}")
    if max_wait_s <= 0:
        raise ValueError(f"max_wait_s must be over 0, not {max_wait_s}")


def _number(turn: Turn) -> int:
    return turn.number


class _Pace:
    """How fast places are handed on, for as long as somebody waits."""

    __slots__ = ("_last", "_mean_s", "_seen")

    def __init__(self) -> None:
        self._last = self._mean_s = 0.0
        self._seen = 0

    def begin(self, now: float) -> None:
        """Somebody waits."""
        self._last = now

    def handed(self, now: float) -> None:
        """A place was handed on."""
        self._seen += 1
        # A plain mean of the first few, then one that forgets.
        weight = max(_WEIGHT, 1 / self._seen)
        self._mean_s += weight * (now - self._last - self._mean_s)
        self._last = now

    def end(self) -> None:
        """Nobody waits. What was seen is forgotten: an old pace must not refuse anybody."""
        self._mean_s, self._seen = 0.0, 0

    def wait_s(self, places: int) -> float:
        """Seconds until so many places have been handed on; 0 where that is not known."""
        return places * self._mean_s if self._seen >= _MIN_SEEN else 0.0
