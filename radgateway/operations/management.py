"""/v0/management: looking into a running gateway, and the few things that may be changed in it.

GET config, usage, traces and providers have the original gateway's shapes, its capitals included,
with fields added and none renamed. One thing differs on purpose: `total` is the number of rows
given, where the original repeated the limit. GET slo and openapi.json are ours. POST drain and
providers/NAME/breaker change something, and leave an audit line. All of it stands behind an admin
key and is not served at all without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from radgateway.asgi import ASGIApp, Receive, Scope, Send, decline, route_path
from radgateway.errors import Refusal, answer
from radgateway.inbound.drain import Drain
from radgateway.operations.json_action import JSONAction
from radgateway.operations.json_endpoint import JSONEndpoint
from radgateway.operations.providers import BreakerOrder, ProviderStatus
from radgateway.operations.query_parameters import Query, check_known
from radgateway.operations.slo_view import slo_view
from radgateway.operations.traces_view import traces_view
from radgateway.operations.usage_view import usage_view
from radgateway.slo.objectives import Objectives
from radgateway.usage.writer import UsageWriter

PREFIX = "/v0/management/"


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
    config: Mapping[str, Any],
    usage: UsageWriter,
    providers: Sequence[ProviderStatus],
    objectives: Objectives,
) -> dict[str, ASGIApp]:
    """What may be looked at. `config` holds no secret."""

    async def show_config(query: Query) -> tuple[int, Any]:
        check_known(query, ())
        return 200, config

    async def show_providers(query: Query) -> tuple[int, Any]:
        check_known(query, ())
        data = [provider.show() for provider in providers]
        return 200, {"data": data, "total": len(data)}

    return {
        "config": JSONEndpoint(show_config),
        "usage": usage_view(usage),
        "traces": traces_view(usage),
        "providers": JSONEndpoint(show_providers),
        "slo": slo_view(usage, objectives),
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
