"""Every request is counted once, by what its record says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from drive import drive, http_scope
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from radgateway.exchange import (
    HEDGE_LOST,
    Exchange,
    Principal,
    Usage,
    exchange_of,
    open_exchange,
)
from radgateway.surface import operation_of
from radgateway.telemetry.instruments import Instruments, LabelSets
from radgateway.telemetry.metrics import MetricsMiddleware

ROUTE = "/v1/chat/completions"
LABELS = LabelSets(
    providers=frozenset({"a", "b"}),
    models=frozenset({"m"}),
    api_key_names=frozenset({"alice"}),
)


class Clock:
    """Seconds a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def answer(send: Any, status: int = 200) -> None:
    """A whole response."""
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def measured(
    fill: Callable[[Exchange, Clock], None], *, status: int = 200, labels: LabelSets = LABELS
) -> Instruments:
    """The metrics after one request whose record an inner layer filled."""
    instruments, clock = Instruments(labels=labels), Clock()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        exchange = exchange_of(scope)
        assert exchange is not None
        fill(exchange, clock)
        await answer(send, status)

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        scope, send, exchange = open_exchange(scope, send, "r1", clock)
        exchange.operation = operation_of(scope["path"])
        await MetricsMiddleware(inner, instruments)(scope, receive, send)

    asyncio.run(drive(outer, http_scope(ROUTE)))
    return instruments


def value(instruments: Instruments, name: str, **labels: str) -> float | None:
    """A sample's value, by the name without the prefix."""
    return instruments.registry.get_sample_value(f"rad_gateway_{name}", labels)


def attempt(exchange: Exchange, provider: str, **fields: Any) -> None:
    """Add an attempt to a record."""
    made = exchange.begin_attempt(provider, "m", None)
    for name, what in fields.items():
        setattr(made, name, what)


def test_a_request_is_counted_and_timed() -> None:
    """Total, overhead (all but the waiting), first token, attempt, tokens and cost."""

    def fill(exchange: Exchange, clock: Clock) -> None:
        exchange.principal, exchange.stream = Principal("alice"), True
        attempt(
            exchange,
            "a",
            status=200,
            waited_s=1.5,
            usage=Usage(12, 18),
            cost_usd=Decimal("0.25"),
            ended=101.0,
        )
        clock.now += 2.0

    made = measured(fill)
    assert value(made, "requests_total", route=ROUTE, method="POST", status="200") == 1
    assert value(made, "request_duration_seconds_sum", route=ROUTE) == 2.0
    assert value(made, "overhead_seconds_sum", route=ROUTE) == 0.5
    assert value(made, "time_to_first_token_seconds_sum", route=ROUTE) == 2.0
    assert value(made, "provider_requests_total", provider="a", model="m", status="200") == 1
    assert value(made, "provider_latency_seconds_sum", provider="a") == 1.0
    assert value(made, "tokens_consumed_total", model="m", api_key_name="alice") == 30
    assert value(made, "cost_usd_total", provider="a", model="m") == 0.25
    assert value(made, "active_connections") == 0


def test_an_answer_that_does_not_stream_has_no_first_token() -> None:
    """Whole answers would make the time to the first token meaningless."""
    made = measured(lambda exchange, clock: None)
    assert not value(made, "time_to_first_token_seconds_count", route=ROUTE)


def test_failovers_are_counted_by_pair_and_reason() -> None:
    """From each attempt to the next; trying the same candidate again is no failover."""

    def fill(exchange: Exchange, clock: Clock) -> None:
        attempt(exchange, "a", failure="connect_timeout")
        attempt(exchange, "a", status=503, failure="http_503")
        attempt(exchange, "b", status=200)

    made = measured(fill)
    pair = {"source_provider": "a", "target_provider": "b"}
    assert value(made, "failover_attempts_total", reason="http_503", **pair) == 1
    own = {"source_provider": "a", "target_provider": "a"}
    assert value(made, "failover_attempts_total", reason="connect_timeout", **own) is None
    assert value(made, "retries_total", provider="a", reason="connect_timeout") == 1
    # a failure without a status counts as what it would be answered with
    assert value(made, "provider_requests_total", provider="a", model="m", status="504") == 1


def test_a_hedge_is_neither_failover_nor_retry_and_its_loser_no_error() -> None:
    """What was cancelled for being late counts as 499, without a latency nobody knows."""

    def fill(exchange: Exchange, clock: Clock) -> None:
        attempt(exchange, "a", failure=HEDGE_LOST)
        won = exchange.begin_attempt("b", "m", None, hedge=True)
        won.status, won.ended, exchange.final = 200, 101.0, won

    made = measured(fill)
    assert value(made, "hedges_total", outcome="won") == 1
    pair = {"source_provider": "a", "target_provider": "b"}
    assert value(made, "failover_attempts_total", reason=HEDGE_LOST, **pair) is None
    assert value(made, "provider_requests_total", provider="a", model="m", status="499") == 1
    assert value(made, "provider_latency_seconds_count", provider="a") == 0
    assert value(made, "provider_requests_total", provider="b", model="m", status="200") == 1


def test_a_pause_between_attempts_is_not_the_gateways_own_time() -> None:
    """It is waited for a provider's sake."""

    def fill(exchange: Exchange, clock: Clock) -> None:
        exchange.backed_off_s = 1.5
        clock.now += 2.0

    assert value(measured(fill), "overhead_seconds_sum", route=ROUTE) == 0.5


def test_a_failure_under_a_200_counts_as_a_failure() -> None:
    """A stream that broke off is the provider's error, whatever its status line said."""
    made = measured(
        lambda exchange, clock: attempt(exchange, "a", status=200, failure="idle_timeout")
    )
    assert value(made, "provider_requests_total", provider="a", model="m", status="504") == 1


def test_an_abandoned_attempt_is_no_error_and_has_no_latency() -> None:
    """A client that left says nothing of the provider."""

    def fill(exchange: Exchange, clock: Clock) -> None:
        attempt(exchange, "a")
        exchange.disconnected = True

    made = measured(fill)
    assert value(made, "requests_total", route=ROUTE, method="POST", status="499") == 1
    assert value(made, "provider_requests_total", provider="a", model="m", status="499") == 1
    assert value(made, "provider_latency_seconds_count", provider="a") == 0


@pytest.mark.parametrize(
    ("code", "name", "labels"),
    [
        ("rate_limited", "rate_limited_total", {"reason": "tokens"}),
        ("invalid_api_key", "auth_failures_total", {"reason": "invalid_api_key"}),
    ],
)
def test_refusals_are_counted(code: str, name: str, labels: dict[str, str]) -> None:
    """By the code the request was answered with, or the kind of limit that refused it."""

    def fill(exchange: Exchange, clock: Clock) -> None:
        exchange.error_code = code
        exchange.limited = "tokens" if code == "rate_limited" else None

    assert value(measured(fill, status=429), name, **labels) == 1


def test_key_names_are_silent_unless_configured() -> None:
    """The strategy: the name only "if privacy allows"."""

    def fill(exchange: Exchange, clock: Clock) -> None:
        exchange.principal = Principal("alice")
        attempt(exchange, "a", status=200, usage=Usage(1, 1))

    made = measured(fill, labels=LabelSets(providers=frozenset({"a"}), models=frozenset({"m"})))
    assert value(made, "tokens_consumed_total", model="m", api_key_name="") == 2
    assert b"rad_gateway_key_requests_total{" not in generate_latest(made.registry)


@pytest.mark.parametrize(("name", "label"), [("alice", "alice"), ("of-a-token", "other")])
def test_requests_are_counted_by_key_and_outcome(name: str, label: str) -> None:
    """Where names may show; one that is not configured, such as a token's subject, is `other`."""

    def fill(exchange: Exchange, clock: Clock) -> None:
        exchange.principal = Principal(name)

    made = measured(fill)
    assert value(made, "key_requests_total", api_key_name=label, outcome="success") == 1
    assert value(made, "key_requests_total", api_key_name="alice", outcome="interrupted") == 0


def test_a_request_without_a_key_is_nobodys() -> None:
    """It is counted as refused for its credentials, and for no name."""

    def fill(exchange: Exchange, clock: Clock) -> None:
        exchange.error_code = "invalid_api_key"

    made = measured(fill, status=401)
    assert value(made, "auth_failures_total", reason="invalid_api_key") == 1
    assert value(made, "key_requests_total", api_key_name="other", outcome="client_error") is None


@pytest.mark.parametrize(
    ("status", "reason", "disconnected", "counted"),
    [
        (200, "idle_timeout", False, 1),
        (200, None, False, 0),
        (200, "idle_timeout", True, 0),
        (502, "idle_timeout", False, 0),
    ],
    ids=["broken off", "whole", "the client left", "an error already"],
)
def test_answers_broken_off_are_counted_once(
    status: int, reason: str | None, disconnected: bool, counted: int
) -> None:
    """Their status said that all was well; one whose status is an error is no second error."""

    def fill(exchange: Exchange, clock: Clock) -> None:
        exchange.interrupted, exchange.disconnected = reason, disconnected

    assert value(measured(fill, status=status), "responses_interrupted_total", route=ROUTE) == (
        counted
    )


def test_tokens_are_counted_by_kind() -> None:
    """What is not known adds nothing, and every kind of a known candidate is there from 0."""

    def fill(exchange: Exchange, clock: Clock) -> None:
        attempt(exchange, "a", status=200, usage=Usage(12, 18, cached_tokens=10))

    labels = LabelSets(
        providers=frozenset({"a"}), models=frozenset({"m"}), candidates=frozenset({("a", "m")})
    )
    made = measured(fill, labels=labels)
    assert {
        kind: value(made, "provider_tokens_total", provider="a", model="m", type=kind)
        for kind in ("input", "output", "cached_input", "reasoning_output")
    } == {"input": 12, "output": 18, "cached_input": 10, "reasoning_output": 0}


@pytest.mark.parametrize("sampled", [True, False])
def test_durations_point_to_a_trace_where_there_is_one(sampled: bool) -> None:
    """A trace that was not recorded leads nowhere, so its id is no exemplar."""

    def fill(exchange: Exchange, clock: Clock) -> None:
        exchange.trace_id, exchange.sampled, exchange.stream = "ab" * 16, sampled, True
        attempt(exchange, "a", status=200)

    made = measured(fill)
    found = {
        (sample.name, sample.exemplar.labels["trace_id"])
        for family in made.registry.collect()
        for sample in family.samples
        if sample.exemplar is not None
    }
    names = ("request_duration_seconds", "time_to_first_token_seconds", "provider_latency_seconds")
    assert found == (
        {(f"rad_gateway_{name}_bucket", "ab" * 16) for name in names} if sampled else set()
    )


def test_the_overhead_is_never_negative() -> None:
    """Attempts that waited at the same time may have waited longer than the request took."""
    made = measured(lambda exchange, clock: attempt(exchange, "a", waited_s=50.0))
    assert value(made, "overhead_seconds_sum", route=ROUTE) == 0


def test_alone_around_starlette_its_routes_are_labels() -> None:
    """In somebody's app: named routes by themselves, also when mounted; the rest is other."""
    instruments = Instruments()
    app = Starlette(routes=[Route("/hi", lambda request: PlainTextResponse("hi"))])
    app.add_middleware(MetricsMiddleware, instruments=instruments, routes=["/hi", "/bye/"])
    for path, root in (("/hi", ""), ("/hi", "/mounted"), ("/bye/", ""), ("/nowhere", "")):
        asyncio.run(drive(app, http_scope(path, method="GET", root_path=root)))
    assert value(instruments, "requests_total", route="/hi", method="GET", status="200") == 2
    assert value(instruments, "overhead_seconds_count", route="/hi") == 2
    assert value(instruments, "requests_total", route="/bye", method="GET", status="404") == 1
    assert value(instruments, "requests_total", route="other", method="GET", status="404") == 1


def test_an_app_that_raises_counts_as_500() -> None:
    """The exception passes through, and nothing stays active."""
    instruments = Instruments()

    async def fails(scope: Any, receive: Any, send: Any) -> None:
        assert value(instruments, "active_connections") == 1
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError):
        asyncio.run(drive(MetricsMiddleware(fails, instruments), http_scope("/x")))
    assert value(instruments, "requests_total", route="other", method="POST", status="500") == 1
    assert value(instruments, "active_connections") == 0


def test_a_cancelled_request_leaves_the_gauge_at_zero() -> None:
    """Cancellation is passed on and released."""
    instruments = Instruments()

    async def run() -> None:
        async def hangs(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.Event().wait()

        task = asyncio.create_task(drive(MetricsMiddleware(hangs, instruments), http_scope("/x")))
        await asyncio.sleep(0.01)
        assert value(instruments, "active_connections") == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert value(instruments, "active_connections") == 0


def test_other_scopes_pass_as_they_are() -> None:
    """Websockets and lifespans reach the app as the same objects, uncounted."""
    seen: list[Any] = []

    async def app(*given: Any) -> None:
        seen.extend(given)

    given: list[Any] = [{"type": "websocket"}, object(), object()]
    asyncio.run(MetricsMiddleware(app, Instruments())(*given))
    assert all(a is b for a, b in zip(seen, given, strict=True))
