"""Load for an experiment: chat requests at a fixed rate, each with what came of it.

An open loop: a request is sent when it is due, whether or not those before it have been answered,
and its latency counts from then. A closed loop would send less just when answers are late, and so
hide what an experiment is about (G. Tene's "coordinated omission"). It is bounded all the same:
what is due while too many are under way is not sent, and counted as that.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from radgateway.asgi import header
from radgateway.upstream.interface import Timeouts, Upstream, UpstreamError, UpstreamRequest

_PATIENCE_S = 30.0
"""Seconds a request may take before the client gives up; it then counts as failed."""
_DONE = b"[DONE]"
_SHED = frozenset(
    {
        "overloaded",
        "queue_timeout",
        "bulkhead_full",
        "no_provider_available",
        "rate_limited",
        "budget_exceeded",
        "draining",
    }
)
"""Codes by which a gateway says that it declines for now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request and what came of it. Moments are monotonic seconds."""

    due: float
    ended: float
    first_byte_s: float | None
    """Seconds from when it was due to the answer's first bytes."""
    status: int
    """0 where there was no answer."""
    failure: str
    """Why it failed: the error's code, or what broke; empty where it was answered in full."""
    provider: str = ""
    """Who answered, as the gateway says."""
    attempts: int = 0
    request_id: str = ""
    retry_after: str = ""
    should_retry: str = ""
    replica: str = ""
    """Which replica answered, where a balancer says."""
    left: str = ""
    """What is left of the key's limit of requests, where the gateway says."""

    @property
    def ok(self) -> bool:
        """Answered in full."""
        return not self.failure

    @property
    def shed(self) -> bool:
        """Declined by the gateway, in so many words and with the time to come back."""
        return self.failure in _SHED and bool(self.retry_after)

    @property
    def latency_s(self) -> float:
        """Seconds from when it was due to the last byte."""
        return self.ended - self.due


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A sample in numbers."""

    requests: int
    answered: int
    unsent: int
    """Due, and not sent for want of room in the load generator."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    statuses: dict[str, int]
    failures: dict[str, int]
    providers: dict[str, int]
    """Answered requests by provider."""

    @property
    def success_ratio(self) -> float:
        """Share of requests that were answered in full; those not sent count as not answered."""
        due = self.requests + self.unsent
        return self.answered / due if due else 0.0


@dataclass(slots=True)
class Sample:
    """Requests of one phase."""

    calls: list[Call] = field(default_factory=list)
    unsent: int = 0
    pending: dict[asyncio.Task[None], float] = field(default_factory=dict)
    """Under way, by when they were due."""

    def between(self, began: float, ended: float) -> Sample:
        """The requests that were due between two moments."""
        return Sample([call for call in self.calls if began <= call.due < ended], self.unsent)

    def figures(self) -> Figures:
        """Count and sort."""
        answered = [call for call in self.calls if call.ok]
        return Figures(
            requests=len(self.calls),
            answered=len(answered),
            unsent=self.unsent,
            p50_ms=quantile_ms(answered, 0.50),
            p95_ms=quantile_ms(answered, 0.95),
            p99_ms=quantile_ms(answered, 0.99),
            statuses=dict(Counter(str(call.status or "none") for call in self.calls)),
            failures=dict(Counter(call.failure for call in self.calls if call.failure)),
            providers=dict(Counter(call.provider for call in answered if call.provider)),
        )


def quantile_ms(calls: Iterable[Call], share: float) -> float:
    """The latency that this share of the calls did not exceed (nearest rank); 0 of none."""
    ordered = sorted(call.latency_s for call in calls)
    if not ordered:
        return 0.0
    rank = min(len(ordered) - 1, int(share * len(ordered)))
    return round(ordered[rank] * 1000, 1)


class LoadGenerator:
    """Chat requests for one model at one address. `client` is shared and stays its owner's."""

    def __init__(
        self, client: Upstream, url: str, model: str, key: str, *, max_in_flight: int = 4000
    ) -> None:
        self.url = url
        self.model = model
        self._client = client
        self._max_in_flight = max_in_flight
        self._headers = [
            (b"authorization", b"Bearer " + key.encode("latin-1")),
            (b"content-type", b"application/json"),
        ]

    async def one(self, *, model: str | None = None, padding_bytes: int = 0) -> Call:
        """One request, now; `padding_bytes` makes its prompt a long one."""
        body = self._body(model or self.model, stream=False, padding_bytes=padding_bytes)
        return await self._call(time.monotonic(), body, stream=False)

    async def at_rate(self, rate_per_s: float, seconds: float, *, stream: bool = False) -> Sample:
        """So many a second for so long; returns when the last has ended."""
        async with self.running(rate_per_s, streams=float(stream)) as sample:
            await asyncio.sleep(seconds)
        return sample

    async def at_once(self, count: int, *, stream: bool = False) -> Sample:
        """So many together; returns when the last has ended."""
        sample = Sample()
        due = time.monotonic()
        for _ in range(count):
            self._begin(sample, due, stream=stream)
        await _settle(sample)
        return sample

    @contextlib.asynccontextmanager
    async def running(self, rate_per_s: float, *, streams: float = 0.0) -> AsyncIterator[Sample]:
        """So many a second while the block runs, a share of them streams. Waits for the last."""
        sample = Sample()
        pacing = asyncio.create_task(self._pace(sample, rate_per_s, streams))
        try:
            yield sample
        finally:
            pacing.cancel()
            await asyncio.wait([pacing])
            try:
                await _settle(sample)
            finally:
                for task in list(sample.pending):
                    task.cancel()

    async def _pace(self, sample: Sample, rate_per_s: float, streams: float) -> None:
        began = time.monotonic()
        number = 0
        owed = 0.0
        while True:
            due = began + number / rate_per_s
            wait_s = due - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            owed += streams
            stream = owed >= 1
            owed -= stream
            self._begin(sample, due, stream=stream)
            number += 1

    def _begin(self, sample: Sample, due: float, *, stream: bool) -> None:
        if len(sample.pending) >= self._max_in_flight:
            sample.unsent += 1
            return

        async def run() -> None:
            body = self._body(self.model, stream=stream)
            sample.calls.append(await self._call(due, body, stream=stream))

        task = asyncio.create_task(run())
        sample.pending[task] = due
        task.add_done_callback(lambda done: sample.pending.pop(done, None))

    def _body(self, model: str, *, stream: bool, padding_bytes: int = 0) -> bytes:
        prompt = "Say what you are made of, in ten words." + " " * padding_bytes
        messages = [{"role": "user", "content": prompt}]
        return msgspec.json.encode({"model": model, "stream": stream, "messages": messages})

    async def _call(self, due: float, body: bytes, *, stream: bool) -> Call:
        url = f"{self.url}/v1/chat/completions"
        request = UpstreamRequest("POST", url, self._headers, body)
        reading = _Reading(due, stream)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await reading.of(self._client, request)
        except TimeoutError:
            reading.failure = "client_timeout"
        except UpstreamError as error:
            reading.failure = f"connection: {error.code}"
        return reading.call()


class _Reading:
    """One answer, as far as it came."""

    def __init__(self, due: float, stream: bool) -> None:
        self.failure = ""
        self._due = due
        self._stream = stream
        self._status = 0
        self._first_byte: float | None = None
        self._headers: list[tuple[bytes, bytes]] = []

    async def of(self, client: Upstream, request: UpstreamRequest) -> None:
        """Send, and read to the end. Raises `UpstreamError` where it breaks."""
        response = await client.send(request, Timeouts(connect_s=5, pool_s=5))
        try:
            self._status, self._headers = response.status, response.headers
            tail = b""
            while chunk := await response.read():
                if self._first_byte is None:
                    self._first_byte = time.monotonic()
                tail = (tail + chunk)[-4096:]
            self.failure = self._verdict(tail)
        finally:
            await response.aclose()

    def _verdict(self, tail: bytes) -> str:
        if self._status == 200:
            if not self._stream or _DONE in tail:
                return ""
            return _code_in(tail) or "stream_incomplete"
        return _code_in(tail) or f"http_{self._status}"

    def call(self) -> Call:
        """The record of it."""
        attempts = self._value(b"x-radgateway-attempts")
        return Call(
            due=self._due,
            ended=time.monotonic(),
            first_byte_s=self._first_byte - self._due if self._first_byte is not None else None,
            status=self._status,
            failure=self.failure,
            provider=self._value(b"x-radgateway-provider"),
            attempts=int(attempts) if attempts.isdigit() else 0,
            request_id=self._value(b"x-request-id"),
            retry_after=self._value(b"retry-after"),
            should_retry=self._value(b"x-should-retry"),
            replica=self._value(b"x-replica"),
            left=self._value(b"x-ratelimit-remaining-requests"),
        )

    def _value(self, name: bytes) -> str:
        value = header(self._headers, name)
        return value.decode("latin-1") if value is not None else ""


def _code_in(tail: bytes) -> str:
    """The code of an error body, or of the error event a stream ended with."""
    payload = tail.strip()
    if not payload.startswith(b"{"):
        at = payload.rfind(b"data: {")
        if at < 0:
            return ""
        payload = payload[at + 6 :].split(b"\n", 1)[0]
    try:
        decoded: Any = msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return ""
    error = decoded.get("error") if isinstance(decoded, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else ""


async def _settle(sample: Sample) -> None:
    """Wait for those under way, each of which has its own limit."""
    while sample.pending:
        await asyncio.wait(list(sample.pending), timeout=_PATIENCE_S)
