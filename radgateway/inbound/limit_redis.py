"""Accounts in Redis, shared by all who use it: one script and one round trip for a request.

The connection is that of the `limits` library's storage, so its addresses, options, Sentinel and
cluster support hold. The counting is not the library's: it takes a trip for each limit and charges
the first ones when a later one refuses.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import count
from typing import Any

from limits.aio.storage import RedisStorage

from radgateway.inbound import limit_scripts
from radgateway.inbound.limit_leases import LeaseKeeper, Settlement
from radgateway.inbound.limit_ledger import (
    NOTHING,
    Hold,
    Standing,
    Verdict,
    cost_of,
    judge,
    judge_places,
    refusing,
    tightest,
)
from radgateway.inbound.limit_plan import Costs, Limit
from radgateway.inbound.limit_set import CONCURRENCY

PREFIX = "{radgateway-limits}/"
"""Of every key. The braces put all of them into one slot of a cluster: a script can only be atomic
over keys of one slot, and a request's limits have different owners."""

_KEEPER_TIMEOUT_S = 1.0
"""Seconds for a write beside the requests, which nobody waits for."""


class RedisStore:
    """Charges, renews and settles in a Redis or Valkey. Raises what its client raises."""

    def __init__(
        self, storage: RedisStorage, *, lease_s: float, on_lost: Any = None, prefix: str = PREFIX
    ) -> None:
        client: Any = storage.bridge.get_connection()  # type: ignore[attr-defined]
        # Sends the script's hash, and the script itself where the server does not know it.
        self._take = client.register_script(limit_scripts.TAKE)
        self._settle = client.register_script(limit_scripts.SETTLE)
        self._renew = client.register_script(limit_scripts.RENEW)
        self._prefix = prefix
        self._lease_ms = round(lease_s * 1000)
        self._numbers = count()
        self._origin = ""
        self.keeper = LeaseKeeper(
            self._settle_all,
            self._renew_all,
            lease_s=lease_s,
            timeout_s=_KEEPER_TIMEOUT_S,
            on_lost=on_lost,
        )

    async def take(self, limits: Sequence[Limit], costs: Costs) -> Verdict:
        """Charge a request where every enforced limit allows it, or nothing at all."""
        hold = Hold(self, [(limit, 0, 0) for limit in limits if limit.holds], self._new_id())
        arguments: list[Any] = [hold.id, self._lease_ms]
        for limit in limits:
            arguments += (_kind(limit), limit.window_ms, limit.amount, cost_of(limit, costs))
            arguments.append(2 if limit.shadow else 1)
        try:
            answer: list[int] = await self._take(keys=self._keys(limits), args=arguments)
        except BaseException:
            # It may have arrived all the same; what it took must not be missed until it expires.
            if hold.entries:
                self.keeper.settle(hold, NOTHING, certain=False)
            raise
        verdict = _read(answer, limits, costs, hold)
        if verdict.hold is not None:
            self.keeper.hold(verdict.hold)
        return verdict

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


def _kind(limit: Limit) -> str:
    if limit.kind == CONCURRENCY:
        return "c"
    return "h" if limit.holds else "r"


def _read(answer: Sequence[int], limits: Sequence[Limit], costs: Costs, hold: Hold) -> Verdict:
    """The script's answer as a verdict; who was charged is its decision, the rest is worked out."""
    enforced_taken, shadow_taken, now_ms = answer[:3]
    standings: list[Standing] = []
    at = 3
    for limit in limits:
        index, current, previous = answer[at : at + 3]
        at += 3
        if limit.kind == CONCURRENCY:
            standings.append(judge_places(limit, current))
        else:
            window_ms = limit.window_ms
            left_s = min((index + 1) * window_ms - now_ms, window_ms) / 1000
            standings.append(judge(limit, cost_of(limit, costs), previous, current, left_s))
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
