"""A POST endpoint that takes a small JSON object, changes something, and leaves an audit line.

Everything that changes a running gateway has this shape: the body is bounded and checked against
a declared form, and who did what is logged whatever the log level, also where it was refused.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec

from radgateway.asgi import Receive, Scope, Send, decline, route_path
from radgateway.body import ClientDisconnected, read_body
from radgateway.errors import Refusal, answer
from radgateway.exchange import exchange_of
from radgateway.operations.json_endpoint import answer_json

_log = logging.getLogger("radgateway.admin")

_BODY_MAX = 16 * 1024
_BODY_TIMEOUT_S = 10.0

Order = TypeVar("Order", bound=msgspec.Struct)


class JSONAction(Generic[Order]):
    """Answers POST with what `act` makes of the body, and 405 to anything else.

    `form` is the body's form; an empty body is an empty object. `act` gives a status and what to
    answer, and may raise `Refusal`.
    """

    def __init__(
        self, name: str, form: type[Order], act: Callable[[Order], Awaitable[tuple[int, Any]]]
    ) -> None:
        self._name = name
        self._decode = msgspec.json.Decoder(form).decode
        self._act = act

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await decline(scope, receive, send)
            return
        if scope["method"] != "POST":
            refusal = Refusal(
                "method_not_allowed", "This path takes POST.", headers=[(b"allow", b"POST")]
            )
            await answer(scope, send, refusal)
            return
        try:
            order = await self._order(scope, receive)
            status, payload = await self._act(order)
        except Refusal as refusal:
            self._note(scope, "refused", reason=refusal.message)
            await answer(scope, send, refusal)
        except ClientDisconnected:
            exchange = exchange_of(scope)
            if exchange is not None:
                exchange.disconnected = True
        else:
            self._note(scope, "done", **msgspec.to_builtins(order))
            await answer_json(scope, send, status, payload)

    async def _order(self, scope: Scope, receive: Receive) -> Order:
        body = await read_body(scope, receive, limit_bytes=_BODY_MAX, timeout_s=_BODY_TIMEOUT_S)
        try:
            return self._decode(body or b"{}")
        except msgspec.ValidationError as error:
            raise Refusal("invalid_request", f"{error}.") from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Refusal("invalid_json", f"The body is not JSON: {error}.") from None

    def _note(self, scope: Scope, outcome: str, /, **what: Any) -> None:
        exchange = exchange_of(scope)
        principal = exchange.principal if exchange is not None else None
        client = scope.get("client")
        fields = {
            "by": principal.name if principal is not None else None,
            "from": client[0] if client else None,
            "path": route_path(scope),
            "outcome": outcome,
            "order": what,
        }
        _log.warning("radgateway.admin.%s", self._name, extra=fields)
