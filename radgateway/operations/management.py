"""/v0/management: looking into a running gateway, and the few things that may be changed in it.

GET config, usage, traces and providers have the original gateway's shapes, its capitals included,
with fields added and none renamed. One thing differs on purpose: `total` is the number of rows
given, where the original repeated the limit. POST drain and providers/NAME/breaker change
something, and leave an audit line. All of it stands behind an admin key and is not served at all
without one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from radgateway.asgi import ASGIApp, Receive, Scope, Send, decline, route_path
from radgateway.errors import Refusal, answer
from radgateway.exchange import HEDGE_LOST
from radgateway.inbound.drain import Drain
from radgateway.operations.json_action import JSONAction
from radgateway.operations.json_endpoint import JSONEndpoint, Query, whole_number
from radgateway.operations.providers import BreakerOrder, ProviderStatus
from radgateway.usage.ledger import LedgerUnavailable
from radgateway.usage.row import UsageRow

PREFIX = "/v0/management/"

_DEFAULT_LIMIT = 50
_MOST = 500

Recent = Callable[[int], Awaitable[Sequence[UsageRow]]]


class Management:
    """The endpoints, by their path below `/v0/management/`."""

    def __init__(self, *endpoints: Mapping[str, ASGIApp]) -> None:
        self.paths = {path: app for group in endpoints for path, app in group.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await decline(scope, receive, send)
            return
        app = self.paths.get(route_path(scope).removeprefix(PREFIX))
        if app is None:
            refusal = Refusal("unknown_path", "The management API has nothing at this path.")
            await answer(scope, send, refusal)
            return
        await app(scope, receive, send)


def views(
    config: Mapping[str, Any], recent: Recent, providers: Sequence[ProviderStatus]
) -> dict[str, ASGIApp]:
    """What may be looked at. `config` holds no secret; `recent` gives the newest rows first."""

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
        data = [provider.show() for provider in providers]
        return 200, {"data": data, "total": len(data)}

    return {
        "config": JSONEndpoint(show_config),
        "usage": JSONEndpoint(show_usage),
        "traces": JSONEndpoint(show_traces),
        "providers": JSONEndpoint(show_providers),
    }


class DrainOrder(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a drain: there is nothing to say."""


def changes(
    drain: Drain, stop: Callable[[], object], providers: Sequence[ProviderStatus]
) -> dict[str, ASGIApp]:
    """What may be changed. `stop` begins the end of the process, or of what the gateway is in."""

    async def begin_drain(order: DrainOrder) -> tuple[int, Any]:
        stop()
        return 202, {
            "status": "draining",
            "inFlight": drain.in_flight,
            "streams": drain.streams,
            "drainTimeoutS": drain.limits.timeout_s,
            "streamDrainTimeoutS": drain.limits.stream_timeout_s,
        }

    return {"drain": JSONAction("drain", DrainOrder, begin_drain)} | {
        f"providers/{provider.name}/breaker": _breaker(provider) for provider in providers
    }


def _breaker(provider: ProviderStatus) -> ASGIApp:
    async def change(order: BreakerOrder) -> tuple[int, Any]:
        provider.order(order)
        return 200, provider.show()

    return JSONAction("breaker", BreakerOrder, change)


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
