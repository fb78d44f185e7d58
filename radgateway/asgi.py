"""The ASGI vocabulary everything here is written in, and the few raw-message helpers it needs.

The types are permissive on purpose: an app typed with `asgiref.typing`, with Starlette's own
aliases, or not at all fits `ASGIApp`, so a component can be put around anybody's application.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
Layer = Callable[[ASGIApp], ASGIApp]
Headers = list[tuple[bytes, bytes]]
Clock = Callable[[], float]
"""A source of monotonic seconds; injected so that tests own the time."""


class StreamBroken(Exception):
    """A response that had begun can't be completed, and its format has no way to say so.

    The one exception a component raises on purpose: it travels out to the server, which cuts the
    connection, so that a truncated body looks truncated to the caller.
    """


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first value of a header, compared without case (some hosts send mixed case)."""
    for key, value in headers:
        if key == name or key.lower() == name:
            return value
    return None


def request_header(scope: Scope, name: bytes) -> bytes | None:
    """The first value of a request's header; servers send these names in lower case (ASGI)."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None


def without(headers: Iterable[tuple[bytes, bytes]], names: frozenset[bytes]) -> Headers:
    """The headers less those named (lower case)."""
    return [(key, value) for key, value in headers if key.lower() not in names]


def route_path(scope: Scope) -> str:
    """The path below where this app is mounted.

    Frameworks that mount an app keep the whole `path` and extend `root_path`; the prefix counts
    only where it ends at a slash, so `/gw` is no prefix of `/gwx/v1`. One slash at the end does not
    count: Litestar appends it to the path of what it mounts.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root):
        rest = path[len(root) :]
        if not rest or rest[0] == "/":
            path = rest
    return path.removesuffix("/") or "/"


def is_event_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a response is a server-sent event stream."""
    value = header(headers, b"content-type")
    return value is not None and value.lstrip()[:17].lower() == b"text/event-stream"


def split_keys(query: bytes) -> tuple[bytes, list[bytes]]:
    """A query string without its `key` parameters, however they are escaped, and their values."""
    kept: list[bytes] = []
    keys: list[bytes] = []
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if unquote_to_bytes(name) == b"key":
            keys.append(unquote_to_bytes(value))
        else:
            kept.append(pair)
    return b"&".join(kept), keys


async def respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send one complete response; the content length is added."""
    headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def decline(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what is not HTTP, for an app that serves nothing else.

    A lifespan is acknowledged (there is nothing to start), a websocket is closed before it opens.
    """
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1003})
