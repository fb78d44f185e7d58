"""RateLimiter: what a caller may still spend.

Requests, tokens, money and requests in progress, for a caller, a model and all traffic together.
All limits of a request are looked at before any is charged, so a refused request costs nothing.
Tokens and money are reserved before the request and settled with what it really used.

Stands inside authentication, since the limits are the caller's. Answers 429 `rate_limited`, or
503 `overloaded` where the counts can't be read and the policy is "closed", and what the body is
refused for where a limit needs it read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from limits.aio.storage import Storage

from radgateway.asgi import ASGIApp, Clock, Message, Receive, Scope, Send, request_header
from radgateway.body import ClientDisconnected
from radgateway.dialects.reading import output_limit
from radgateway.errors import Refusal, answer
from radgateway.exchange import Exchange, joined
from radgateway.inbound.limit_accounts import LimitAccounts
from radgateway.inbound.limit_estimate import (
    Estimate,
    Estimator,
    learn_from,
    spent_by,
)
from radgateway.inbound.limit_headers import refusal_of, told, told_of_one
from radgateway.inbound.limit_ledger import NOTHING, Hold, Standing, Verdict
from radgateway.inbound.limit_period import Period
from radgateway.inbound.limit_plan import Limit, LimitBook, Plan, Plans
from radgateway.inbound.limit_set import LimitSet
from radgateway.inbound.limit_shared import RETRY_STORAGE_S, OnStorageChange
from radgateway.intake import read_ask
from radgateway.usage.estimate import writes_nothing

OnStorageFailure = Literal["open", "closed", "local"]

_MAX_BODY_BYTES = 32 * 1024 * 1024


def client_address(scope: Scope) -> str:
    """The address a request comes from, for callers who have no name. Headers are not asked."""
    client = scope.get("client")
    return f"client:{client[0]}" if client else "client:unknown"


class RateLimiter:
    """Refuses requests beyond their limits, and tells every caller where it stands.

    `limits` are lines in the notation of `limits` or a `LimitSet`, which hold for every caller, or
    a `LimitBook` that finds those of a caller, a model and all traffic. The caller is the
    principal where one is known, else what `key` finds in the scope; None from `key` lets the
    request through uncounted.

    `storage` is `memory://`, a URI that the `limits` library knows, one of its async storages, or
    the `LimitAccounts` of another limiter, from which this one goes on. A shared one that does not
    answer in `storage_timeout_s` seconds lets all requests through, or with
    `on_storage_failure="closed"` none, or with "local" counts here, each limit divided by the
    number of `replicas`. `on_storage_change(available, reason)` is called when that begins and
    when it ends. What a request took there expires after `lease_s` seconds unless it is renewed,
    which it is for as long as it runs. `on_lost` is told of settlements that could not be written.
    Accounts that are given have these settings already.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: str | Sequence[str] | LimitSet | LimitBook = (),
        *,
        key: Callable[[Scope], str | None] = client_address,
        storage: str | Storage | LimitAccounts = "memory://",
        storage_timeout_s: float = 0.04,
        on_storage_failure: OnStorageFailure = "open",
        on_storage_change: OnStorageChange | None = None,
        on_lost: Callable[[int], object] | None = None,
        replicas: int = 1,
        lease_s: float = 30.0,
        max_body_bytes: int = _MAX_BODY_BYTES,
        body_timeout_s: float = 60.0,
        clock: Clock = time.monotonic,
    ) -> None:
        if on_storage_failure not in ("open", "closed", "local"):
            raise ValueError(
                "on_storage_failure must be 'open', 'closed' or 'local', "
                f"not {on_storage_failure!r}"
            )
        if replicas < 1:
            raise ValueError(f"replicas must be at least 1, not {replicas}")
        self.app = app
        book = _book_of(limits)
        self._key = key
        self._on_failure = on_storage_failure
        self._replicas = replicas
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._given = isinstance(storage, LimitAccounts)
        self.accounts = (
            storage
            if isinstance(storage, LimitAccounts)
            else LimitAccounts(
                storage,
                storage_timeout_s=storage_timeout_s,
                on_storage_change=on_storage_change,
                on_lost=on_lost,
                lease_s=lease_s,
                clock=clock,
            )
        )
        self._shared, self._local = self.accounts.shared, self.accounts.local
        self._estimator = Estimator(book.prices_of, self.accounts.lengths)
        self._plans = Plans(book, only_requests=self.accounts.only_requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope, send, exchange = joined(scope, send)
        principal = exchange.principal
        name = principal.name if principal is not None else self._key(scope)
        if name is None:
            await self.app(scope, receive, send)
            return
        plan = self._plans.of(name)
        if not plan.limits and not plan.reads:
            await self.app(scope, receive, send)
            return
        only = plan.only
        if only is None or self._shared is not None:
            request = _Request(self.app, scope, receive, send, exchange=exchange, plan=plan)
            await self._limited(request, name)
            return
        spans = exchange.spans
        began = exchange.clock() if spans is not None else 0.0
        standing = self._local.take_one(only)
        if spans is not None:
            spans.append(("rate_limit_check", began, exchange.clock()))
        if not standing.allowed:
            await _refuse(scope, send, exchange, [standing], standing)
            return
        # A provider's headers of these names are about our account there, not the caller's.
        exchange.own_headers += told_of_one(standing, _dialect_of(exchange))
        await self.app(scope, receive, send)

    async def standings(self, name: str) -> Sequence[Standing] | None:
        """Where a caller stands against each of its limits, with nothing charged.

        None where a shared storage does not say.
        """
        limits = self._plans.of(name).limits
        if self._shared is not None:
            return await self._shared.look(limits)
        return self._local.look(limits)

    def budgets(self, name: str, period: Period) -> Sequence[Limit]:
        """The budgets of a period that a caller's requests are counted against."""
        return [limit for limit in self._plans.of(name).limits if limit.period == period]

    async def aclose(self) -> None:
        """Settle what has ended, and close what was made here. Accounts it was given stay."""
        if not self._given:
            await self.accounts.aclose()

    async def _limited(self, request: _Request, name: str) -> None:
        """Serve a request of any limits at all."""
        exchange = request.exchange
        if request.plan.reads:
            try:
                await self._read(request, name)
            except ClientDisconnected:
                exchange.disconnected = True
                return
        if not request.plan.limits:
            await request.serve()
            return
        verdict = await self._take(request)
        if verdict is None:
            if self._on_failure == "open":
                await request.serve()
            else:
                await answer(request.scope, request.send, _unchecked())
            return
        refused, shadowed, hold = verdict.refused, verdict.shadowed, verdict.hold
        if refused is not None:
            await _refuse(request.scope, request.send, exchange, verdict.standings, refused)
            return
        if shadowed is not None:
            exchange.limited = f"shadow_{shadowed.limit.name}"
        exchange.own_headers += told(
            verdict.standings, _dialect_of(exchange), policy=request.plan.policy
        )
        if hold is None:
            await request.serve()
        elif request.estimate is _UNREAD:
            try:
                await request.serve()
            finally:
                hold.settle(NOTHING)
        else:
            await self._metered(request, hold)

    async def _take(self, request: _Request) -> Verdict | None:
        limits, costs = request.plan.limits, request.estimate.costs
        exchange, spans = request.exchange, request.exchange.spans
        began = exchange.clock() if spans is not None else 0.0
        if self._shared is None:
            verdict: Verdict | None = self._local.take(limits, costs)
        else:
            verdict = await self._shared.take(limits, costs)
            if verdict is None and self._on_failure == "local":
                request.plan = request.plan.share(self._replicas)
                verdict = self._local.take(request.plan.limits, costs)
        if spans is not None:
            spans.append(("rate_limit_check", began, exchange.clock()))
        return verdict

    async def _metered(self, request: _Request, hold: Hold) -> None:
        """Serve a request whose reservation is settled however it ends."""
        exchange, estimate, send = request.exchange, request.estimate, request.send
        events = 0

        async def send_counted(message: Message) -> None:
            nonlocal events
            if message["type"] == "http.response.body":
                events += message.get("body", b"").count(b"\n\n")
            await send(message)

        if exchange.stream or exchange.ask is None:
            request.send = send_counted
        try:
            await request.serve()
        finally:
            hold.settle(spent_by(exchange, estimate, events))
            learn_from(exchange, estimate, self._estimator)

    async def _read(self, request: _Request, name: str) -> None:
        """Find the model and the size of a request, from its body where it is one of ours."""
        scope, exchange = request.scope, request.exchange
        if exchange.operation is None or scope["method"] != "POST":
            declared = request_header(scope, b"content-length") or b""
            size = int(declared) if declared.isdigit() and len(declared) <= 18 else 0
            request.estimate = self._estimator.estimate("", size, None)
            return
        try:
            ask = await read_ask(
                scope,
                request.receive,
                exchange,
                limit_bytes=self._max_body_bytes,
                timeout_s=self._body_timeout_s,
            )
        except Refusal as refusal:
            # It counts as a request all the same, and is answered where it would be served.
            request.app = partial(_answer, refusal=refusal)
            return
        most = 0 if writes_nothing(exchange) else output_limit(ask)
        request.estimate = self._estimator.estimate(ask.model, len(ask.body), most)
        request.plan = self._plans.of_model(name, ask.model)
        request.receive = _replaying(ask.body, request.receive)


class _Request:
    """A request on its way through the limiter, and what it was found to be."""

    __slots__ = ("app", "estimate", "exchange", "plan", "receive", "scope", "send")

    def __init__(
        self,
        app: ASGIApp,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        exchange: Exchange,
        plan: Plan,
    ) -> None:
        self.app = app
        self.scope = scope
        self.receive = receive
        self.send = send
        self.exchange = exchange
        self.plan = plan
        self.estimate = _UNREAD

    async def serve(self) -> None:
        """Pass it on."""
        await self.app(self.scope, self.receive, self.send)


async def _refuse(
    scope: Scope,
    send: Send,
    exchange: Exchange,
    standings: Sequence[Standing],
    refused: Standing,
) -> None:
    exchange.limited = refused.limit.name
    await answer(scope, send, refusal_of(standings, refused, _dialect_of(exchange)))


_UNREAD = Estimate("", 0, 0, 0, ())
"""The estimate of a request that no limit needs one of."""


def _book_of(limits: str | Sequence[str] | LimitSet | LimitBook) -> LimitBook:
    if isinstance(limits, LimitBook):
        return limits
    own = limits if isinstance(limits, LimitSet) else LimitSet.of_requests(limits)
    return LimitBook(of_key=lambda name: own)


def _dialect_of(exchange: Exchange) -> str:
    return exchange.operation.dialect.name if exchange.operation is not None else ""


def _unchecked() -> Refusal:
    return Refusal(
        "overloaded",
        "Rate limits can't be checked at this moment.",
        retry_after_s=RETRY_STORAGE_S,
    )


async def _answer(scope: Scope, receive: Receive, send: Send, *, refusal: Refusal) -> None:
    await answer(scope, send, refusal)


def _replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that has been read, and then what follows it."""
    read = False

    async def replay() -> Message:
        nonlocal read
        if read:
            message: Message = await receive()
            return message
        read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
