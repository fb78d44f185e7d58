"""A gateway's share of a limiter on Redis, in a process of its own, told what to do by a test."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from decimal import Decimal
from multiprocessing.connection import Connection
from typing import Any

from limits.aio.storage import RedisStorage

from radgateway.inbound.limit_ledger import Hold
from radgateway.inbound.limit_plan import Costs, LimitBook, Plan, Plans
from radgateway.inbound.limit_redis import RedisStore
from radgateway.inbound.limit_set import Budget, LimitSet
from radgateway.inbound.limit_storage import storage_of

LIMIT_S = 20.0

_ALL = Plans(
    LimitBook(
        of_key=lambda name: LimitSet(
            requests=("12/year",), tokens=("100/year",), money=("5/year",), max_concurrency=3
        ),
        of_model=lambda model: (model, LimitSet(output_tokens=("60/2 year",))),
        total=LimitSet(tokens=("150/year",), max_concurrency=4),
    )
)
_SHADOW = Plans(LimitBook(of_key=lambda name: LimitSet(tokens=("40/year",), shadow=True)))
PLANS = [
    _ALL.of_model("bob", "m"),
    _ALL.of_model("a/b", "m"),
    _ALL.of_model("a", "b/m"),
    Plan([*_ALL.of("a/b").limits, *_SHADOW.of("all").limits], reads=True),
    Plans(
        LimitBook(
            of_key=lambda name: LimitSet(budget=Budget(usd=Decimal(5))),
            total=LimitSet(budget=Budget(usd=Decimal(50), per="day")),
        )
    ).of("thrifty"),
]
"""Windows so long that none ends during a test; the server's clock is nobody's to turn."""


def work(commands: Connection, uri: str, lease_s: float) -> None:
    """Do what is asked, one command at a time, until killed."""
    loop = asyncio.new_event_loop()
    storage = storage_of(uri, timeout_s=LIMIT_S)
    assert isinstance(storage, RedisStorage)
    store = RedisStore(storage, lease_s=lease_s)
    holds: dict[str, Hold] = {}

    async def take(plan: int, costs: Costs) -> tuple[bool, str]:
        verdict = await store.take(PLANS[plan].limits, costs)
        if verdict.hold is not None:
            holds[verdict.hold.id] = verdict.hold
        return verdict.refused is None, verdict.hold.id if verdict.hold is not None else ""

    async def settle(id: str, spent: Costs) -> None:
        holds.pop(id).settle(spent)
        while store.keeper.pending:
            await asyncio.sleep(0.001)

    async def hammer(plan: int, costs: Costs, times: int) -> int:
        """Take as fast as it goes, keep nothing; how often that was allowed."""
        verdicts = await asyncio.gather(
            *(store.take(PLANS[plan].limits, costs) for _ in range(times))
        )
        for verdict in verdicts:
            if verdict.hold is not None:
                verdict.hold.settle(costs)
        while store.keeper.pending:
            await asyncio.sleep(0.001)
        return sum(verdict.refused is None for verdict in verdicts)

    async def rest(seconds: float) -> None:
        """Let the heartbeat beat."""
        await asyncio.sleep(seconds)

    known: dict[str, Any] = {"take": take, "settle": settle, "hammer": hammer, "rest": rest}
    while True:
        name, *arguments = commands.recv()
        commands.send(loop.run_until_complete(known[name](*arguments)))


class Worker:
    """A gateway process, from the test's side."""

    _context = multiprocessing.get_context("forkserver")
    _context.set_forkserver_preload(["inbound.limit_worker"])

    def __init__(self, uri: str, *, lease_s: float = 600.0) -> None:
        self._ours, theirs = self._context.Pipe()
        self.process = self._context.Process(target=work, args=(theirs, uri, lease_s), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, *command: Any) -> Any:
        """Have it do something, and wait for what came of it."""
        self.begin(*command)
        return self.end()

    def begin(self, *command: Any) -> None:
        """Have it do something while the test does something else."""
        self._ours.send(command)

    def end(self) -> Any:
        """What came of it."""
        assert self._ours.poll(LIMIT_S), "the worker does not answer"
        return self._ours.recv()

    def kill(self) -> None:
        """SIGKILL: nothing is settled, nothing is said."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join(LIMIT_S)
        self._ours.close()
        self.process.close()


@contextlib.contextmanager
def workers(uri: str, count: int = 2, *, lease_s: float = 600.0) -> Iterator[list[Worker]]:
    """Some of them, for as long as the block runs."""
    made = [Worker(uri, lease_s=lease_s) for _ in range(count)]
    try:
        yield made
    finally:
        for worker in made:
            if not worker._ours.closed:
                worker.kill()
