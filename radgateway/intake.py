"""Reading what a request asks for: once, by whichever layer needs it first.

A limiter that counts tokens and the router both have to know the model and the size of a request.
`receive` has one consumer, so the first of them reads the body, and the record keeps what it said.
"""

from __future__ import annotations

from radgateway.asgi import Receive, Scope, request_header, route_path
from radgateway.body import read_body
from radgateway.dialects.base import Ask
from radgateway.errors import Refusal
from radgateway.exchange import Exchange
from radgateway.surface import operation_of


async def read_ask(
    scope: Scope,
    receive: Receive,
    exchange: Exchange,
    *,
    limit_bytes: int,
    timeout_s: float | None,
) -> Ask:
    """The request as its dialect reads it; no byte is read where an outer layer has done so.

    Raises `Refusal` for what can't be served, or `ClientDisconnected`.
    """
    if exchange.ask is not None:
        return exchange.ask
    path = route_path(scope)
    operation = exchange.operation
    if operation is None:
        operation = exchange.operation = operation_of(path)
    if operation is None:
        raise Refusal("unknown_path", "Nothing is served at this path.")
    if scope["method"] != "POST":
        raise Refusal("method_not_allowed", "This path takes POST.", headers=[(b"allow", b"POST")])
    body = await read_body(scope, receive, limit_bytes=limit_bytes, timeout_s=timeout_s)
    content_type = request_header(scope, b"content-type") or b""
    ask = exchange.ask = operation.dialect.read(path, content_type, body)
    exchange.model, exchange.stream = ask.model, ask.stream
    return ask
