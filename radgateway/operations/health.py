"""Liveness and readiness, which are two questions.

Liveness asks whether the process should be killed: it looks at nothing, since a restart mends no
dependency. Readiness asks whether to send work here: no while starting or draining. The state of
dependencies is shown, and takes no replica out of service: a store that all of them share would
take all of them out at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from radgateway.inbound.drain import Drain
from radgateway.operations.json_endpoint import JSONEndpoint, Query

Check = Callable[[], str]
"""Says the state of a dependency in a word: `ok`, or what is wrong. Must not wait."""


def liveness() -> JSONEndpoint:
    """GET /health: always 200 while the event loop turns."""

    async def alive(query: Query) -> tuple[int, Any]:
        return 200, {"status": "ok"}

    return JSONEndpoint(alive)


def readiness(drain: Drain, checks: Mapping[str, Check]) -> JSONEndpoint:
    """GET /health/ready: 200 while work is taken, 503 while draining; each dependency's state."""

    async def ready(query: Query) -> tuple[int, Any]:
        states = {name: check() for name, check in checks.items()}
        status = "draining" if drain.draining else "ready"
        body = {"status": status, "in_flight": drain.in_flight, "dependencies": states}
        return (503 if drain.draining else 200), body

    return JSONEndpoint(ready)
