"""MetricsMiddleware: counts and times every request, read from its record when it ends.

Stands inside TracingMiddleware and outside all that may refuse, so that refusals are counted. It
wraps nothing while a request runs: status, first byte, attempts and their waiting are in the
`Exchange`. Answers nothing.
"""

from __future__ import annotations

from collections.abc import Collection

from radgateway.alone import joined_fully, mark_break
from radgateway.asgi import ASGIApp, Receive, Scope, Send, route_path
from radgateway.errors import CATALOGUE
from radgateway.exchange import CLIENT_CLOSED, HEDGE_LOST, Attempt, Exchange, Usage
from radgateway.telemetry.declared import AUTH_FAILURES, TOKEN_TYPES
from radgateway.telemetry.instruments import OTHER, Instruments, status_label


class MetricsMiddleware:
    """Feeds `instruments` from each request.

    `routes` are paths to count by themselves beside the data plane's: those of the app this
    stands in front of (exact paths, below the mount point; a slash at the end does not count).
    Any other path counts as `other`.
    """

    def __init__(
        self, app: ASGIApp, instruments: Instruments, *, routes: Collection[str] = ()
    ) -> None:
        self.app = app
        self._instruments = instruments
        self._active = instruments.active_connections
        self._routes = frozenset(route.removesuffix("/") or "/" for route in routes)
        instruments.add_routes(self._routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope, receive, send, exchange = joined_fully(scope, receive, send)
        self._active.inc()
        try:
            await self.app(scope, receive, send)
        except Exception:
            mark_break(exchange)
            raise
        finally:
            self._active.dec()
            route = exchange.route
            if route == OTHER and self._routes:
                path = route_path(scope)
                route = path if path in self._routes else OTHER
            record(self._instruments, exchange, route)


def record(instruments: Instruments, exchange: Exchange, route: str) -> None:
    """Count one finished request."""
    ended = exchange.ended
    now = ended if ended is not None else exchange.clock()
    total_s = now - exchange.started
    status = exchange.reported_status
    # A recorded trace can be looked up, any other can't: only those are exemplars, and a request
    # that is not sampled makes none.
    exemplar = {"trace_id": exchange.trace_id} if exchange.sampled else None
    instruments.requests(route, exchange.method, status_label(status)).inc()
    instruments.request_duration(route).observe(total_s, exemplar)
    waited_s = 0.0
    before: Attempt | None = None
    for attempt in exchange.attempts:
        waited_s += attempt.waited_s
        _record_attempt(instruments, exchange, attempt, now, exemplar)
        if attempt.hedge:
            instruments.hedges(hedge_outcome(exchange, attempt)).inc()
        elif before is not None:
            _record_failover(instruments, before, attempt)
        before = attempt
    # A pause is waiting for a provider too. Clocks of concurrent attempts may add up to more than
    # the whole.
    own_s = total_s - waited_s - exchange.backed_off_s
    instruments.overhead(route).observe(max(0.0, own_s))
    if exchange.stream and exchange.first_byte is not None and status < 400:
        instruments.time_to_first_token(route).observe(
            exchange.first_byte - exchange.started, exemplar
        )
    _record_end(instruments, exchange, route, status)


def _record_end(instruments: Instruments, exchange: Exchange, route: str, status: int) -> None:
    outcome = exchange.outcome
    # One that broke off under a 5xx is an error by its status already: none counts as two.
    if outcome == "interrupted" and exchange.status is not None and status < 500:
        instruments.responses_interrupted(route).inc()
    if instruments.labels.api_key_names is not None and exchange.principal is not None:
        instruments.key_requests(exchange.principal.name, outcome).inc()
    if exchange.limited is not None:
        instruments.rate_limited(exchange.limited).inc()
    if exchange.error_code in AUTH_FAILURES:
        instruments.auth_failures(exchange.error_code).inc()


def attempt_status(attempt: Attempt) -> int:
    """The status an attempt counts as.

    A failure without a status, or under a 200 (an error event, a stream broken off), counts as
    the status its code is answered with; one that was abandoned before any answer, or lost to
    another, as 499.
    """
    status, failure = attempt.status, attempt.failure
    if failure == HEDGE_LOST:
        return CLIENT_CLOSED
    if failure is not None and (status is None or status < 400):
        kind = CATALOGUE.get(failure)
        return kind.status if kind is not None else 502
    return status if status is not None else CLIENT_CLOSED


def _record_attempt(
    instruments: Instruments,
    exchange: Exchange,
    attempt: Attempt,
    now: float,
    exemplar: dict[str, str] | None,
) -> None:
    provider, model = attempt.provider, attempt.model
    status = attempt_status(attempt)
    instruments.provider_requests(provider, model, status_label(status)).inc()
    if status != CLIENT_CLOSED:  # how long an abandoned one would have taken nobody knows
        instruments.provider_latency(provider).observe(attempt.latency_s(now), exemplar)
    usage = attempt.usage
    if usage is not None:
        _record_tokens(instruments, attempt, usage)
        tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
        if tokens:
            name = ""
            if instruments.labels.api_key_names is not None and exchange.principal is not None:
                name = exchange.principal.name
            instruments.tokens(model, name).inc(tokens)
    if attempt.cost_usd:
        instruments.cost_usd(provider, model).inc(float(attempt.cost_usd))


def _record_tokens(instruments: Instruments, attempt: Attempt, usage: Usage) -> None:
    counts = (
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
    )
    for kind, count in zip(TOKEN_TYPES, counts, strict=True):
        if count:
            instruments.provider_tokens(attempt.provider, attempt.model, kind).inc(count)


def hedge_outcome(exchange: Exchange, attempt: Attempt) -> str:
    """What became of a hedge: won, lost, failed, or abandoned with the whole request."""
    if attempt.failure is not None:
        return "lost" if attempt.failure == HEDGE_LOST else "failed"
    return "won" if exchange.final is attempt else "abandoned"


def _record_failover(instruments: Instruments, source: Attempt, target: Attempt) -> None:
    reason = source.failure or OTHER
    if (source.provider, source.model) == (target.provider, target.model):
        instruments.retries(target.provider, reason).inc()
    else:
        instruments.failovers(source.provider, target.provider, reason).inc()
