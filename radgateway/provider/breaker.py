"""CircuitBreaker: leave a provider alone while it fails, and find out carefully if it is back.

The layer around `BreakerPolicy`, which does the thinking: this asks it for admission and judges
how each call went. Stands around one provider, outside of its bulkhead and clocks. Answers 503
`breaker_open`.
"""

from __future__ import annotations

from radgateway.asgi import ASGIApp, Message, Receive, Scope, Send
from radgateway.errors import OWN_REFUSALS, Refusal, answer
from radgateway.exchange import Attempt, attempt_of, exchange_of
from radgateway.provider.circuit.config import BreakerConfig
from radgateway.provider.circuit.policy import Admission, BreakerPolicy
from radgateway.provider.circuit.standing import State, Verdict
from radgateway.retry_after import retry_after_s

_CREDENTIAL: dict[int, Verdict] = {401: "unauthorized", 429: "limited"}

_FAILING = "This provider has been failing and is left alone for a while."
_TEXTS = {
    "resting": "This provider asked to be left alone for a while, or does not accept its key.",
    "isolated": "This provider has been taken out of use.",
}


class CircuitBreaker:
    """Refuses calls while the circuit is open, and judges each call when its response has ended.

    Below a router the attempt's record says how it went, including errors inside a stream. Alone,
    the status and the exceptions do. 5xx and 408 are failures; any other 4xx, our own refusals and
    cancelled calls are neither success nor failure. Below a router 429 and 401 are about the
    credential that every call there shares, so the provider may rest for them.
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

    def passed_over(self) -> None:
        """Hear from a router that it did pass this one over, to count it as refused."""
        self.policy.passed_over()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        policy = self.policy
        admission = policy.acquire()
        if admission is None:
            await answer(scope, send, _refusal(policy))
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
            policy.release(
                admission,
                verdict,
                None if first_byte is None else first_byte - attempt.started,
                attempt.longest_gap_s,
                retry_after_s=attempt.retry_after_s,
                reason=attempt.failure,
            )

    async def _call_alone(
        self, admission: Admission, scope: Scope, receive: Receive, send: Send
    ) -> None:
        policy = self.policy
        clock = policy.clock
        started = last = clock()
        status = 0
        first_byte_s: float | None = None
        gap_s = 0.0
        wait_s: float | None = None

        async def send_observed(message: Message) -> None:
            nonlocal status, first_byte_s, gap_s, wait_s, last
            kind = message["type"]
            if kind == "http.response.body":
                now = clock()
                if first_byte_s is None:
                    first_byte_s = now - started
                else:
                    gap_s = max(gap_s, now - last)
                await send(message)
                last = clock()
                return
            if kind == "http.response.start":
                status = message["status"]
                if status >= 500:
                    wait_s = retry_after_s(message.get("headers", ()))
            await send(message)

        verdict: Verdict = "ignore"
        reason: str | None = None
        try:
            await self.app(scope, receive, send_observed)
            verdict = verdict_on_status(status)
            if verdict == "fail":
                verdict, reason = ("ignore" if _refused_by_us(scope) else "fail"), f"http_{status}"
        except Exception as error:
            verdict, reason = _verdict_on_error(error, started=status != 0), type(error).__name__
            raise
        finally:
            policy.release(
                admission, verdict, first_byte_s, gap_s, retry_after_s=wait_s, reason=reason
            )


def verdict_on(attempt: Attempt) -> Verdict:
    """How an attempt that has ended speaks of its provider."""
    status, failure = attempt.status or 0, attempt.failure
    if failure is None and 100 <= status < 400:
        return "ok"
    if failure in OWN_REFUSALS:
        return "ignore"
    verdict = _CREDENTIAL.get(status) or verdict_on_status(status)
    return "fail" if verdict == "ok" else verdict


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


def _refusal(policy: BreakerPolicy) -> Refusal:
    return Refusal(
        "breaker_open",
        _TEXTS.get(policy.blocked_by() or "", _FAILING),
        retry_after_s=policy.retry_after_s(),
    )
