"""RequestContextMiddleware: the outermost layer; every request gets its id and its record here.

It also is the last resort: an exception nobody expected is answered as a 500 in the caller's
dialect, if nothing was sent yet, and then raised on, so that the server reports the bug.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable

from radgateway.asgi import (
    ASGIApp,
    Clock,
    Receive,
    Scope,
    Send,
    StreamBroken,
    request_header,
    route_path,
)
from radgateway.client_patience import client_patience_s
from radgateway.errors import Refusal, answer
from radgateway.exchange import Exchange, current_exchange, open_exchange
from radgateway.surface import operation_of
from radgateway.telemetry.redaction import scrub

_ACCEPTED_ID = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")
"""What may stand in logs and headers unescaped; anything else is replaced, not repaired."""

_random = random.Random()


def new_request_id() -> str:
    """128 random bits in hex; an id to find a request by, not a secret."""
    return f"{_random.getrandbits(128):032x}"


def accepted_id(value: bytes | None) -> str | None:
    """The client's own request id where it is one we take, else None."""
    if value is None or _ACCEPTED_ID.fullmatch(value) is None:
        return None
    text = value.decode("ascii")
    # It goes into logs, spans and rows, and on to the provider: no place for somebody's key.
    return text if scrub(text) == text else None


class RequestContextMiddleware:
    """Opens the `Exchange`, takes or makes the X-Request-Id and echoes it on every response.

    `on_end` is called with the finished record, whatever became of the request; it must not block.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        on_end: Callable[[Exchange], None] | None = None,
        make_id: Callable[[], str] = new_request_id,
        clock: Clock = time.monotonic,
    ) -> None:
        self.app = app
        self._on_end = on_end
        self._make_id = make_id
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = accepted_id(request_header(scope, b"x-request-id")) or self._make_id()
        scope, send, exchange = open_exchange(scope, send, request_id, self._clock)
        exchange.path = path = route_path(scope)
        exchange.operation = operation_of(path)
        peer = scope.get("client")
        if peer is not None:
            exchange.peer = peer[0]
        patience_s = client_patience_s(scope["headers"])
        if patience_s is not None:
            exchange.deadline = exchange.started + patience_s
        token = current_exchange.set(exchange)
        try:
            await self.app(scope, receive, send)
        except asyncio.CancelledError:
            if exchange.ended is None and not exchange.disconnected:
                exchange.interrupted = "cancelled"
            raise
        except StreamBroken:
            raise
        except Exception:
            if exchange.status is None:
                await answer(
                    scope, send, Refusal("internal_error", "The gateway failed; this is its bug.")
                )
            else:
                exchange.interrupted = "internal_error"
            raise
        finally:
            current_exchange.reset(token)
            if self._on_end is not None:
                self._on_end(exchange)
