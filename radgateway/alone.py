"""Joining a request's record where a layer may stand alone around somebody's app.

Inside the gateway other layers keep the record complete. Alone, nobody else sees the client
leave or the app fail, so the layer that opens the record has to.
"""

from __future__ import annotations

from radgateway.asgi import Message, Receive, Scope, Send
from radgateway.exchange import Exchange, exchange_of, open_exchange


def joined_fully(
    scope: Scope, receive: Receive, send: Send
) -> tuple[Scope, Receive, Send, Exchange]:
    """The record of the request where there is one, else a new one that sees disconnects too."""
    found = exchange_of(scope)
    if found is not None:
        return scope, receive, send, found
    scope, send, exchange = open_exchange(scope, send, request_id="")

    async def receive_watched() -> Message:
        message: Message = await receive()
        # After the last byte a disconnect is merely the end of the connection.
        if message["type"] == "http.disconnect" and exchange.ended is None:
            exchange.disconnected = True
        return message

    return scope, receive_watched, send, exchange


def mark_break(exchange: Exchange) -> None:
    """Note that an exception cut a response that had begun."""
    if exchange.status is not None and exchange.ended is None and exchange.interrupted is None:
        exchange.interrupted = "internal_error"
