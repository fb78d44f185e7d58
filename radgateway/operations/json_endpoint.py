"""A GET endpoint that answers JSON: the shape of everything that operates the gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from radgateway.asgi import Receive, Scope, Send, decline
from radgateway.errors import Refusal, answer
from radgateway.operations.query_parameters import Query, parameters_of

Source = Callable[[Query], Awaitable[tuple[int, Any]]]
"""Takes the query's parameters, gives a status and what to answer. May raise `Refusal`."""

_JSON = (b"content-type", b"application/json")
_FRESH = (b"cache-control", b"no-store")


class JSONEndpoint:
    """Answers GET and HEAD with what its source says, and 405 to anything else."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await decline(scope, receive, send)
            return
        if scope["method"] not in ("GET", "HEAD"):
            refusal = Refusal(
                "method_not_allowed", "This path takes GET.", headers=[(b"allow", b"GET, HEAD")]
            )
            await answer(scope, send, refusal)
            return
        try:
            status, payload = await self._source(parameters_of(scope))
        except Refusal as refusal:
            await answer(scope, send, refusal)
            return
        await answer_json(scope, send, status, payload)


async def answer_json(scope: Scope, send: Send, status: int, payload: Any) -> None:
    """Send a payload as JSON that no cache keeps."""
    body = msgspec.json.encode(payload)
    headers = [_JSON, _FRESH, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    # HEAD has GET's headers, its length among them, and no body (RFC 9110 §9.3.2).
    body = b"" if scope["method"] == "HEAD" else body
    await send({"type": "http.response.body", "body": body, "more_body": False})
