"""ProviderRouter: which provider answers, and which one next if that fails.

It reads the body once, finds the model's candidates, orders them by the model's strategy and tries
them until one's response reaches the commit point. A candidate whose breaker is open or whose
bulkhead is full is passed over without costing an attempt. It is the one owner of retries,
failovers and hedges: how many attempts may be made is RetryBudget's to say.

Stands innermost of what faces the client, around the providers. Answers `unknown_path`,
`method_not_allowed`, `unknown_model`, `dialect_mismatch`, `no_provider_available`,
`retry_budget_exhausted`, what the body is refused for, and the last attempt's failure.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence

from radgateway.asgi import ASGIApp, Clock, Receive, Scope, Send, decline
from radgateway.body import ClientDisconnected
from radgateway.dialects.base import Ask
from radgateway.disconnect import DisconnectWatch
from radgateway.errors import Refusal, answer
from radgateway.exchange import Attempt, Exchange, Operation, joined
from radgateway.intake import read_ask
from radgateway.routing import strategies
from radgateway.routing.dispatch import Dispatch
from radgateway.routing.latency import LatencyBook
from radgateway.routing.models import Candidate, ModelTable, Provider, Route
from radgateway.routing.session import session_key
from radgateway.shared_timer import SharedTimer
from radgateway.usage.estimate import Lengths

_MAX_BODY_BYTES = 32 * 1024 * 1024


class ProviderRouter:
    """An ASGI app that serves the data plane from a set of providers.

    `providers` maps a name to a `Provider`, or to a bare ASGI app that speaks every dialect;
    `models` maps what callers ask for to a `Route`, or is a `ModelTable`. `on_attempt` is told of
    every attempt that has ended. Routers that are given the same `latencies` and `lengths` share
    what they have learned of candidates and of models.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider | ASGIApp],
        models: ModelTable | Mapping[str, Route],
        *,
        max_body_bytes: int = _MAX_BODY_BYTES,
        body_timeout_s: float = 60.0,
        on_attempt: Callable[[Attempt], object] | None = None,
        latencies: LatencyBook | None = None,
        lengths: Lengths | None = None,
        rng: random.Random | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._providers = {
            name: entry if isinstance(entry, Provider) else Provider(entry)
            for name, entry in providers.items()
        }
        self.models = models if isinstance(models, ModelTable) else ModelTable(models)
        for name, route in self.models.routes.items():
            for candidate in route.candidates:
                if candidate.provider not in self._providers:
                    raise ValueError(
                        f"model {name!r} names the provider {candidate.provider!r}, "
                        f"which is none of {sorted(self._providers)}"
                    )
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._on_attempt = on_attempt
        self._rng = rng or random.Random()
        self._latencies = latencies if latencies is not None else LatencyBook(clock)
        self._lengths = lengths if lengths is not None else Lengths()
        self._timer = SharedTimer()

    @property
    def providers(self) -> dict[str, ASGIApp]:
        """The providers' apps by name; `describe` follows them."""
        return {name: provider.app for name, provider in self._providers.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await decline(scope, receive, send)
            return
        scope, send, exchange = joined(scope, send)
        try:
            ask = await read_ask(
                scope,
                receive,
                exchange,
                limit_bytes=self._max_body_bytes,
                timeout_s=self._body_timeout_s,
            )
            route = self._route(ask)
            candidates = self._candidates(scope, ask, exchange, route)
            with DisconnectWatch(receive, exchange, self._timer):
                dispatch = Dispatch(
                    scope,
                    send,
                    exchange,
                    ask,
                    book=self._latencies,
                    lengths=self._lengths,
                    on_attempt=self._learn,
                    rng=self._rng,
                )
                try:
                    await dispatch.run(candidates, self._providers, route.hedge)
                except Refusal as refusal:
                    exchange.delivered = True
                    await answer(scope, send, refusal)
        except Refusal as refusal:
            await answer(scope, send, refusal)
        except ClientDisconnected:
            exchange.disconnected = True

    def _route(self, ask: Ask) -> Route:
        route = self.models.find(ask.model)
        if route is None:
            raise Refusal(
                "unknown_model",
                f"The model {ask.model!r} is not served here; GET /v1/models lists those that are.",
            )
        return route

    def _candidates(
        self, scope: Scope, ask: Ask, exchange: Exchange, route: Route
    ) -> Sequence[Candidate]:
        operation = exchange.operation
        assert operation is not None
        spoken = [c for c in route.candidates if self._speaks(c, operation)]
        if not spoken:
            raise self._mismatch(ask.model, route, operation)
        if len(spoken) == 1:
            return spoken

        def session() -> bytes:
            return session_key(scope, ask.model, ask.body, ask.content_type)

        order = strategies.BY_NAME[route.strategy]
        return order(spoken, self._rng, self._latencies, session, exchange.started_at)

    def _speaks(self, candidate: Candidate, operation: Operation) -> bool:
        dialects = self._providers[candidate.provider].dialects
        return dialects is None or operation.dialect.name in dialects

    def _mismatch(self, model: str, route: Route, operation: Operation) -> Refusal:
        # Translating between dialects would begin here: with the caller's and a candidate's.
        theirs = sorted(
            {
                name
                for candidate in route.candidates
                for name in self._providers[candidate.provider].dialects or ()
            }
        )
        return Refusal(
            "dialect_mismatch",
            f"This path speaks {operation.dialect.name}, but the providers of the model "
            f"{model!r} speak {', '.join(theirs)}; call it through that API.",
        )

    def _learn(self, attempt: Attempt) -> None:
        self._latencies.learn(attempt)
        if self._on_attempt is not None:
            self._on_attempt(attempt)
