"""GET /v0/management/{config,usage,traces,providers}: looking into a running gateway.

The shapes are the original gateway's, its capitals included, with fields added and none renamed.
One thing differs on purpose: `total` is the number of rows given, where the original repeated the
limit. All of it stands behind an admin key and is not served at all without one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from radgateway.errors import Refusal
from radgateway.exchange import HEDGE_LOST
from radgateway.operations.json_endpoint import JSONEndpoint, Query, whole_number
from radgateway.usage.ledger import LedgerUnavailable
from radgateway.usage.row import UsageRow

_DEFAULT_LIMIT = 50
_MOST = 500

Recent = Callable[[int], Awaitable[Sequence[UsageRow]]]


def management(
    config: Mapping[str, Any],
    recent: Recent,
    providers: Callable[[], Sequence[Mapping[str, Any]]],
) -> dict[str, JSONEndpoint]:
    """The endpoints by path. `config` holds no secret; `recent` gives the newest rows first."""

    async def show_config(query: Query) -> tuple[int, Any]:
        return 200, config

    async def rows(query: Query) -> Sequence[UsageRow]:
        limit = whole_number(query, "limit", _DEFAULT_LIMIT, _MOST)
        try:
            return await recent(limit)
        except LedgerUnavailable:
            raise Refusal(
                "overloaded", "The usage ledger does not answer.", retry_after_s=5
            ) from None

    async def show_usage(query: Query) -> tuple[int, Any]:
        data = [row.as_management() for row in await rows(query)]
        return 200, {"data": data, "total": len(data)}

    async def show_traces(query: Query) -> tuple[int, Any]:
        data = [event for row in await rows(query) for event in _events(row)]
        return 200, {"data": data, "total": len(data)}

    async def show_providers(query: Query) -> tuple[int, Any]:
        data = list(providers())
        return 200, {"data": data, "total": len(data)}

    return {
        "/v0/management/config": JSONEndpoint(show_config),
        "/v0/management/usage": JSONEndpoint(show_usage),
        "/v0/management/traces": JSONEndpoint(show_traces),
        "/v0/management/providers": JSONEndpoint(show_providers),
    }


def _events(row: UsageRow) -> list[dict[str, Any]]:
    """A request's story, newest first: accepted, each attempt, completed or failed."""

    def event(offset_ms: float, message: str, **more: Any) -> dict[str, Any]:
        at = datetime.fromtimestamp(row.started_at + offset_ms / 1000, UTC)
        return {
            "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "traceId": row.trace_id,
            "requestId": row.request_id,
            "message": message,
            **more,
        }

    events = [event(0.0, "gateway request accepted", model=row.model, route=row.route)]
    for attempt in row.attempts:
        if attempt.failure == HEDGE_LOST:
            word = "abandoned"
        elif attempt.failure is not None:
            word = "failed"
        else:
            word = "answered" if attempt.status is not None else "abandoned"
        events.append(
            event(
                attempt.offset_ms + attempt.duration_ms,
                f"provider attempt {word}",
                provider=attempt.provider,
                model=attempt.model,
                status=attempt.status,
                reason=attempt.failure,
                durationMs=attempt.duration_ms,
            )
        )
    word = "completed" if row.outcome == "success" else "failed"
    events.append(
        event(row.duration_ms, f"gateway request {word}", outcome=row.outcome, status=row.status)
    )
    return events[::-1]
