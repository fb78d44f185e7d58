"""The API: Alertmanager's webhook, and what responders see and order.

Answers have the gateway's own form. A 2xx says that a thing is stored: Alertmanager repeats what
was not, and so may anybody else.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, get_args

import msgspec

from radgateway.asgi import Headers, Receive, Scope, Send, decline, respond, route_path
from radgateway.body import ClientDisconnected, read_body
from radgateway.errors import Refusal, answer
from radgateway.exchange import exchange_of
from radgateway.incident.asking import asked, by, unknown
from radgateway.incident.deployments_api import DEPLOYMENTS, DeploymentsAPI
from radgateway.incident.desk import Desk
from radgateway.incident.forms import in_full, summary
from radgateway.incident.group import Webhook, alerts_of
from radgateway.incident.lifecycle import reported
from radgateway.incident.orders import ORDERS, ReportOrder
from radgateway.incident.postmortem import postmortem
from radgateway.incident.record import Severity
from radgateway.incident.review import as_json, review
from radgateway.incident.transaction import Page, Transaction
from radgateway.operations.json_action import JSONAction
from radgateway.operations.json_endpoint import JSONEndpoint, answer_json
from radgateway.operations.query_parameters import Query, check_known, whole_number
from radgateway.usage.moment import moment, rfc3339

INCIDENTS: Final = "/v0/incidents"
WEBHOOK: Final = f"{INCIDENTS}/alertmanager"
_ID: Final = re.compile(r"INC-([1-9][0-9]{0,14})")
_PAGE_MAX: Final = 200
"""Also without a limit: whoever asks what is open wants to see all of it."""
_REVIEWED_MAX: Final = 5_000
_MARKDOWN: Final[Headers] = [
    (b"content-type", b"text/markdown; charset=utf-8"),
    (b"cache-control", b"no-store"),
]


class AlertmanagerWebhook:
    """POST of Alertmanager's notifications."""

    def __init__(self, desk: Desk, *, max_body_bytes: int, body_timeout_s: float) -> None:
        self._desk = desk
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._decode = msgspec.json.Decoder(Webhook).decode

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await decline(scope, receive, send)
            return
        try:
            if scope["method"] != "POST":
                raise Refusal(
                    "method_not_allowed", "This path takes POST.", headers=[(b"allow", b"POST")]
                )
            webhook = await self._read(scope, receive)
            incident = await asked(
                self._desk.alert(
                    webhook.group_key,
                    alerts_of(webhook),
                    group_fires=webhook.status == "firing",
                )
            )
        except Refusal as refusal:
            await answer(scope, send, refusal)
        except ClientDisconnected:
            exchange = exchange_of(scope)
            if exchange is not None:
                exchange.disconnected = True
        else:
            shown = {"incident": incident.id if incident is not None else None}
            await answer_json(scope, send, 200, shown)

    async def _read(self, scope: Scope, receive: Receive) -> Webhook:
        body = await read_body(
            scope, receive, limit_bytes=self._max_body_bytes, timeout_s=self._body_timeout_s
        )
        try:
            return self._decode(body)
        except msgspec.ValidationError as error:
            raise Refusal("invalid_request", f"{error}.") from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Refusal("invalid_json", f"The body is not JSON: {error}.") from None


class IncidentAPI:
    """What is below `/v0/incidents` and `/v0/deployments`, for responders."""

    def __init__(self, desk: Desk, deployments: DeploymentsAPI, *, publishes: bool) -> None:
        self._desk = desk
        self._deployments = deployments
        self._publishes = publishes
        """Whether there is a status page."""
        self._list = JSONEndpoint(self._listed)
        self._review = JSONEndpoint(self._reviewed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await decline(scope, receive, send)
            return
        path = route_path(scope)
        if path == INCIDENTS:
            reads = scope["method"] in ("GET", "HEAD")
            app = self._list if reads else JSONAction("incident", ReportOrder, self._report(scope))
            await app(scope, receive, send)
        elif path == f"{INCIDENTS}/review":
            await self._review(scope, receive, send)
        elif path.startswith(f"{INCIDENTS}/"):
            name, _, what = path.removeprefix(f"{INCIDENTS}/").partition("/")
            await self._one(name, what, scope, receive, send)
        elif path.startswith(DEPLOYMENTS):
            await self._deployments(scope, receive, send)
        else:
            await answer(scope, send, Refusal("unknown_path", f"There is nothing at {path}."))

    async def _one(self, name: str, what: str, scope: Scope, receive: Receive, send: Send) -> None:
        found = _ID.fullmatch(name)
        if found is None:
            await answer(scope, send, unknown(name))
            return
        number = int(found[1])
        if what == "":
            await JSONEndpoint(lambda query: self._shown(number, query))(scope, receive, send)
        elif what == "postmortem" and scope["method"] == "GET":
            await self._postmortem(number, scope, send)
        elif what in ORDERS:
            act = self._order(number, what, by(scope))
            await JSONAction("incident", ORDERS[what].form, act)(scope, receive, send)
        else:
            advice = f"An incident has postmortem to GET, and takes POST of {', '.join(ORDERS)}."
            await answer(scope, send, Refusal("unknown_path", advice))

    async def _listed(self, query: Query) -> tuple[int, Any]:
        check_known(query, ("open", "severity", "limit", "cursor"))
        is_open = {"true": True, "false": False, None: None}.get(query.get("open"), "")
        if is_open == "":
            raise Refusal("invalid_request", "`open` must be true or false.")
        severity = _severity(query.get("severity"))
        limit = whole_number(query, "limit", _PAGE_MAX, _PAGE_MAX)
        before = _cursor(query.get("cursor"))
        page = await asked(
            self._desk.transact(
                lambda tx: tx.page(
                    is_open=None if is_open is None else bool(is_open),
                    severity=severity,
                    before=before,
                    limit=limit,
                )
            )
        )
        data = [summary(incident) for incident in page.incidents]
        cursor = page.incidents[-1].id if page.more else None
        return 200, {"data": data, "total": len(data), "nextCursor": cursor}

    async def _reviewed(self, query: Query) -> tuple[int, Any]:
        check_known(query, ("since",))
        text = query.get("since", "-7d")

        def read(tx: Transaction) -> tuple[float, float, Page]:
            since = moment(text, tx.now)
            return since, tx.now, tx.page(since=since, limit=_REVIEWED_MAX)

        try:
            since, now, page = await asked(self._desk.transact(read))
        except ValueError as error:
            raise Refusal("invalid_request", f"`since` {error}.") from None
        if page.more:
            advice = f"There are more than {_REVIEWED_MAX} incidents: ask for less with `since`."
            raise Refusal("invalid_request", advice)
        shown = as_json(review(page.incidents))
        return 200, {"since": rfc3339(since), "until": rfc3339(now), **shown}

    async def _shown(self, number: int, query: Query) -> tuple[int, Any]:
        check_known(query, ())
        return 200, in_full(await asked(self._desk.incident(number)))

    async def _postmortem(self, number: int, scope: Scope, send: Send) -> None:
        try:
            incident = await asked(self._desk.incident(number))
        except Refusal as refusal:
            await answer(scope, send, refusal)
            return
        await respond(send, 200, _MARKDOWN, postmortem(incident).encode())

    def _report(self, scope: Scope) -> Callable[[ReportOrder], Awaitable[tuple[int, Any]]]:
        who = by(scope)

        async def act(order: ReportOrder) -> tuple[int, Any]:
            incident = await asked(
                self._desk.report(
                    lambda now: reported(order.title, order.severity, order.text, now, who)
                )
            )
            return 201, in_full(incident)

        return act

    def _order(
        self, number: int, what: str, who: str
    ) -> Callable[[Any], Awaitable[tuple[int, Any]]]:
        async def act(order: Any) -> tuple[int, Any]:
            if what == "publish" and not self._publishes:
                advice = "There is no status page to publish to: set `statuspage`."
                raise Refusal("wrong_state", advice)
            change = ORDERS[what].change(order, who)
            return 200, in_full(await asked(self._desk.change(number, change)))

        return act


def _severity(text: str | None) -> Severity | None:
    for known in get_args(Severity):
        if text == known:
            found: Severity = known
            return found
    if text is None:
        return None
    raise Refusal("invalid_request", f"`severity` must be one of {', '.join(get_args(Severity))}.")


def _cursor(text: str | None) -> int | None:
    if text is None:
        return None
    found = _ID.fullmatch(text)
    if found is None:
        raise Refusal("invalid_request", "`cursor` must be the `nextCursor` of a page before.")
    return int(found[1])
