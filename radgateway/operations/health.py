"""Liveness and readiness, which are two questions.

Liveness asks whether the process should be killed: it looks at nothing, since a restart mends no
dependency. Readiness asks whether to send work here: no while starting or draining. The state of
dependencies is shown, and takes no replica out of service, since a store that all of them share
would take all of them out at once; but for one that leaves nothing to serve with.
"""

from __future__ import annotations

from typing import Any

from radgateway.inbound.drain import Drain
from radgateway.operations.degraded import DependencyWatch, shown
from radgateway.operations.json_endpoint import JSONEndpoint
from radgateway.operations.query_parameters import Query


def liveness() -> JSONEndpoint:
    """GET /health: always 200 while the event loop turns."""

    async def alive(query: Query) -> tuple[int, Any]:
        return 200, {"status": "ok"}

    return JSONEndpoint(alive)


def readiness(drain: Drain, dependencies: DependencyWatch) -> JSONEndpoint:
    """GET /health/ready: 200 while work is taken, else 503; what is degraded, and how."""

    async def ready(query: Query) -> tuple[int, Any]:
        modes = dependencies.read()
        status = "ready" if all(mode.ready for mode in modes.values()) else "unavailable"
        if drain.leaving:
            status = "draining"
        body = {"status": status, "in_flight": drain.in_flight, **shown(modes)}
        return (200 if status == "ready" else 503), body

    return JSONEndpoint(ready)
