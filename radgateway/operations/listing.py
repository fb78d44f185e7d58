"""A GET endpoint that answers the same as JSON, a page at a time, or as a CSV export of it all.

An export is made page by page while it is sent: it never holds more than one, and the ledger holds
nothing for it between two. It ends early only by breaking off, so that half of one can't be taken
for the whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import NamedTuple

from radgateway.asgi import Headers, Receive, Scope, Send, decline, request_header
from radgateway.disconnect import DisconnectWatch
from radgateway.errors import Refusal, answer, end_broken
from radgateway.exchange import joined
from radgateway.operations.json_endpoint import JSONEndpoint, Source
from radgateway.operations.query_parameters import Query, parameters_of

_FORMATS = ("json", "csv")


class Export(NamedTuple):
    """A CSV file: its name, and its text in parts, the first of which has the header."""

    name: str
    parts: AsyncGenerator[bytes, None]


class Listing:
    """Answers GET and HEAD with `as_json` or, where the request asks for CSV, with `as_csv`.

    Both get the query's parameters and may raise `Refusal`; an export also while its first part is
    made. One that can't be completed after that is cut.
    """

    def __init__(self, as_json: Source, as_csv: Callable[[Query], Awaitable[Export]]) -> None:
        self._json = JSONEndpoint(as_json)
        self._export = as_csv

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await decline(scope, receive, send)
            return
        if scope["method"] not in ("GET", "HEAD"):
            await self._json(scope, receive, send)
            return
        try:
            query = parameters_of(scope)
            if not _csv_wanted(query, request_header(scope, b"accept")):
                await self._json(scope, receive, send)
                return
            export = await self._export(query)
            first = await anext(export.parts)
        except Refusal as refusal:
            await answer(scope, send, refusal)
            return
        async with contextlib.aclosing(export.parts):
            await _answer_csv(scope, receive, send, export, first)


async def _answer_csv(
    scope: Scope, receive: Receive, send: Send, export: Export, first: bytes
) -> None:
    headers: Headers = [
        (b"content-type", b"text/csv; charset=utf-8; header=present"),
        (b"content-disposition", f'attachment; filename="{export.name}"'.encode("ascii")),
        (b"cache-control", b"no-store"),
    ]
    scope, send, exchange = joined(scope, send)
    with DisconnectWatch(receive, exchange) as watch:
        watch.begin()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await send({"type": "http.response.body", "body": first, "more_body": True})
        try:
            async for part in export.parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except Refusal as refusal:
            await end_broken(scope, send, refusal, events=False)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _csv_wanted(query: Query, accept: bytes | None) -> bool:
    """Whether `format` says csv or, where it says nothing, `Accept` would rather have that."""
    named = query.get("format")
    if named is not None:
        if named not in _FORMATS:
            raise Refusal("invalid_request", "`format` must be json or csv.")
        return named == "csv"
    if accept is None:
        return False
    weights = _weights(accept.decode("latin-1").lower())
    csv = weights.get("text/csv", 0.0)
    return csv > 0 and csv >= weights.get("application/json", 0.0)


def _weights(accept: str) -> dict[str, float]:
    """The media types of an Accept header with their weights (RFC 9110 §12.5.1)."""
    weights: dict[str, float] = {}
    for each in accept.split(","):
        kind, *parameters = (part.strip() for part in each.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    weight = float(value)
                except ValueError:
                    weight = 0.0
        weights[kind] = weight
    return weights
