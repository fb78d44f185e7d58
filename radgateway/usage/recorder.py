"""UsageRecorder: every request that passes leaves one row of what it used, whatever became of it.

Stands inside authentication and limits, around the admission queue, the retry budget and the
router, so it sees what was really attempted, and whom an overload turned away. It answers nothing
and waits for nothing: the row is made and queued in `finally`, synchronously, so that a cancelled
request is recorded too. Where rows are held in a journal it is made before the last byte of the
answer goes out, so that not even a process that is killed loses what it has answered.
"""

from __future__ import annotations

from collections.abc import Callable

from radgateway.alone import joined_fully, mark_break
from radgateway.asgi import ASGIApp, Message, Receive, Scope, Send
from radgateway.exchange import Exchange
from radgateway.usage.row import UsageRow, row_of

_FREE_OF_USE = frozenset({"models"})
"""API types that call no model; a row of them would say nothing."""


class UsageRecorder:
    """Puts a row for each request to `put`, in practice `UsageWriter.put`.

    `hold`, in practice `UsageWriter.hold`, gets the row as it stands when all but the last byte of
    the answer is out; and again, of the same id, should the request end otherwise after all.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        put: Callable[[UsageRow], object],
        hold: Callable[[UsageRow], object] | None = None,
    ) -> None:
        self.app = app
        self._put = put
        self._hold = hold

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope, receive, send, exchange = joined_fully(scope, receive, send)
        early: _EarlyRow | None = None
        if self._hold is not None and _of_use(exchange):
            early = _EarlyRow(exchange, send, self._hold)
            send = early.send
        try:
            await self.app(scope, receive, send)
        except Exception:
            mark_break(exchange)
            raise
        finally:
            row = early.settled() if early is not None else None
            if row is not None or _of_use(exchange):
                self._put(row if row is not None else _timed_row(exchange, ending=False))


class _EarlyRow:
    """The row of a request, made and held before the last byte of its answer is sent."""

    __slots__ = ("_exchange", "_hold", "_row", "_send")

    def __init__(self, exchange: Exchange, send: Send, hold: Callable[[UsageRow], object]) -> None:
        self._exchange = exchange
        self._send = send
        self._hold = hold
        self._row: UsageRow | None = None

    async def send(self, message: Message) -> None:
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if last and self._row is None:
            self._row = _timed_row(self._exchange, ending=True)
            self._hold(self._row)
        await self._send(message)

    def settled(self) -> UsageRow | None:
        """The row as the request has ended, or None where it ended before its last byte."""
        row, exchange = self._row, self._exchange
        if row is None or self._stands(row):
            return row
        row = row_of(exchange, usage_id=row.usage_id)
        self._hold(row)
        return row

    def _stands(self, row: UsageRow) -> bool:
        exchange = self._exchange
        if (row.outcome, row.status) != (exchange.outcome, exchange.reported_status):
            return False
        # Of two that raced, the one that lost may end after the winner's last byte.
        return not any(attempt.hedge for attempt in exchange.attempts)


def _of_use(exchange: Exchange) -> bool:
    operation = exchange.operation
    return operation is None or operation.api_type not in _FREE_OF_USE


def _timed_row(exchange: Exchange, *, ending: bool) -> UsageRow:
    spans = exchange.spans
    if spans is None:
        return row_of(exchange, ending=ending)
    began = exchange.clock()
    row = row_of(exchange, ending=ending)
    spans.append(("usage_record", began, exchange.clock()))
    return row
