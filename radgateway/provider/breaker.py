"""CircuitBreaker: leave a provider alone while it fails, and find out carefully if it is back.

M. Nygard, *Release It!*, ch. 5, with a failure ratio over a rolling window instead of consecutive
failures, so that one success among many failures resets nothing. pybreaker holds the state, tells
its listeners and takes commands (`policy.breaker.open()`); who is admitted and what counts is
decided here, because pybreaker admits everybody to a half-open circuit and counts a cancelled
call as a failure, or, if told not to, as a success.

Stands around one provider, outside of its bulkhead and clocks. Answers 503 `breaker_open`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pybreaker

from radgateway.asgi import ASGIApp, Clock, Message, Receive, Scope, Send
from radgateway.errors import OWN_REFUSALS, Refusal, answer
from radgateway.exchange import Attempt, attempt_of, exchange_of
from radgateway.provider.call_window import CallWindow

State = Literal["closed", "open", "half_open"]
Verdict = Literal["ok", "fail", "ignore"]
OnChange = Callable[[str, str], None]

_STATES: dict[str, State] = {
    pybreaker.STATE_CLOSED: "closed",
    pybreaker.STATE_OPEN: "open",
    pybreaker.STATE_HALF_OPEN: "half_open",
}
_NEVER_BY_ITSELF = 2**31
_PROBE_WAIT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerConfig:
    """When a circuit opens, and how it closes again."""

    window_s: int = 30
    """Whole seconds looked back on, 1 to 3600: long enough for `min_calls` at modest traffic."""
    min_calls: int = 10
    """Calls in the window before a ratio means anything, at least 1."""
    failure_ratio: float = 0.5
    """Share of calls that failed, over 0 to 1, at which the circuit opens."""
    slow_first_byte_s: float | None = 20.0
    """Seconds to the first byte from which a call is slow; None turns it off. Never the whole
    time of a generation, which depends on what was asked for."""
    slow_ratio: float = 0.8
    """Share of calls that were slow, over 0 to 1, at which the circuit opens."""
    open_s: float = 30.0
    """Seconds an open circuit refuses before the first probe."""
    half_open_calls: int = 2
    """Probes let through, all of which must succeed to close the circuit, at least 1."""
    half_open_max_s: float = 60.0
    """Seconds after which unsettled probes no longer block new ones. A probe is settled when its
    stream ends, and one that never settles must not close the provider off for good."""

    def __post_init__(self) -> None:
        if not 1 <= self.window_s <= 3600 or self.window_s != int(self.window_s):
            raise ValueError(f"window_s must be whole seconds, 1 to 3600, not {self.window_s}")
        for name in ("min_calls", "half_open_calls"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("failure_ratio", "slow_ratio"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be over 0 and at most 1, not {getattr(self, name)}")
        for name in ("slow_first_byte_s", "open_s", "half_open_max_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be over 0, not {value}")


class Admission(NamedTuple):
    """The right to make one call, to be settled with `BreakerPolicy.release`."""

    generation: int
    probe: bool


class CallFailed(Exception):
    """What pybreaker's listeners get for a call that failed without an exception."""


class BreakerPolicy:
    """The state of one circuit. Every method is synchronous, so atomic on an event loop.

    `breaker` is the pybreaker circuit: add listeners to it, or open and close it by hand. An
    opening by hand ends like any other, with a probe after `open_s`.
    """

    def __init__(
        self,
        config: BreakerConfig | None = None,
        *,
        clock: Clock = time.monotonic,
        on_change: OnChange | None = None,
        storage: Any = None,
        name: str | None = None,
    ) -> None:
        self.config = config or BreakerConfig()
        self._clock = clock
        self._on_change = on_change
        self._window = CallWindow(int(self.config.window_s))
        self._generation = 0
        self._until = 0.0
        self._permits = 0
        self._proved = 0
        self.breaker = pybreaker.CircuitBreaker(
            fail_max=_NEVER_BY_ITSELF,
            reset_timeout=_NEVER_BY_ITSELF,
            listeners=[_Follower(self)],
            state_storage=storage,
            name=name,
            throw_new_error_on_trip=False,
        )
        self._state: State = "closed"
        if self.breaker.current_state != pybreaker.STATE_CLOSED:
            self._enter(_STATES[self.breaker.current_state])

    @property
    def state(self) -> State:
        """`closed`, `open` or `half_open`. An open circuit half-opens with its first probe."""
        return self._state

    def available(self) -> bool:
        """Whether a call would be admitted now. Changes nothing."""
        if self._state == "closed":
            return True
        if self._state == "half_open" and self._permits > 0:
            return True
        return self._clock() >= self._until

    def retry_after_s(self) -> float:
        """Seconds until asking again may help; 0 if it would help now."""
        if self.available():
            return 0.0
        left_s = self._until - self._clock()
        return left_s if self._state == "open" else min(left_s, _PROBE_WAIT_S)

    def acquire(self) -> Admission | None:
        """Admit a call, or None where it must be refused."""
        if self._state == "closed":
            return Admission(self._generation, False)
        now = self._clock()
        if self._state == "open":
            if now < self._until:
                return None
            self.breaker.half_open()
        elif now >= self._until:
            self._until = now + self.config.half_open_max_s
            self._permits = self.config.half_open_calls - self._proved
        if self._permits <= 0:
            return None
        self._permits -= 1
        return Admission(self._generation, True)

    def release(
        self, admission: Admission, verdict: Verdict, first_byte_s: float | None = None
    ) -> None:
        """Settle a call. What began under an earlier state of the circuit no longer counts."""
        if admission.generation != self._generation:
            return
        config = self.config
        if verdict == "ignore":
            if admission.probe:
                self._permits = min(self._permits + 1, config.half_open_calls - self._proved)
            return
        failed = verdict == "fail"
        slow_s = config.slow_first_byte_s
        slow = slow_s is not None and first_byte_s is not None and first_byte_s >= slow_s
        self._tell(failed)
        if admission.probe:
            self._settle_probe(failed or slow)
            return
        window = self._window
        window.add(self._clock(), failed=failed, slow=slow)
        calls = window.calls
        if calls >= config.min_calls and (
            window.failures >= config.failure_ratio * calls
            or window.slow >= config.slow_ratio * calls
        ):
            self.breaker.open()

    def _settle_probe(self, failed: bool) -> None:
        if failed:
            self.breaker.open()
            return
        self._proved += 1
        if self._proved >= self.config.half_open_calls:
            self.breaker.close()

    def _tell(self, failed: bool) -> None:
        listeners = self.breaker.listeners
        if len(listeners) == 1:
            return
        for listener in listeners:
            if failed:
                listener.failure(self.breaker, CallFailed())
            else:
                listener.success(self.breaker)

    def _enter(self, state: State) -> None:
        """Take over a state pybreaker moved to, whoever moved it."""
        old, self._state = self._state, state
        self._generation += 1
        self._window.clear()
        self._proved = 0
        if state == "open":
            self._until = self._clock() + self.config.open_s
        elif state == "half_open":
            self._until = self._clock() + self.config.half_open_max_s
            self._permits = self.config.half_open_calls
        if self._on_change is not None and old != state:
            self._on_change(old, state)


class _Follower(pybreaker.CircuitBreakerListener):
    """Passes pybreaker's changes of state on to the policy."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        # pybreaker tells before it stores, so the new state is read from what it tells.
        self._policy._enter(_STATES[new_state.name])


class CircuitBreaker:
    """Refuses calls while the circuit is open, and judges each call when its response has ended.

    Below a router the attempt's record says how it went, including errors inside a stream. Alone,
    the status and the exceptions do. 5xx and 408 are failures; any other 4xx (429 too: a full
    quota is no ill health), our own refusals and cancelled calls are neither success nor failure.
    """

    def __init__(self, app: ASGIApp, policy: BreakerPolicy | BreakerConfig | None = None) -> None:
        self.app = app
        self.policy = policy if isinstance(policy, BreakerPolicy) else BreakerPolicy(policy)

    @property
    def state(self) -> State:
        """`closed`, `open` or `half_open`."""
        return self.policy.state

    def available(self) -> bool:
        """Whether a request would be admitted now, so that a router can pass this one over."""
        return self.policy.available()

    def retry_after_s(self) -> float:
        """Seconds until the next probe; 0 if a request would be admitted now."""
        return self.policy.retry_after_s()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        policy = self.policy
        admission = policy.acquire()
        if admission is None:
            await answer(scope, send, _refusal(policy.retry_after_s()))
            return
        attempt = attempt_of(scope)
        if attempt is None:
            await self._call_alone(admission, scope, receive, send)
            return
        # Whoever made the attempt keeps its status and times, so nothing is done per message.
        verdict: Verdict = "ignore"
        try:
            await self.app(scope, receive, send)
            verdict = verdict_on(attempt)
        except Exception as error:
            verdict = _verdict_on_error(error, started=attempt.status is not None)
            raise
        finally:
            first_byte = attempt.first_byte
            waited_s = None if first_byte is None else first_byte - attempt.started
            policy.release(admission, verdict, waited_s)

    async def _call_alone(
        self, admission: Admission, scope: Scope, receive: Receive, send: Send
    ) -> None:
        policy = self.policy
        clock = policy._clock
        started = clock()
        status = 0
        first_byte_s: float | None = None

        async def send_observed(message: Message) -> None:
            nonlocal status, first_byte_s
            if first_byte_s is None:
                kind = message["type"]
                if kind == "http.response.body":
                    first_byte_s = clock() - started
                elif kind == "http.response.start":
                    status = message["status"]
            await send(message)

        verdict: Verdict = "ignore"
        try:
            await self.app(scope, receive, send_observed)
            verdict = verdict_on_status(status)
            if verdict == "fail" and _refused_by_us(scope):
                verdict = "ignore"
        except Exception as error:
            verdict = _verdict_on_error(error, started=status != 0)
            raise
        finally:
            policy.release(admission, verdict, first_byte_s)


def verdict_on(attempt: Attempt) -> Verdict:
    """How an attempt that has ended speaks of its provider."""
    if attempt.failure in OWN_REFUSALS:
        return "ignore"
    verdict = verdict_on_status(attempt.status or 0)
    if verdict == "ok" and attempt.failure is not None:
        return "fail"
    return verdict


def verdict_on_status(status: int) -> Verdict:
    """How a status speaks of the provider; 0, no response at all, is a failure."""
    if 100 <= status < 400:
        return "ok"
    return "ignore" if 400 <= status < 500 and status != 408 else "fail"


def _verdict_on_error(error: Exception, *, started: bool) -> Verdict:
    # By the ASGI specification `send` raises an OSError where the caller has gone: no failure.
    return "ignore" if started and isinstance(error, OSError) else "fail"


def _refused_by_us(scope: Scope) -> bool:
    exchange = exchange_of(scope)
    return exchange is not None and exchange.error_code in OWN_REFUSALS


def _refusal(retry_after_s: float) -> Refusal:
    return Refusal(
        "breaker_open",
        "This provider has been failing and is left alone for a while.",
        retry_after_s=retry_after_s,
    )
