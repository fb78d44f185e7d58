"""Accounts in Redis, shared by all who use it: one script and one round trip for a request.

The connection is that of the `limits` library's storage, so its addresses, options, Sentinel and
cluster support hold. The counting is not the library's: it takes a trip for each limit and charges
the first ones when a later one refuses.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

from limits.aio.storage import RedisStorage

from radgateway.inbound import limit_scripts
from radgateway.inbound.limit_batches import Batches
from radgateway.inbound.limit_leases import LeaseKeeper, Settlement
from radgateway.inbound.limit_ledger import (
    NOTHING,
    Hold,
    Standing,
    Verdict,
    cost_of,
    judge,
    judge_budget,
    judge_places,
    refusing,
    tightest,
)
from radgateway.inbound.limit_period import left_s
from radgateway.inbound.limit_plan import Costs, Limit
from radgateway.inbound.limit_set import CONCURRENCY

PREFIX = "{radgateway-limits}/"
"""Of every key. The braces put all of them into one slot of a cluster: a script can only be atomic
over keys of one slot, and a request's limits have different owners."""

_TIMEOUT_S = 1.0
"""Seconds for one exchange with the server. A request waits for less, and nobody for the rest."""


class _Question(NamedTuple):
    """A charge to be made."""

    limits: Sequence[Limit]
    costs: Costs
    hold: Hold


class RedisStore:
    """Charges, renews and settles in a Redis or Valkey. Raises what its client raises."""

    def __init__(
        self, storage: RedisStorage, *, lease_s: float, on_lost: Any = None, prefix: str = PREFIX
    ) -> None:
        client: Any = storage.bridge.get_connection()  # type: ignore[attr-defined]
        self._client = client
        # A cluster's client does not take scripts in a pipeline.
        self._pipelines = storage.MODE != "CLUSTER"
        # Sends the script's hash, and the script itself where the server does not know it.
        self._take = client.register_script(limit_scripts.TAKE)
        self._settle = client.register_script(limit_scripts.SETTLE)
        self._renew = client.register_script(limit_scripts.RENEW)
        self._prefix = prefix
        self._lease_ms = round(lease_s * 1000)
        self._numbers = count()
        self._origin = ""
        self._batches = Batches(self._ask, self._give_back, timeout_s=_TIMEOUT_S)
        self.keeper = LeaseKeeper(
            self._settle_all,
            self._renew_all,
            lease_s=lease_s,
            timeout_s=_TIMEOUT_S,
            on_lost=on_lost,
        )

    async def take(self, limits: Sequence[Limit], costs: Costs) -> Verdict:
        """Charge a request where every enforced limit allows it, or nothing at all."""
        hold = Hold(self, [(limit, 0, 0) for limit in limits if limit.holds], self._new_id())
        question = _Question(limits, costs, hold)
        verdict = _read(question, await self._batches.answer(question))
        if verdict.hold is not None:
            self.keeper.hold(verdict.hold)
        return verdict

    async def look(self, limits: Sequence[Limit]) -> list[Standing]:
        """How a request would stand, with nothing charged."""
        question = _Question(limits, NOTHING, Hold(self, [], ""))
        keys, arguments = self._keys(limits), self._arguments(question)
        return _standings(question, await self._take(keys=keys, args=arguments))

    async def aclose(self) -> None:
        """Leave the server alone, and write what is still to be settled."""
        await self._batches.aclose()
        await self.keeper.aclose()

    async def _ask(self, questions: Sequence[_Question]) -> Sequence[Any]:
        """The script's answer to each, or the exception it came to."""
        calls = [(self._keys(q.limits), self._arguments(q)) for q in questions]
        if len(calls) == 1 or not self._pipelines:
            return await asyncio.gather(
                *(self._take(keys=keys, args=arguments) for keys, arguments in calls),
                return_exceptions=True,
            )
        answers = await self._ask_together(calls)
        unknown = [at for at, answer in enumerate(answers) if _no_script(answer)]
        if unknown:
            await self._client.script_load(limit_scripts.TAKE)
            again = await self._ask_together([calls[at] for at in unknown])
            for at, answer in zip(unknown, again, strict=True):
                answers[at] = answer
        return answers

    async def _ask_together(self, calls: Sequence[tuple[list[str], list[Any]]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for keys, arguments in calls:
            pipeline.evalsha(self._take.sha, len(keys), *keys, *arguments)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    def _give_back(self, question: _Question, answer: Any) -> None:
        """Undo a charge whose request was given up, or of which nobody knows whether it arrived."""
        if isinstance(answer, BaseException):
            if question.hold.entries:
                self.keeper.settle(question.hold, NOTHING, certain=False)
        elif (hold := _read(question, answer).hold) is not None:
            self.keeper.settle(hold, NOTHING)

    def _arguments(self, question: _Question) -> list[Any]:
        arguments: list[Any] = [question.hold.id, self._lease_ms]
        for limit in question.limits:
            cost = cost_of(limit, question.costs)
            group = 2 if limit.shadow else 1
            arguments += (_kind(limit), limit.window_ms, limit.amount, cost, group)
        return arguments

    def settle(self, hold: Hold, spent: Costs) -> None:
        """Correct the charges to what was really spent, and free the places: soon."""
        self.keeper.settle(hold, spent)

    async def _settle_all(self, settlements: Sequence[Settlement]) -> None:
        keys: list[str] = []
        arguments: list[Any] = [self._lease_ms]
        for hold, spent, certain in settlements:
            held = [limit for limit, _, _ in hold.entries]
            keys += self._keys(held)
            for limit in held:
                arguments += (_kind(limit), hold.id, limit.window_ms, spent[limit.kind])
                arguments.append(int(certain))
        await self._settle(keys=keys, args=arguments)

    async def _renew_all(self, holds: Sequence[Hold]) -> None:
        keys: list[str] = []
        arguments: list[Any] = [self._lease_ms]
        for hold in holds:
            held = [limit for limit, _, _ in hold.entries]
            keys += self._keys(held)
            for limit in held:
                arguments += (_kind(limit), hold.id, limit.window_ms)
        await self._renew(keys=keys, args=arguments)

    def _keys(self, limits: Sequence[Limit]) -> list[str]:
        keys = []
        for limit in limits:
            keys.append(self._prefix + limit.key)
            if limit.holds and limit.kind != CONCURRENCY:
                keys.append(f"{self._prefix}{limit.key}/leases")
        return keys

    def _new_id(self) -> str:
        if not self._origin.startswith(f"{os.getpid():x}-"):  # the first one, or after a fork
            self._origin = f"{os.getpid():x}-{os.urandom(6).hex()}-"
        return f"{self._origin}{next(self._numbers):x}"


def _no_script(answer: Any) -> bool:
    """Whether the server does not know the script: redis-py and valkey-py each have their own."""
    return type(answer).__name__ == "NoScriptError"


def _kind(limit: Limit) -> str:
    if limit.kind == CONCURRENCY:
        return "c"
    if limit.period is not None:
        return limit.period[0]
    return "h" if limit.holds else "r"


def _standings(question: _Question, answer: Sequence[int]) -> list[Standing]:
    """What the script found of each limit."""
    standings: list[Standing] = []
    now_ms, at = answer[2], 3
    for limit in question.limits:
        index, current, previous = answer[at : at + 3]
        at += 3
        cost = cost_of(limit, question.costs)
        if limit.kind == CONCURRENCY:
            standings.append(judge_places(limit, current))
        elif limit.period is not None:
            until_s = left_s(limit.period, index, now_ms / 1000)
            standings.append(judge_budget(limit, cost, current, until_s))
        else:
            window_ms = limit.window_ms
            until_s = min((index + 1) * window_ms - now_ms, window_ms) / 1000
            standings.append(judge(limit, cost, previous, current, until_s))
    return standings


def _read(question: _Question, answer: Sequence[int]) -> Verdict:
    """The script's answer as a verdict; who was charged is its decision, the rest is worked out."""
    hold = question.hold
    enforced_taken, shadow_taken = answer[:2]
    standings = _standings(question, answer)
    if not enforced_taken:
        refused = refusing(standings, shadow=False)
        if refused is None:
            # Its arithmetic and ours may differ in the last digit.
            nearest = tightest([s for s in standings if not s.limit.shadow])
            refused = nearest._replace(allowed=False, wait_s=0.001)
        return Verdict(standings, refused)
    shadowed = None
    if not shadow_taken:
        ours = [s for s in standings if s.limit.shadow]
        shadowed = refusing(ours, shadow=True) or (tightest(ours) if ours else None)
    hold.entries = [e for e in hold.entries if shadow_taken or not e[0].shadow]
    return Verdict(standings, None, shadowed, hold if hold.entries else None)
