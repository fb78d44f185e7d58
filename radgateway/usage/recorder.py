"""UsageRecorder: every request that passes leaves one row of what it used, whatever became of it.

Stands inside authentication and limits, around the retry budget and the router, so it sees what
was really attempted. It answers nothing and waits for nothing: the row is made and queued in
`finally`, synchronously, so that a cancelled request is recorded too.
"""

from __future__ import annotations

from collections.abc import Callable

from radgateway.alone import joined_fully, mark_break
from radgateway.asgi import ASGIApp, Receive, Scope, Send
from radgateway.usage.row import UsageRow, row_of

_FREE_OF_USE = frozenset({"models"})
"""API types that call no model; a row of them would say nothing."""


class UsageRecorder:
    """Puts a row for each request to `put`, in practice `UsageWriter.put`."""

    def __init__(self, app: ASGIApp, *, put: Callable[[UsageRow], object]) -> None:
        self.app = app
        self._put = put

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope, receive, send, exchange = joined_fully(scope, receive, send)
        try:
            await self.app(scope, receive, send)
        except Exception:
            mark_break(exchange)
            raise
        finally:
            operation = exchange.operation
            if operation is None or operation.api_type not in _FREE_OF_USE:
                spans = exchange.spans
                began = exchange.clock() if spans is not None else 0.0
                self._put(row_of(exchange))
                if spans is not None:
                    spans.append(("usage_record", began, exchange.clock()))
