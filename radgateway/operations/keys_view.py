"""GET /v0/management/keys: each key's limits, and what it has spent of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from radgateway.asgi import ASGIApp
from radgateway.exchange import Principal
from radgateway.inbound.limit_ledger import Standing
from radgateway.inbound.limit_set import MONEY, NANO
from radgateway.operations.json_endpoint import JSONEndpoint
from radgateway.operations.query_parameters import Query

Standings = Callable[[str], Awaitable[Sequence[Standing] | None]]

_AT_ONCE = 8
"""Questions to a shared storage under way at once."""


def keys_view(keys: Sequence[Principal], standings: Standings) -> dict[str, ASGIApp]:
    """The endpoint. What requests in progress have reserved counts as spent until they end."""

    async def show(query: Query) -> tuple[int, Any]:
        found: list[Sequence[Standing] | None] = []
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            found += await asyncio.gather(*(standings(key.name) for key in some))
        now = datetime.now(UTC)
        data = [_key(key, stands, now) for key, stands in zip(keys, found, strict=True)]
        return 200, {"data": data, "total": len(data)}

    return {"keys": JSONEndpoint(show)}


def _key(key: Principal, standings: Sequence[Standing] | None, now: datetime) -> dict[str, Any]:
    return {
        "name": key.name,
        "priority": key.priority,
        # Null where a shared storage does not answer, or can't say.
        "limits": [_limit(each, now) for each in standings] if standings is not None else None,
    }


def _limit(standing: Standing, now: datetime) -> dict[str, Any]:
    limit = standing.limit
    spent = limit.amount - standing.left
    resets_at = (now + timedelta(seconds=standing.reset_s)).isoformat(timespec="seconds")
    return {
        "limit": limit.text,
        "kind": limit.name,
        "shadow": limit.shadow,
        "amount": _shown(limit.kind, limit.amount),
        "spent": _shown(limit.kind, spent),
        "left": _shown(limit.kind, max(0, standing.left)),
        # For a budget the end of its period, for others when all of it is there again.
        "resetsAt": resets_at.replace("+00:00", "Z"),
    }


def _shown(kind: int, amount: int) -> int | str:
    """A number, or US dollars as an exact decimal."""
    return f"{(Decimal(amount) / NANO).normalize():f}" if kind == MONEY else amount
