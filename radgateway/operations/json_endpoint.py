"""A GET endpoint that answers JSON: the shape of everything that operates the gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from radgateway.asgi import Receive, Scope, Send, decline
from radgateway.errors import Refusal, answer

Query = dict[str, str]
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
        query: bytes = scope.get("query_string", b"")
        try:
            parameters = dict(parse_qsl(query.decode("latin-1"), max_num_fields=32))
        except ValueError:
            await answer(scope, send, Refusal("invalid_request", "The query is too long."))
            return
        try:
            status, payload = await self._source(parameters)
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


def whole_number(query: Query, name: str, default: int, most: int) -> int:
    """A parameter from 1 to `most`; a larger one is cut to it. Raises `Refusal`."""
    text = query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise Refusal("invalid_request", f"`{name}` must be a whole number from 1 to {most}.")
    return min(int(text), most)
