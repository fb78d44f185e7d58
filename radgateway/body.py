"""Reading a request's body whole, within a bound and a time, before anything acts on it."""

from __future__ import annotations

from radgateway.asgi import Message, Receive, Scope, request_header
from radgateway.errors import Refusal
from radgateway.time_limit import within


class ClientDisconnected(Exception):
    """The client left before its request was complete; there is nobody to answer."""


async def read_body(
    scope: Scope, receive: Receive, *, limit_bytes: int, timeout_s: float | None = 60.0
) -> bytes:
    """The whole body as one bytes object.

    A declared length over the limit is refused before a byte is read; an undeclared one as soon
    as it passes the limit. Raises `Refusal` (`body_too_large`, `invalid_request`,
    `request_timeout`) or `ClientDisconnected`.
    """
    declared = request_header(scope, b"content-length")
    if declared is not None:
        if not declared.isdigit() or len(declared) > 18:
            raise Refusal("invalid_request", "The Content-Length header is not a number.")
        if int(declared) > limit_bytes:
            raise _too_large(limit_bytes)
    # The common request is one message that is already here: no list, no copy.
    message = await _receive(receive, timeout_s)
    body: bytes = message.get("body", b"")
    if len(body) > limit_bytes:
        raise _too_large(limit_bytes)
    if not message.get("more_body", False):
        return body
    parts = [body]
    size = len(body)
    while message.get("more_body", False):
        message = await _receive(receive, timeout_s)
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        parts.append(part)
    return b"".join(parts)


async def _receive(receive: Receive, timeout_s: float | None) -> Message:
    try:
        message: Message = await within(timeout_s, receive())
    except TimeoutError:
        raise Refusal(
            "request_timeout", f"No byte of the request body arrived for {timeout_s:g} s."
        ) from None
    if message["type"] == "http.disconnect":
        raise ClientDisconnected
    return message


def _too_large(limit_bytes: int) -> Refusal:
    return Refusal(
        "body_too_large",
        f"The request body is larger than the limit of {limit_bytes} bytes.",
        # What is left of the body is not read, so the connection can't carry another request.
        headers=[(b"connection", b"close")],
    )
