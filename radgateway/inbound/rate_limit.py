"""RateLimiter: what a caller may still spend.

Limits are written as the `limits` library writes them ("60/minute") and counted in sliding
windows, which allow no double burst where two fixed windows meet. All limits of a caller are
looked at before any is charged, so a refused request costs nothing.

Stands inside authentication, since the limits are the principal's. Answers 429 `rate_limited`,
or 503 `overloaded` where the counts can't be read and the policy is "closed".
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Literal

from limits import RateLimitItem, parse_many
from limits.aio.storage import Storage

from radgateway.asgi import ASGIApp, Clock, Headers, Receive, Scope, Send
from radgateway.errors import Refusal, answer
from radgateway.exchange import joined
from radgateway.inbound.limit_ledger import (
    RETRY_STORAGE_S,
    LocalLedger,
    OnStorageChange,
    SharedLedger,
    Standing,
)
from radgateway.inbound.limit_storage import BoundedMemoryStorage, close_storage, storage_of

LimitsOf = Callable[[str], Sequence[RateLimitItem]]


def client_address(scope: Scope) -> str:
    """The address a request comes from, for callers who have no name. Headers are not asked."""
    client = scope.get("client")
    return f"client:{client[0]}" if client else "client:unknown"


class RateLimiter:
    """Refuses requests beyond the caller's limits, and tells every caller where it stands.

    The caller is the principal where one is known, else what `key` finds in the scope; None from
    `key` lets the request through uncounted. `limits`
    hold for everybody; `limits_of` finds a principal's own instead. `storage` is `memory://`, a
    URI that the `limits` library knows, or one of its async storages; a shared one that does not
    answer in `storage_timeout_s` seconds lets all requests through, or with
    `on_storage_failure="closed"` none. `on_storage_change(available, reason)` is called when that
    begins and when it ends.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: str | Sequence[str] = (),
        *,
        limits_of: LimitsOf | None = None,
        key: Callable[[Scope], str | None] = client_address,
        storage: str | Storage = "memory://",
        storage_timeout_s: float = 0.05,
        on_storage_failure: Literal["open", "closed"] = "open",
        on_storage_change: OnStorageChange | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        if on_storage_failure not in ("open", "closed"):
            raise ValueError(
                f"on_storage_failure must be 'open' or 'closed', not {on_storage_failure!r}"
            )
        self.app = app
        self._limits_of = limits_of or same_for_all(limits)
        self._key = key
        self._fail_closed = on_storage_failure == "closed"
        self.storage = storage_of(storage) if isinstance(storage, str) else storage
        self._owns_storage = isinstance(storage, str)
        self._local: LocalLedger | None = None
        self._shared: SharedLedger | None = None
        if isinstance(self.storage, BoundedMemoryStorage):
            self._local = LocalLedger(self.storage.windows)
        else:
            self._shared = SharedLedger(self.storage, storage_timeout_s, on_storage_change, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope, send, exchange = joined(scope, send)
        principal = exchange.principal
        name = principal.name if principal is not None else self._key(scope)
        items = self._limits_of(name) if name is not None else ()
        if name is None or not items:
            await self.app(scope, receive, send)
            return
        spans = exchange.spans
        began = exchange.clock() if spans is not None else 0.0
        if self._local is not None:
            result: Standing | None = self._local.charge(name, items)
        else:
            assert self._shared is not None
            result = await self._shared.charge(name, items)
        if spans is not None:
            spans.append(("rate_limit_check", began, exchange.clock()))
        if result is None:
            await self._without_counts(scope, receive, send)
        elif result.remaining:
            # A provider's headers of these names are about our account there, not the caller's.
            exchange.own_headers += _headers(result)
            await self.app(scope, receive, send)
        else:
            await answer(scope, send, _refusal(result))

    async def aclose(self) -> None:
        """Close the storage's connections, where the limiter itself made the storage."""
        if self._owns_storage:
            await close_storage(self.storage)

    async def _without_counts(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._fail_closed:
            await self.app(scope, receive, send)
            return
        refusal = Refusal(
            "overloaded",
            "Rate limits can't be checked at this moment.",
            retry_after_s=RETRY_STORAGE_S,
        )
        await answer(scope, send, refusal)


def same_for_all(limits: str | Sequence[str]) -> LimitsOf:
    """A `limits_of` that gives everybody the same limits. Raises ValueError on bad notation."""
    lines = [limits] if isinstance(limits, str) else limits
    items = tuple(item for line in lines for item in parse_many(line))
    return lambda name: items


def _headers(result: Standing) -> Headers:
    """Where the caller stands once this request is counted, in OpenAI's notation."""
    return [
        (b"x-ratelimit-limit-requests", b"%d" % result.item.amount),
        (b"x-ratelimit-remaining-requests", b"%d" % max(0, result.remaining - 1)),
        (b"x-ratelimit-reset-requests", duration(result.reset_s)),
    ]


def _refusal(result: Standing) -> Refusal:
    return Refusal(
        "rate_limited",
        f"The limit of {_worded(result.item)} is reached; retry in {math.ceil(result.wait_s)} s.",
        # A hair more than the limit's own arithmetic, so that who obeys is let in.
        retry_after_s=result.wait_s + 0.001,
        headers=_headers(result),
    )


def _worded(item: RateLimitItem) -> str:
    unit = item.GRANULARITY.name
    per = unit if item.multiples == 1 else f"{item.multiples} {unit}s"
    return f"{item.amount} requests per {per}"


def duration(seconds: float) -> bytes:
    """Seconds as Go writes durations (`12ms`, `1m30s`), as OpenAI's reset headers do."""
    if seconds < 1:
        return b"%dms" % max(0, math.ceil(seconds * 1000))
    whole = math.ceil(seconds)
    if whole < 60:
        return b"%ds" % whole
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return b"%dm%ds" % (minutes, rest)
    return b"%dh%dm%ds" % (*divmod(minutes, 60), rest)
