"""What the test of the waiting line serves under each server: one place, and a view of the line."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from radgateway.asgi import respond
from radgateway.inbound.admission import AdmissionQueue

served: list[str] = []


async def slow(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, wait as the path says (in milliseconds), say how many bytes there were."""
    name, wait_ms = scope["path"].strip("/").split("/")
    served.append(name)
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await asyncio.sleep(float(wait_ms) / 1000)
    await respond(send, 200, [(b"content-type", b"text/plain")], b"%d" % size)


queue = AdmissionQueue(slow, 1, 5, 30.0)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """`/state` beside the queue."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] != "/state":
        await queue(scope, receive, send)
        return
    state = {"in_use": queue.in_use, "depth": queue.depth, "served": served}
    await respond(send, 200, [(b"content-type", b"application/json")], json.dumps(state).encode())
