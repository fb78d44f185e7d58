"""The one record of a request: every log line, metric, span and usage row is read from it.

It lives in `scope["state"]["radgateway"]`. Layers copy the scope before they change it and share
the record, so what an inner layer finds flows outward. Each field names its only writer; nothing
here is decided twice, so what is reported cannot disagree.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from radgateway.asgi import Clock, Headers, Message, Scope, Send

if TYPE_CHECKING:
    from radgateway.dialects.base import Ask, Dialect
    from radgateway.usage.prices import Price

KEY = "radgateway"
ATTEMPT_KEY = "radgateway.attempt"

UsageSource = Literal["reported", "estimated", "absent"]
Priority = Literal["high", "normal", "low"]
Outcome = Literal[
    "success", "client_error", "refused", "upstream_error", "interrupted", "client_disconnected"
]

CLIENT_CLOSED = 499
"""What a request counts as whose client went away (nginx's convention; never sent)."""

HEDGE_LOST = "hedge_lost"
"""The `failure` of an attempt that was cancelled because another one of its request was first.
It says nothing of its provider, and what it used nobody will say."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose key a request carries. `name` is safe to log and to use as a label; the key is not."""

    name: str
    admin: bool = False
    priority: Priority = "normal"
    """Who goes first where not all can be served, and who is turned away last."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a request asks for: a row of the table in `surface.py`."""

    route: str
    """The path's template, usable as a metric label."""
    api_type: str
    """chat, responses, messages, embeddings, images, transcriptions, speech or gemini."""
    dialect: Dialect
    action: str = ""
    """Gemini's verb after the colon (`generateContent`), else empty."""


@dataclass(slots=True)
class Usage:
    """What one attempt used. `None` is unknown, which is not 0."""

    input_tokens: int | None = None
    """Including the cached ones, whatever the provider's own convention is."""
    output_tokens: int | None = None
    """Including reasoning."""
    cached_tokens: int | None = None
    """Of the input, read from the provider's cache."""
    reasoning_tokens: int | None = None
    """Of the output."""
    cache_write_tokens: int | None = None
    """Of the input, written to the provider's cache."""
    long_cache_write_tokens: int | None = None
    """Of those written, what is kept for an hour, which Anthropic charges more for."""
    input_audio_tokens: int | None = None
    input_image_tokens: int | None = None
    output_audio_tokens: int | None = None
    output_image_tokens: int | None = None
    audio_s: float | None = None
    """Seconds of sound, where that is what the provider charges for."""
    source: UsageSource = "reported"
    """estimated where any of it is: the provider was cut off before it had said."""

    @property
    def total_tokens(self) -> int | None:
        """Input and output together, or None while either is unknown."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens


class Attempt:
    """One call to one candidate. Created by the router, which writes all but the marked fields."""

    __slots__ = (
        "connect_s",
        "cost_usd",
        "ended",
        "failure",
        "first_byte",
        "hedge",
        "longest_gap_s",
        "model",
        "price",
        "provider",
        "response_headers",
        "retry_after_s",
        "sent",
        "span_id",
        "started",
        "status",
        "usage",
        "waited_s",
    )

    def __init__(self, provider: str, model: str, started: float) -> None:
        self.provider = provider
        self.model = model
        self.started = started
        self.span_id = ""
        """16 hex digits that name this attempt to the provider; empty without a trace."""
        self.status: int | None = None
        self.response_headers: Iterable[tuple[bytes, bytes]] = ()
        self.first_byte: float | None = None
        self.ended: float | None = None
        self.failure: str | None = None
        """Why it failed, from a closed set of reasons; None while it has not."""
        self.usage: Usage | None = None
        """What it used, once it has ended; None where that was nothing, as it was never sent or
        its provider declined."""
        self.price: Price | None = None
        self.cost_usd: Decimal | None = None
        self.sent = False
        """Whether any of it may have reached the provider: else trying again is free, and nothing
        was used. By the provider; for one that knows nothing of attempts, once it has taken the
        request's body, or answered."""
        self.connect_s: float | None = None
        """Seconds to a usable connection. By the provider."""
        self.waited_s = 0.0
        """Seconds spent waiting for the upstream's bytes. By the provider."""
        self.longest_gap_s = 0.0
        """The longest wait for the next bytes of a body that had begun. By the provider."""
        self.retry_after_s: float | None = None
        """Seconds the provider asked to be left alone for, where its answer said so."""
        self.hedge = False
        """Made while another attempt was under way, for the case that it is late."""

    def latency_s(self, now: float) -> float:
        """Seconds from the start to the end, or to now while it runs."""
        return (self.ended if self.ended is not None else now) - self.started


class Exchange:
    """The record of one request, from its first byte in to its last byte out."""

    __slots__ = (
        "ask",
        "attempts",
        "backed_off_s",
        "clock",
        "deadline",
        "delivered",
        "disconnected",
        "ended",
        "error_code",
        "final",
        "first_byte",
        "interrupted",
        "limited",
        "method",
        "model",
        "operation",
        "own_headers",
        "path",
        "peer",
        "principal",
        "queued_s",
        "queued_until",
        "request_id",
        "response_headers",
        "sampled",
        "span_id",
        "spans",
        "started",
        "started_at",
        "status",
        "stream",
        "trace_id",
        "tracestate",
    )

    def __init__(self, request_id: str, method: str = "", clock: Clock = time.monotonic) -> None:
        self.request_id = request_id  # RequestContextMiddleware, which lets no secret in
        self.method = method  # RequestContextMiddleware
        self.clock = clock
        self.started = clock()  # monotonic seconds
        self.started_at = time.time()  # Unix seconds
        self.operation: Operation | None = None  # RequestContextMiddleware
        self.path = ""  # RequestContextMiddleware: below the mount point, as the caller sent it
        # The address of whoever connected to us. RequestContextMiddleware.
        self.peer: str | None = None
        # Until when (the clock's seconds) the client waits for the answer to begin, where its
        # headers say so. RequestContextMiddleware; StreamKeepalive takes it back.
        self.deadline: float | None = None
        self.trace_id = ""  # TracingMiddleware: 32 hex digits
        self.span_id = ""  # TracingMiddleware: 16 hex digits
        self.tracestate = ""  # TracingMiddleware: what other vendors keep of this trace
        self.sampled = False  # TracingMiddleware
        # Finished stages as (name, start, end) in monotonic seconds, appended by the layers that
        # have a span of their own; None where the request is not sampled. TracingMiddleware.
        self.spans: list[tuple[str, float, float]] | None = None
        self.principal: Principal | None = None  # ApiKeyAuth
        # The kind of limit that refused it, or would have with `shadow_` before. RateLimiter.
        self.limited: str | None = None
        self.queued_s = 0.0  # AdmissionQueue
        self.queued_until: float | None = None  # the same, in monotonic seconds
        self.ask: Ask | None = None  # intake.read_ask, for whoever needs it first
        self.model: str | None = None  # the same: as the caller named it
        self.stream = False  # the same
        self.attempts: list[Attempt] = []  # ProviderRouter
        # The attempt whose response the caller got, or gets if nothing better comes: the latest
        # that is no hedge, until one is committed. ProviderRouter.
        self.final: Attempt | None = None
        self.backed_off_s = 0.0  # ProviderRouter: waited before trying the same candidate again
        # What every response to this request carries, over whatever a provider says by the same
        # names (lower case). Appended by the layers that have something to tell the caller.
        self.own_headers: Headers = []
        self.disconnected = False  # whoever consumes `receive`: the client left before the end
        self.delivered = False  # ProviderRouter: the caller has all it needs, if not the last byte
        self.interrupted: str | None = None  # why a begun response was not completed; `end_broken`
        self.error_code: str | None = None  # errors.answer, or the router for an upstream error
        self.status: int | None = None  # the send wrapper of `open_exchange`
        self.response_headers: Iterable[tuple[bytes, bytes]] = ()  # the same
        self.first_byte: float | None = None  # the same
        self.ended: float | None = None  # the same: the last byte was handed to the server

    def begin_attempt(
        self,
        provider: str,
        model: str,
        price: Price | None,
        *,
        hedge: bool = False,
    ) -> Attempt:
        """Add the record of an attempt that starts now, with a span id where there is a trace."""
        attempt = Attempt(provider, model, self.clock())
        attempt.price = price
        if hedge:
            attempt.hedge = True
        else:
            self.final = attempt
        if self.trace_id:
            attempt.span_id = f"{random.getrandbits(64) or 1:016x}"
        self.attempts.append(attempt)
        return attempt

    @property
    def route(self) -> str:
        """The metric label for the path: a known template or `other`."""
        return self.operation.route if self.operation is not None else "other"

    @property
    def reported_status(self) -> int:
        """The status to count: 499 for a client that went away, 500 for no answer at all."""
        if self.disconnected:
            return CLIENT_CLOSED
        if self.status is not None:
            return self.status
        # A request that the drain has cancelled is read before its answer goes out.
        return 503 if self.error_code == "draining" else 500

    @property
    def outcome(self) -> Outcome:
        """How it ended, in one word."""
        return self.outcome_if(ended=self.ended is not None)

    def outcome_if(self, *, ended: bool) -> Outcome:
        """How it ends, supposing that the last byte goes out, or that it does not."""
        if self.disconnected:
            return "client_disconnected"
        if self.interrupted is not None or (self.status is not None and not ended):
            return "interrupted"  # cut by whoever cancelled it, where it says no reason
        status = self.reported_status
        if status < 400:
            return "success"
        if status in (429, 503):
            return "refused" if self.error_code is not None else "upstream_error"
        return "client_error" if status < 500 else "upstream_error"


current_exchange: ContextVar[Exchange | None] = ContextVar("radgateway.exchange", default=None)
"""Mirrors the record for log lines alone; nothing decides anything by reading it."""


def exchange_of(scope: Scope) -> Exchange | None:
    """The request's record, or None outside of any gateway layer."""
    state = scope.get("state")
    return state.get(KEY) if state is not None else None


def attempt_of(scope: Scope) -> Attempt | None:
    """The attempt an app below the router is serving, or None elsewhere."""
    state = scope.get("state")
    return state.get(ATTEMPT_KEY) if state is not None else None


def open_exchange(
    scope: Scope, send: Send, request_id: str, clock: Clock = time.monotonic
) -> tuple[Scope, Send, Exchange]:
    """Begin a record: the scope copied with the record in it, and a send that keeps its times.

    The send also puts the record's `own_headers` on the response.
    """
    exchange = Exchange(request_id, scope.get("method", ""), clock)
    state = scope.get("state")
    state = {KEY: exchange} if state is None else {**state, KEY: exchange}

    if request_id:
        exchange.own_headers.append((b"x-request-id", request_id.encode("latin-1")))

    async def send_recorded(message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            await send(message)
            if exchange.first_byte is None:
                exchange.first_byte = clock()
            if not message.get("more_body", False):
                exchange.ended = clock()
            return
        if kind == "http.response.start":
            exchange.status = message["status"]
            exchange.response_headers = message.get("headers", ())
            own = exchange.own_headers
            if own:
                names = {name for name, _ in own}
                theirs = [h for h in message.get("headers", ()) if h[0].lower() not in names]
                message = {**message, "headers": theirs + own}
        await send(message)

    return {**scope, "state": state}, send_recorded, exchange


def joined(scope: Scope, send: Send) -> tuple[Scope, Send, Exchange]:
    """The record of the request where there is one, else a new one: so each layer works alone."""
    exchange = exchange_of(scope)
    if exchange is not None:
        return scope, send, exchange
    return open_exchange(scope, send, request_id="")
