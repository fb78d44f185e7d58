"""The promises every layer keeps, whatever else it does. A new layer is one line in `LAYERS`."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import Callable
from typing import Any

import minting
import pytest
from drive import drive, http_scope
from opentelemetry.sdk.trace import TracerProvider
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from virtual_time import pending_timers, run_virtual

from radgateway.asgi import ASGIApp, Layer
from radgateway.composition import describe
from radgateway.exchange import Principal
from radgateway.inbound.admission import AdmissionQueue
from radgateway.inbound.auth import ApiKeyAuth, ApiKeys
from radgateway.inbound.bearer_tokens import TokenRules, TokenVerifier
from radgateway.inbound.drain import Drain, DrainGuard
from radgateway.inbound.keepalive import StreamKeepalive
from radgateway.inbound.limit_set import LimitSet
from radgateway.inbound.load_shed import LoadShed
from radgateway.inbound.rate_limit import RateLimiter
from radgateway.inbound.request_context import RequestContextMiddleware
from radgateway.inbound.signing_keys import SharedSecret
from radgateway.provider.adaptive_limit import AdaptiveLimit
from radgateway.provider.breaker import CircuitBreaker
from radgateway.provider.bulkhead import Bulkhead
from radgateway.provider.deadline import Deadline
from radgateway.provider.faults import FaultInjector, Faults
from radgateway.provider.slots import KeyedSlots, Slots
from radgateway.routing.retry_budget import RetryBudget
from radgateway.telemetry.instruments import Instruments
from radgateway.telemetry.metrics import MetricsMiddleware
from radgateway.telemetry.tracing import TracingMiddleware
from radgateway.upstream.interface import Timeouts
from radgateway.usage.recorder import UsageRecorder

_TIMEOUTS = Timeouts(first_byte_s=60, idle_s=60, total_s=600)


TOKENS = TokenVerifier(
    TokenRules(issuer=minting.ISSUER, audience=minting.AUDIENCE, algorithms=("HS256",)),
    SharedSecret(minting.SECRET),
    clock=minting.Clock(),
)
KEY = minting.token("HS256").decode()
"""A token, and where none is taken a key like any other."""
KEYS = ApiKeys([(Principal("caller"), KEY)])


def keyed_scope(path: str, **options: Any) -> dict[str, Any]:
    """A request that brings its key along, for the layer that asks for one."""
    return http_scope(path, headers=[("x-api-key", KEY)], **options)


def _limits(places: int) -> LimitSet:
    return LimitSet(requests=("100000/minute",), tokens=("1000000/minute",), max_concurrency=places)


LAYERS: list[tuple[str, Layer]] = [
    ("AdmissionQueue", lambda app: AdmissionQueue(app, 1000, 10, 1.0)),
    ("ApiKeyAuth", lambda app: ApiKeyAuth(app, KEYS)),
    ("ApiKeyAuth", lambda app: ApiKeyAuth(app, ApiKeys([]), tokens=TOKENS)),
    ("DrainGuard", lambda app: DrainGuard(app, Drain())),
    ("MetricsMiddleware", lambda app: MetricsMiddleware(app, Instruments())),
    ("RequestContextMiddleware", RequestContextMiddleware),
    ("TracingMiddleware", lambda app: TracingMiddleware(app, tracer_provider=TracerProvider())),
    ("UsageRecorder", lambda app: UsageRecorder(app, put=lambda row: None)),
    ("Bulkhead", lambda app: Bulkhead(app, 1000)),
    ("CircuitBreaker", CircuitBreaker),
    ("Deadline", lambda app: Deadline(app, _TIMEOUTS)),
    ("FaultInjector", lambda app: FaultInjector(app, Faults())),
    ("RateLimiter", lambda app: RateLimiter(app, "100000/minute")),
    ("RateLimiter", lambda app: RateLimiter(app, _limits(1000))),
    ("RetryBudget", RetryBudget),
    ("StreamKeepalive", StreamKeepalive),
    ("EarlyKeepalive", lambda app: StreamKeepalive(app, before_content=True)),
    ("AdaptiveBulkhead", lambda app: Bulkhead(app, AdaptiveLimit(Slots(1000)))),
    ("KeyedBulkhead", lambda app: Bulkhead(app, slots_of=KeyedSlots(1000))),
]
"""Every layer, set so that it lets the requests of this suite pass."""

BOUNDED = ("AdmissionQueue", "Bulkhead", "AdaptiveBulkhead", "KeyedBulkhead")

# Those with a bound, set to 1: a place or timer that one request leaks is missed by the next.
NARROW: list[tuple[str, Layer]] = [
    ("AdmissionQueue", lambda app: AdmissionQueue(app, 1, 0, 1.0)),
    ("Bulkhead", lambda app: Bulkhead(app, 1)),
    ("AdaptiveBulkhead", lambda app: Bulkhead(app, AdaptiveLimit(Slots(1)))),
    ("KeyedBulkhead", lambda app: Bulkhead(app, slots_of=KeyedSlots(1))),
    ("RateLimiter", lambda app: RateLimiter(app, _limits(1))),
    *[(name, layer) for name, layer in LAYERS if name not in BOUNDED],
]


def over(layers: list[tuple[str, Layer]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("layer", [pytest.param(make, id=name) for name, make in layers])


every_layer, every_narrow_layer = over(LAYERS), over(NARROW)

CHUNKS = [b"data: 1\n\n", b"", b"data: 2", b"\n\n", b"data: [DONE]\n\n"]
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream")],
}


def body(chunk: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": chunk, "more_body": more}


async def streaming(scope: Any, receive: Any, send: Any) -> None:
    await send(dict(START))
    for chunk in CHUNKS:
        await send(body(chunk))
    await send(body(b"", more=False))


async def idle() -> Any:
    await asyncio.Event().wait()


async def drop(message: Any) -> None:
    pass


@every_layer
@pytest.mark.parametrize("kind", ["lifespan", "websocket", "something.new"])
def test_other_scopes_pass_as_the_same_objects(layer: Layer, kind: str) -> None:
    """What is not HTTP reaches the app untouched: scope, receive and send themselves."""
    got: list[Any] = []

    async def app(*arguments: Any) -> None:
        got.extend(arguments)

    scope = {"type": kind}
    asyncio.run(_call(layer(app), scope, idle, drop))
    assert got[0] is scope
    assert got[1] is idle
    assert got[2] is drop


async def _call(app: ASGIApp, scope: Any, receive: Any, send: Any) -> None:
    await app(scope, receive, send)


@every_layer
def test_the_callers_scope_is_not_changed(layer: Layer) -> None:
    """Neither the scope nor its state get anything a layer adds; what was there is passed on."""
    scope = {**keyed_scope("/v1/chat/completions"), "state": {"host": "value"}, "extra": object()}
    before = {**scope, "state": dict(scope["state"])}
    seen: list[Any] = []

    async def app(inner: Any, receive: Any, send: Any) -> None:
        seen.append(inner)
        await streaming(inner, receive, send)

    asyncio.run(drive(layer(app), scope))
    assert scope == before
    assert seen[0]["extra"] is scope["extra"]
    assert seen[0]["state"]["host"] == "value"


@every_layer
@pytest.mark.parametrize("state", [None, {}, {"other": 1}])
def test_it_works_alone(layer: Layer, state: dict[str, Any] | None) -> None:
    """No other part of the gateway is needed, and no state in the scope."""
    scope = keyed_scope("/anything", method="GET")
    if state is not None:
        scope["state"] = state
    answer = asyncio.run(drive(layer(streaming), scope))
    assert (answer.status, answer.complete) == (200, True)


@every_layer
def test_chunks_pass_one_for_one(layer: Layer) -> None:
    """Every message goes out once, in order, unchanged; a type nobody knows as the same object."""
    unknown = {"type": "http.response.trailers", "headers": []}
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(dict(START))
        await send(unknown)
        for chunk in CHUNKS:
            await send(body(chunk))
        await send(body(b"", more=False))

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(_call(layer(app), keyed_scope("/"), idle, send))
    assert sent[0]["status"] == 200
    assert START["headers"][0] in sent[0]["headers"]  # type: ignore[index]
    assert sent[1] is unknown
    assert [message["body"] for message in sent[2:]] == [*CHUNKS, b""]
    assert [message["more_body"] for message in sent[2:]] == [True] * len(CHUNKS) + [False]


@every_layer
def test_nothing_is_buffered(layer: Layer) -> None:
    """Each `send` of the app ends only when the caller has taken the message: back-pressure."""

    async def story() -> None:
        taken: list[Any] = []
        ready = asyncio.Semaphore(0)

        async def send(message: Any) -> None:
            await ready.acquire()
            taken.append(message)

        progress = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal progress
            await send(dict(START))
            for chunk in CHUNKS:
                progress += 1
                await send(body(chunk))
            await send(body(b"", more=False))

        running = asyncio.ensure_future(_call(layer(app), keyed_scope("/"), idle, send))
        for step in range(len(CHUNKS)):
            await asyncio.sleep(0.001)
            assert (progress, len(taken)) == (step, step)
            ready.release()
        ready.release()
        ready.release()
        await running

    asyncio.run(story())


@every_layer
def test_the_request_body_passes(layer: Layer) -> None:
    """All parts of a body reach the app as they came, and the disconnect after it."""
    parts = [b"{", b"", b'"a":1}']
    messages = [
        {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]
    messages.append({"type": "http.disconnect"})
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.extend([await receive() for _ in messages])
        await streaming(scope, receive, send)

    pending = list(messages)

    async def receive() -> Any:
        return pending.pop(0)

    asyncio.run(_call(layer(app), keyed_scope("/"), receive, drop))
    assert all(one is other for one, other in zip(got, messages, strict=True))


@every_narrow_layer
@pytest.mark.parametrize("started", [False, True])
def test_exceptions_pass_and_nothing_is_kept(layer: Layer, started: bool) -> None:
    """A bug's exception arrives outside as the same object, and the next request is served."""
    error = RuntimeError("a bug")
    failing = True

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if failing:
            if started:
                await send(dict(START))
            raise error
        await streaming(scope, receive, send)

    async def story() -> None:
        nonlocal failing
        wrapped = layer(app)
        for _ in range(3):
            with pytest.raises(RuntimeError) as caught:
                await wrapped(keyed_scope("/"), idle, drop)
            assert caught.value is error
        failing = False
        assert (await drive(wrapped, keyed_scope("/"))).status == 200
        assert pending_timers() == 0

    run_virtual(story())


@every_narrow_layer
@pytest.mark.parametrize("started", [False, True])
def test_cancellation_passes_and_releases(layer: Layer, started: bool) -> None:
    """A cancelled request ends cancelled, leaves nothing behind, and counts as no failure."""
    stuck = True

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if stuck:
            if started:
                await send(dict(START))
            await asyncio.Event().wait()
        await streaming(scope, receive, send)

    async def story() -> None:
        nonlocal stuck
        wrapped = layer(app)
        for _ in range(50):
            running = asyncio.ensure_future(_call(wrapped, keyed_scope("/"), idle, drop))
            await asyncio.sleep(0.001)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert running.cancelled()
        stuck = False
        assert (await drive(wrapped, keyed_scope("/"))).status == 200
        assert pending_timers() == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(story())


@every_layer
def test_a_request_is_not_kept_after_its_end(layer: Layer) -> None:
    """Nothing of a finished request is held on to by the layer."""

    class Marker:
        pass

    async def story() -> None:
        wrapped = layer(streaming)
        scope = {**keyed_scope("/"), "marker": Marker(), "state": {}}
        alive = weakref.ref(scope["marker"])
        await drive(wrapped, scope)
        del scope
        gc.collect()
        assert alive() is None

    asyncio.run(story())


@every_layer
def test_a_hundred_requests_do_not_see_each_other(layer: Layer) -> None:
    """Interleaved message by message, each gets its own answer and nothing of another's."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        status = 200 + int(scope["path"][1:])
        await send({"type": "http.response.start", "status": status, "headers": []})
        for number in range(5):
            await asyncio.sleep(0)
            await send(body(b"%s:%d " % (scope["path"].encode(), number)))
        await send(body(b"", more=False))

    async def story() -> None:
        wrapped = layer(app)
        answers = await asyncio.gather(
            *(drive(wrapped, keyed_scope(f"/{number}")) for number in range(100))
        )
        for number, answer in enumerate(answers):
            assert answer.status == 200 + number
            assert answer.body == b"".join(b"/%d:%d " % (number, part) for part in range(5))

    asyncio.run(story())


@every_layer
def test_it_stands_in_a_starlette_app(layer: Layer) -> None:
    """Someone else's framework is an app like any other, streaming responses included."""

    async def page(request: Request) -> StreamingResponse:
        async def numbers() -> Any:
            for number in range(3):
                await asyncio.sleep(0)
                yield f"{request.path_params['name']}{number} "

        return StreamingResponse(numbers(), media_type="text/plain")

    starlette = Starlette(routes=[Route("/{name}", page)])
    add: Callable[..., None] = starlette.add_middleware
    add(layer)
    answer = asyncio.run(drive(starlette, keyed_scope("/n", method="GET")))
    assert (answer.status, answer.body) == (200, b"n0 n1 n2 ")


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_it_can_be_described(name: str, layer: Layer) -> None:
    """A layer names itself and what it stands around, so that an order can be asserted."""
    # Some layers are here in more than one setting.
    known = {"EarlyKeepalive": "StreamKeepalive", "AdaptiveBulkhead": "Bulkhead"}
    known["KeyedBulkhead"] = "Bulkhead"
    assert describe(layer(streaming)).names == (known.get(name, name), "streaming")


REFUSING: list[tuple[str, Layer, str]] = [
    ("AdmissionQueue", lambda app: AdmissionQueue(app, 1, 0), "overloaded"),
    ("Bulkhead", lambda app: Bulkhead(app, 1), "bulkhead_full"),
    ("KeyedBulkhead", lambda app: Bulkhead(app, slots_of=KeyedSlots(1)), "bulkhead_full"),
    ("LoadShed", lambda app: AdmissionQueue(app, shed=_late()), "overloaded"),
    ("CircuitBreaker", lambda app: _opened(CircuitBreaker(app)), "breaker_open"),
    ("RateLimiter", lambda app: RateLimiter(app, "1/hour"), "rate_limited"),
]


def _late() -> LoadShed:
    shed = LoadShed(0.1)
    for _ in range(6):
        shed.observe(1.0)
    return shed


def _opened(breaker: CircuitBreaker) -> CircuitBreaker:
    breaker.policy.breaker.open()
    return breaker


@pytest.mark.parametrize(
    ("layer", "code"), [pytest.param(make, code, id=name) for name, make, code in REFUSING]
)
def test_refusals_are_answers(layer: Layer, code: str) -> None:
    """A refusal is a whole response with a stable code, its source and a time to come back."""

    async def story() -> None:
        async def stuck(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.Event().wait()

        wrapped = layer(stuck)
        first = asyncio.ensure_future(_call(wrapped, keyed_scope("/"), idle, drop))
        await asyncio.sleep(0)
        answer = await drive(wrapped, keyed_scope("/v1/chat/completions"))
        assert answer.complete
        assert json.loads(answer.body)["error"]["code"] == code
        assert answer.header("x-radgateway-error-source") == "gateway"
        assert int(answer.header("retry-after") or "") >= 1
        assert answer.header("content-length") == str(len(answer.body))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    asyncio.run(story())
