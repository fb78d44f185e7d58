"""Trying a request's candidates in turn until one's response is committed.

The router decides who may serve and in which order; this walks that order for one request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from radgateway.asgi import Headers, Message, Receive, Scope, Send, StreamBroken, request_header
from radgateway.dialects.base import Ask
from radgateway.errors import Refusal
from radgateway.exchange import ATTEMPT_KEY, Attempt, Exchange
from radgateway.routing.models import Candidate, Provider
from radgateway.routing.retry_budget import GRANT_KEY, Grant
from radgateway.routing.trial import Trial

_BODY_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


class Dispatch:
    """One request on its way to a provider. `on_attempt` gets every attempt that has ended."""

    def __init__(
        self,
        scope: Scope,
        send: Send,
        exchange: Exchange,
        ask: Ask,
        on_attempt: Callable[[Attempt], None],
    ) -> None:
        self._scope = scope
        self._send = send
        self._exchange = exchange
        self._ask = ask
        self._on_attempt = on_attempt
        self._grant: Grant | None = scope["state"].get(GRANT_KEY)

    async def run(self, candidates: Sequence[Candidate], providers: Mapping[str, Provider]) -> None:
        """Serve the request. Raises `Refusal` where no attempt's response can be delivered."""
        last: Trial | None = None
        wait_s: float | None = None
        for candidate in candidates:
            provider = providers[candidate.provider]
            closed_for_s = _closed_for_s(provider.app)
            if closed_for_s is not None:
                wait_s = closed_for_s if wait_s is None else min(wait_s, closed_for_s)
                continue
            if not self._may_try(last):
                break
            last = await self._try(candidate, provider)
            if last.released:
                return
        if last is None:
            raise Refusal(
                "no_provider_available",
                f"No provider of the model {self._ask.model!r} takes requests at this moment.",
                retry_after_s=wait_s if wait_s is not None else 1.0,
            )
        if self._grant is not None and self._grant.exhausted == "ratio":
            raise Refusal(
                "retry_budget_exhausted",
                "The attempt failed, and the budget for retries is spent; "
                f"the last failure was {last.attempt.failure}.",
                retry_after_s=1.0,
            )
        await last.deliver()

    def _may_try(self, last: Trial | None) -> bool:
        if self._grant is None:
            return True
        return self._grant.take(free=last is not None and not last.attempt.sent)

    async def _try(self, candidate: Candidate, provider: Provider) -> Trial:
        exchange, ask = self._exchange, self._ask
        operation = exchange.operation
        assert operation is not None
        attempt = exchange.begin_attempt(candidate.provider, candidate.model, candidate.price)
        include_usage = provider.include_usage and not ask.usage_wanted
        trial = Trial(
            attempt,
            exchange,
            self._scope,
            self._send,
            operation.dialect,
            stream=ask.stream,
            hide_usage=include_usage,
        )
        path, body = operation.dialect.address(ask, candidate.model, include_usage=include_usage)
        scope = _provider_scope(self._scope, path, body, attempt)
        try:
            await provider.app(scope, _replay(body), trial.send)
            if not trial.finished:
                raise StreamBroken("upstream_truncated")
        except StreamBroken as broken:
            trial.broken(str(broken))
            if trial.released:
                raise
        except Exception:
            attempt.failure = "internal_error"  # a bug in the provider's app: raised on
            raise
        finally:
            trial.close()
            self._on_attempt(attempt)
        return trial


def _closed_for_s(app: Any) -> float | None:
    """Seconds until a provider would take a request, None where it would now.

    Asks each layer that can tell (`available`), so a refusal is foreseen and not made; the layer
    whose word decided hears that it was passed over, where it wants to (`passed_over`).
    """
    while app is not None:
        available = getattr(app, "available", None)
        if available is not None and not available():
            passed_over = getattr(app, "passed_over", None)
            if passed_over is not None:
                passed_over()
            retry_after_s = getattr(app, "retry_after_s", None)
            return retry_after_s() if retry_after_s is not None else 1.0
        app = getattr(app, "app", None)
    return None


def _provider_scope(scope: Scope, path: str, body: bytes, attempt: Attempt) -> Scope:
    """The request as a provider gets it: at its own root, with the length of its own body."""
    headers: Headers = scope["headers"]
    length = b"%d" % len(body)
    if request_header(scope, b"content-length") != length:
        headers = [pair for pair in headers if pair[0].lower() not in _BODY_FRAMING]
        headers.append((b"content-length", length))
    return {
        **scope,
        "path": path,
        "raw_path": path.encode("latin-1", "replace"),
        "root_path": "",
        "headers": headers,
        "state": {**scope["state"], ATTEMPT_KEY: attempt},
    }


def _replay(body: bytes) -> Receive:
    """A receive that hands out the body once, then waits: the watch owns the disconnect."""
    pending = True

    async def receive_replayed() -> Message:
        nonlocal pending
        if pending:
            pending = False
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.get_running_loop().create_future()
        raise AssertionError("only cancellation ends the wait")

    return receive_replayed
