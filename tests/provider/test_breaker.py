from __future__ import annotations

import asyncio
import json
from typing import Any

import pybreaker
import pytest
from drive import drive, http_scope
from hypothesis import given
from hypothesis import strategies as st

from radgateway.asgi import StreamBroken
from radgateway.exchange import ATTEMPT_KEY, KEY, Attempt, Exchange
from radgateway.provider.breaker import (
    Admission,
    BreakerConfig,
    BreakerPolicy,
    CircuitBreaker,
    Verdict,
)
from radgateway.provider.call_window import CallWindow


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


CONFIG = BreakerConfig(min_calls=4, open_s=30, half_open_calls=2, half_open_max_s=60)


def call(policy: BreakerPolicy, verdict: Verdict, first_byte_s: float | None = None) -> None:
    admission = policy.acquire()
    assert admission is not None
    policy.release(admission, verdict, first_byte_s)


def state_of(holder: BreakerPolicy | CircuitBreaker) -> str:
    return holder.state


def opened(clock: Clock, config: BreakerConfig = CONFIG, **options: Any) -> BreakerPolicy:
    policy = BreakerPolicy(config, clock=clock, **options)
    for _ in range(config.min_calls):
        call(policy, "fail")
    assert state_of(policy) == "open"
    return policy


def probes(policy: BreakerPolicy, callers: int = 100) -> list[Admission]:
    admitted = [policy.acquire() for _ in range(callers)]
    return [admission for admission in admitted if admission is not None]


@pytest.mark.parametrize(
    ("outcomes", "opens"),
    [
        ("fff", False),  # fewer calls than mean anything
        ("ffff", True),
        ("oooff", False),
        ("ooofff", True),  # half of them
        ("ffooiiiiii", True),  # what is ignored dilutes nothing
        ("iiiiiiiiii", False),
    ],
)
def test_it_opens_at_the_failure_ratio(outcomes: str, opens: bool) -> None:
    """The circuit opens when, of enough calls, the given share failed."""
    policy = BreakerPolicy(CONFIG, clock=Clock())
    words: dict[str, Verdict] = {"o": "ok", "f": "fail", "i": "ignore"}
    for outcome in outcomes:
        admission = policy.acquire()
        if admission is None:
            break
        policy.release(admission, words[outcome])
    assert (policy.state == "open") is opens


def test_failures_are_forgotten_with_the_window() -> None:
    """Failures from before the window say nothing about now."""
    clock = Clock()
    policy = BreakerPolicy(CONFIG, clock=clock)
    for _ in range(3):
        call(policy, "fail")
    clock.now += CONFIG.window_s
    call(policy, "fail")
    assert state_of(policy) == "closed"


def test_slow_first_bytes_open_it_though_no_call_failed() -> None:
    """A provider that answers too late is as good as down; the length of a stream never counts."""
    policy = BreakerPolicy(CONFIG, clock=Clock())
    for _ in range(3):
        call(policy, "ok", 25.0)
    call(policy, "ok", 19.0)
    assert state_of(policy) == "closed"
    call(policy, "ok", 20.0)
    assert state_of(policy) == "open"
    patient = BreakerPolicy(BreakerConfig(min_calls=1, slow_first_byte_s=None), clock=Clock())
    call(patient, "ok", 1e6)
    assert patient.state == "closed"


def test_an_open_circuit_refuses_until_it_may_probe() -> None:
    """While open nothing passes, asking costs nothing, and it says when to come back."""
    clock = Clock()
    policy = opened(clock)
    assert policy.acquire() is None
    assert not policy.available()
    assert policy.retry_after_s() == 30
    clock.now += 29
    assert policy.retry_after_s() == 1
    clock.now += 1
    assert policy.available()
    assert policy.retry_after_s() == 0
    assert state_of(policy) == "open"  # asking did not change it


def test_exactly_the_permitted_probes_pass_a_herd() -> None:
    """Of a hundred callers that find the circuit half open, the probes pass and no more."""
    clock = Clock()
    policy = opened(clock)
    clock.now += 30
    admitted = probes(policy)
    assert len(admitted) == 2
    assert state_of(policy) == "half_open"
    assert not policy.available()
    assert 0 < policy.retry_after_s() <= 1
    policy.release(admitted[0], "ok")
    assert policy.acquire() is None
    policy.release(admitted[1], "ok")
    assert state_of(policy) == "closed"
    assert policy.acquire() is not None


@pytest.mark.parametrize(("verdict", "first_byte_s"), [("fail", None), ("ok", 30.0)])
def test_a_bad_probe_opens_it_again(verdict: Verdict, first_byte_s: float | None) -> None:
    """One probe that fails or is slow starts the whole wait over."""
    clock = Clock()
    policy = opened(clock)
    clock.now += 30
    call(policy, verdict, first_byte_s)
    assert state_of(policy) == "open"
    assert policy.retry_after_s() == 30


def test_a_cancelled_probe_proves_nothing_and_returns_its_permit() -> None:
    """A caller that leaves during the probe neither closes nor opens the circuit."""
    clock = Clock()
    policy = opened(clock)
    clock.now += 30
    first, second = probes(policy)
    policy.release(first, "ignore")
    assert state_of(policy) == "half_open"
    assert len(probes(policy)) == 1
    policy.release(second, "ok")
    assert state_of(policy) == "half_open"


def test_probes_that_never_settle_do_not_close_the_provider_off() -> None:
    """After the longest half-open time new probes pass, as many as are still needed."""
    clock = Clock()
    policy = opened(clock)
    clock.now += 30
    hung = probes(policy)
    clock.now += 59.9
    assert policy.acquire() is None
    clock.now += 0.1
    assert policy.available()
    fresh = probes(policy)
    assert len(fresh) == 2
    policy.release(hung[0], "ok")  # a long stream that ended well counts
    policy.release(fresh[0], "ok")
    assert state_of(policy) == "closed"


def test_results_of_an_earlier_state_are_dropped() -> None:
    """A call begun before the trip and failing after the recovery must not open it again."""
    clock = Clock()
    policy = BreakerPolicy(BreakerConfig(min_calls=1, half_open_calls=1), clock=clock)
    old = [policy.acquire() for _ in range(3)]
    call(policy, "fail")
    clock.now += 30
    probe = policy.acquire()
    assert probe is not None
    assert old[0] is not None
    policy.release(old[0], "ok")
    assert state_of(policy) == "half_open"
    policy.release(probe, "ok")
    for late in old[1:]:
        assert late is not None
        policy.release(late, "fail")
    assert state_of(policy) == "closed"


def test_changes_are_told_once_each_and_pybreaker_agrees() -> None:
    """The hook and pybreaker's listeners hear each change; both hold the same state."""
    clock = Clock()
    changes: list[tuple[str, str]] = []
    heard: list[str] = []

    class Listener(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            heard.append(new_state.name)

        def failure(self, cb: Any, exc: BaseException) -> None:
            heard.append("failure")

        def success(self, cb: Any) -> None:
            heard.append("success")

    config = BreakerConfig(min_calls=1, half_open_calls=1)
    policy = BreakerPolicy(config, clock=clock, on_change=lambda *change: changes.append(change))
    policy.breaker.add_listener(Listener())
    call(policy, "fail")
    assert policy.breaker.current_state == "open"
    clock.now += 30
    call(policy, "ok")
    assert policy.breaker.current_state == "closed"
    assert changes == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]
    assert heard == ["failure", "open", "half-open", "success", "closed"]


def test_it_can_be_opened_and_closed_by_hand() -> None:
    """Commands to the pybreaker circuit are obeyed, and a stored state is taken over."""
    clock = Clock()
    policy = BreakerPolicy(CONFIG, clock=clock)
    policy.breaker.open()
    assert policy.acquire() is None
    policy.breaker.close()
    assert policy.acquire() is not None
    storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_OPEN)
    assert BreakerPolicy(CONFIG, clock=clock, storage=storage).acquire() is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["ok", "fail", "ignore", "late"]), st.floats(0, 40)),
        max_size=200,
    )
)
def test_it_always_lets_somebody_through_again(steps: list[tuple[str, float]]) -> None:
    """Whatever happens, probes in flight never exceed what is allowed, and it never gets stuck."""
    clock = Clock()
    policy = BreakerPolicy(CONFIG, clock=clock)
    held: list[Admission] = []
    for step, passed_s in steps:
        clock.now += passed_s
        expected = policy.available()
        admission = policy.acquire()
        assert (admission is not None) == expected
        if admission is None:
            assert state_of(policy) != "closed"
        elif step == "late":
            held.append(admission)
        else:
            policy.release(admission, step)  # type: ignore[arg-type]
        if len(held) > 3:
            policy.release(held.pop(0), "fail")
    clock.now += max(CONFIG.open_s, CONFIG.half_open_max_s)
    assert policy.acquire() is not None


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.floats(0, 4), st.booleans(), st.booleans()), max_size=60),
)
def test_the_windows_sums_are_those_of_its_calls(
    length_s: int, calls: list[tuple[float, bool, bool]]
) -> None:
    """The running sums equal a count over all calls of the last seconds."""
    window = CallWindow(length_s)
    now = 50.0
    seen: list[tuple[int, bool, bool]] = []
    for passed_s, failed, slow in calls:
        now += passed_s
        window.add(now, failed=failed, slow=slow)
        seen.append((int(now), failed, slow))
        alive = [entry for entry in seen if entry[0] > int(now) - length_s]
        assert window.calls == len(alive)
        assert window.failures == sum(entry[1] for entry in alive)
        assert window.slow == sum(entry[2] for entry in alive)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("window_s", 0),
        ("min_calls", 0),
        ("failure_ratio", 0),
        ("slow_ratio", 1.5),
        ("open_s", 0),
        ("slow_first_byte_s", -1),
        ("half_open_calls", 0),
        ("half_open_max_s", 0),
    ],
)
def test_bad_settings_are_named(setting: str, value: float) -> None:
    """A setting out of range is refused by its name."""
    with pytest.raises(ValueError, match=setting):
        BreakerConfig(**{setting: value})  # type: ignore[arg-type]


def answering(status: int, *, attempt_failure: str | None = None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        attempt = scope.get("state", {}).get(ATTEMPT_KEY)
        if attempt is not None:
            attempt.status, attempt.first_byte = status, attempt.started
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})
        if attempt is not None and attempt_failure is not None:
            attempt.failure = attempt_failure

    return app


@pytest.mark.parametrize(
    ("status", "opens"),
    [(200, False), (400, False), (404, False), (429, False), (408, True), (500, True), (504, True)],
)
@pytest.mark.parametrize("below_router", [False, True])
def test_statuses_are_judged(status: int, opens: bool, below_router: bool) -> None:
    """5xx and 408 are the provider's failures, other 4xx the caller's; with a router or alone."""
    breaker = CircuitBreaker(answering(status), BreakerConfig(min_calls=1))
    scope = http_scope("/")
    if below_router:
        scope["state"] = {KEY: Exchange("r"), ATTEMPT_KEY: Attempt("p", "m", 0.0)}
    asyncio.run(drive(breaker, scope))
    assert (breaker.state == "open") is opens


@pytest.mark.parametrize(
    ("failure", "opens"),
    [(None, False), ("upstream_stream_error", True), ("bulkhead_full", False)],
)
def test_an_error_inside_a_stream_is_a_failure(failure: str | None, opens: bool) -> None:
    """What the router read in a 200's stream counts by its end; our own refusals never do."""
    breaker = CircuitBreaker(answering(200, attempt_failure=failure), BreakerConfig(min_calls=1))
    scope = http_scope("/")
    scope["state"] = {KEY: Exchange("r"), ATTEMPT_KEY: Attempt("p", "m", 0.0)}
    asyncio.run(drive(breaker, scope))
    assert (breaker.state == "open") is opens


@pytest.mark.parametrize(
    ("error", "opens"),
    [(StreamBroken("cut"), True), (RuntimeError("bug"), True), (OSError("caller gone"), False)],
)
@pytest.mark.parametrize("below_router", [False, True])
def test_exceptions_pass_and_are_judged(error: Exception, opens: bool, below_router: bool) -> None:
    """A broken stream is a failure; a send that fails because the caller left is not."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answering(200)(scope, receive, send)
        raise error

    breaker = CircuitBreaker(app, BreakerConfig(min_calls=1))
    scope = http_scope("/")
    if below_router:
        scope["state"] = {KEY: Exchange("r"), ATTEMPT_KEY: Attempt("p", "m", 0.0)}
    answer = asyncio.run(drive(breaker, scope, raises=True))
    assert answer.error is error
    assert (breaker.state == "open") is opens


def test_an_open_circuit_answers_with_the_time_of_the_next_probe() -> None:
    """The refusal is a 503 that says when to come back, and the app is not called."""
    clock = Clock()
    breaker = CircuitBreaker(answering(500), BreakerPolicy(CONFIG, clock=clock))
    breaker.policy.breaker.open()
    clock.now += 17.5
    answer = asyncio.run(drive(breaker, http_scope("/v1/chat/completions")))
    assert answer.status == 503
    assert json.loads(answer.body)["error"]["code"] == "breaker_open"
    assert answer.header("retry-after") == "13"
    assert not breaker.available()
    assert breaker.retry_after_s() == 12.5


def test_a_cancelled_call_is_neutral() -> None:
    """A caller that leaves is no failure of the provider, and its probe is returned."""

    async def story() -> None:
        async def stuck(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.Event().wait()

        clock = Clock()
        breaker = CircuitBreaker(stuck, opened(clock))
        clock.now += 30
        for _ in range(5):
            running = asyncio.create_task(drive(breaker, http_scope("/")))
            await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert state_of(breaker) == "half_open"
            assert breaker.available()

    asyncio.run(story())


def test_alone_it_times_the_first_byte() -> None:
    """Without a router's record it keeps the time itself."""
    clock = Clock()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        clock.now += 21
        await send({"type": "http.response.body", "body": b"x"})

    breaker = CircuitBreaker(slow, BreakerPolicy(BreakerConfig(min_calls=1), clock=clock))
    asyncio.run(drive(breaker, http_scope("/")))
    assert state_of(breaker) == "open"
