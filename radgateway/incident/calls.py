"""Calls to services of others: each with a clock, and every end of it told as what to do next.

No error here quotes an address or a header: a Slack address is a secret in itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar

import httpx
import msgspec

from radgateway.incident.outcome import Later, Refused
from radgateway.retry_after import retry_after_s

T = TypeVar("T")

CALL_S: Final = 10.0
"""Seconds that one call may take, from connecting to the last byte."""
_BODY_MAX: Final = 4 * 1024 * 1024
_THROTTLED: Final = frozenset({420, 429})
"""Statuspage says either where it is asked more than once a second."""
_PASSING: Final = frozenset({408, 425}) | _THROTTLED
_THROTTLED_S: Final = 5.0
"""Seconds to leave a service alone that does not say for how long."""


class Failed(Exception):
    """A call that did not come to what was wanted; `outcome` is what to do about it."""

    def __init__(self, outcome: Later | Refused) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Pace:
    """Keeps the calls of one caller so many seconds apart, from the end of one to the next.

    From its end, since what was slow on its way would else arrive just before the next. The first
    waits as well: whoever was before us, a process that was killed, may just have called.
    """

    def __init__(
        self,
        interval_s: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._sleep = sleep
        self._next = clock() + interval_s

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the time of the next call, and make it."""
        wait = self._next - self._clock()
        if wait > 0:
            await self._sleep(wait)
        try:
            yield
        finally:
            self._next = self._clock() + self._interval_s


def client(headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    """A client that goes where it is sent and nowhere else: no proxies or redirects."""
    return httpx.AsyncClient(
        headers=headers,
        timeout=CALL_S,
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=4, max_keepalive_connections=2),
    )


async def call(
    http: httpx.AsyncClient, method: str, url: str, *, json: Any = None, limit_s: float = CALL_S
) -> httpx.Response:
    """The answer, where it is a 2xx. Raises `Failed`."""
    try:
        async with asyncio.timeout(limit_s):
            answer = await _read(http, method, url, json)
    except TimeoutError:
        raise Failed(Later(f"no answer within {limit_s:g} s")) from None
    except httpx.HTTPError as error:
        raise Failed(Later(f"can't be reached: {type(error).__name__}")) from None
    if answer.is_success:
        return answer
    reason = f"it answered {answer.status_code}"
    if answer.status_code >= 500 or answer.status_code in _PASSING:
        after_s = retry_after_s(answer.headers.raw)
        if after_s is None and answer.status_code in _THROTTLED:
            after_s = _THROTTLED_S
        raise Failed(Later(reason, after_s))
    raise Failed(Refused(reason))


async def _read(http: httpx.AsyncClient, method: str, url: str, json: Any) -> httpx.Response:
    async with http.stream(method, url, json=json) as answer:
        parts, size = [], 0
        async for part in answer.aiter_bytes():
            size += len(part)
            if size > _BODY_MAX:
                raise Failed(Refused(f"its answer is larger than {_BODY_MAX} bytes"))
            parts.append(part)
        # Its content is decoded already: the headers that said how would have it done again.
        headers = [(k, v) for k, v in answer.headers.raw if k.lower() != b"content-encoding"]
        return httpx.Response(answer.status_code, headers=headers, content=b"".join(parts))


def decoded(answer: httpx.Response, form: type[T]) -> T:
    """The answer's JSON in a form of ours; what more it holds is left out. Raises `Failed`."""
    try:
        return msgspec.json.decode(answer.content, type=form)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise Failed(Refused("its answer is in no form that is known")) from None
