"""Trying a request's candidates until one's response is committed.

The router decides who may serve and in which order, `failover.py` what comes after a failure; this
makes the attempts of one request. Only where a model asks for hedges does one run in a task of its
own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from radgateway.asgi import Headers, Message, Receive, Scope, Send, StreamBroken, request_header
from radgateway.dialects.base import Ask
from radgateway.errors import OWN_REFUSALS, Refusal
from radgateway.exchange import ATTEMPT_KEY, HEDGE_LOST, Attempt, Exchange
from radgateway.routing.failover import Failover, Plan, closed_for_s
from radgateway.routing.grant import GRANT_KEY, Grant
from radgateway.routing.hedge import HedgeConfig, Race
from radgateway.routing.latency import LatencyBook
from radgateway.routing.models import Candidate, Provider
from radgateway.routing.trial import Trial
from radgateway.usage.estimate import Lengths

_BODY_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


class Dispatch:
    """One request on its way to a provider; `on_attempt` is told of every attempt that ended."""

    def __init__(
        self,
        scope: Scope,
        send: Send,
        exchange: Exchange,
        ask: Ask,
        *,
        book: LatencyBook,
        lengths: Lengths,
        on_attempt: Callable[[Attempt], object],
        rng: random.Random,
    ) -> None:
        self._scope = scope
        self._send = send
        self._exchange = exchange
        self._ask = ask
        self._book = book
        self._lengths = lengths
        self._on_attempt = on_attempt
        self._rng = rng
        self._grant: Grant | None = scope["state"].get(GRANT_KEY)
        self._last: tuple[Candidate, Trial] | None = None
        self._race: Race | None = None

    async def run(
        self,
        candidates: Sequence[Candidate],
        providers: Mapping[str, Provider],
        hedge: HedgeConfig | None = None,
    ) -> None:
        """Serve the request. Raises `Refusal` where no attempt's response can be delivered."""
        at = self._first_open(candidates, providers)
        first, grant = candidates[at], self._grant
        if grant is not None:
            grant.take()
        failover: Failover | None = None
        delay_s = self._hedge_after_s(first, hedge) if hedge is not None else None
        if delay_s is None:
            trial = await self._try(first, providers[first.provider])
        else:
            failover = self._failover(candidates[at + 1 :], providers)
            trial = await self._hedged(first, providers, delay_s, failover)
        if trial.released:
            return
        if failover is None:
            failover = self._failover(candidates[at + 1 :], providers)
            failover.failed(first, trial)
        while (plan := failover.next()) is not None:
            if plan.pause_s and not await self._pause(plan, providers):
                continue
            trial = await self._try(plan.candidate, providers[plan.candidate.provider])
            if trial.released:
                return
            failover.failed(plan.candidate, trial)
        self._exchange.final = trial.attempt
        if grant is not None and grant.exhausted in ("ratio", "storm"):
            raise Refusal(
                "retry_budget_exhausted",
                "The attempt failed, and the budget for further ones is spent; "
                f"the last failure was {trial.attempt.failure}.",
                retry_after_s=failover.retry_after_s(),
            )
        await trial.deliver()

    def _first_open(
        self, candidates: Sequence[Candidate], providers: Mapping[str, Provider]
    ) -> int:
        wait_s: float | None = None
        for at, candidate in enumerate(candidates):
            closed_s = closed_for_s(providers[candidate.provider].app)
            if closed_s is None:
                return at
            wait_s = closed_s if wait_s is None else min(wait_s, closed_s)
        raise Refusal(
            "no_provider_available",
            f"No provider of the model {self._ask.model!r} takes requests at this moment.",
            retry_after_s=wait_s if wait_s is not None else 1.0,
        )

    def _failover(
        self, untried: Sequence[Candidate], providers: Mapping[str, Provider]
    ) -> Failover:
        return Failover(
            untried,
            providers,
            self._grant,
            exchange=self._exchange,
            book=self._book,
            rng=self._rng,
        )

    async def _pause(self, plan: Plan, providers: Mapping[str, Provider]) -> bool:
        """Wait before a candidate is tried again; whether it still takes requests then."""
        exchange, made = self._exchange, False
        began = exchange.clock()
        try:
            await asyncio.sleep(plan.pause_s)
            made = closed_for_s(providers[plan.candidate.provider].app) is None
        finally:
            ended = exchange.clock()
            exchange.backed_off_s += ended - began
            if exchange.spans is not None:
                exchange.spans.append(("retry_backoff", began, ended))
            if not made and self._grant is not None:
                self._grant.untake()
        return made

    def _hedge_after_s(self, candidate: Candidate, hedge: HedgeConfig) -> float | None:
        """Seconds after which the first attempt is late; None where it is not hedged."""
        if self._grant is None or len(self._ask.body) > hedge.max_body_bytes:
            return None
        usual_s = self._book.quantile_s(candidate, hedge.quantile, hedge.min_samples)
        return max(usual_s, hedge.min_delay_s) if usual_s is not None else None

    async def _hedged(
        self,
        first: Candidate,
        providers: Mapping[str, Provider],
        delay_s: float,
        failover: Failover,
    ) -> Trial:
        """The first attempt, with another beside it once it is late; the trial that matters."""
        race = self._race = Race()
        ended: list[Trial] = []

        async def attempt(candidate: Candidate, *, hedge: bool) -> None:
            trial = await self._try(candidate, providers[candidate.provider], hedge=hedge)
            ended.append(trial)
            if not trial.released and not race.lost(hedge=hedge):
                failover.failed(candidate, trial)

        def second() -> Coroutine[Any, Any, None] | None:
            under_way = self._exchange.final
            if race.hedge_won is not None or under_way is None or under_way.first_byte is not None:
                return None
            candidate = failover.hedge()
            return attempt(candidate, hedge=True) if candidate is not None else None

        await race.run(attempt(first, hedge=False), delay_s, second)
        self._race = None
        return next((trial for trial in ended if trial.released), ended[-1])

    def _commit(self, trial: Trial) -> bool:
        """Whether a trial's response may go out, now that it could."""
        race, attempt = self._race, trial.attempt
        if race is not None and not race.claim(hedge=attempt.hedge):
            return False
        self._exchange.final = attempt
        if self._grant is not None:
            self._grant.pay_in()
        return True

    async def _try(self, candidate: Candidate, provider: Provider, *, hedge: bool = False) -> Trial:
        exchange, ask = self._exchange, self._ask
        operation = exchange.operation
        assert operation is not None
        price = candidate.price
        if price is not None:
            price = price.at(exchange.started_at)
        attempt = exchange.begin_attempt(candidate.provider, candidate.model, price, hedge=hedge)
        include_usage = provider.include_usage and not ask.usage_wanted
        trial = Trial(
            attempt,
            exchange,
            self._scope,
            self._send,
            operation.dialect,
            ask=ask,
            commit=self._commit,
            lengths=self._lengths,
            hide_usage=include_usage,
        )
        path, body = operation.dialect.address(ask, candidate.model, include_usage=include_usage)
        scope = _provider_scope(self._scope, path, body, attempt)
        try:
            await provider.app(scope, _replay(body, attempt), trial.send)
            if not trial.finished:
                raise StreamBroken("upstream_truncated")
            self._settle(attempt)
        except StreamBroken as broken:
            trial.broken(str(broken))
            self._settle(attempt)
            if trial.released:
                raise
        except Exception:
            attempt.failure = "internal_error"  # a bug in the provider's app: raised on
            raise
        finally:
            race = self._race
            if race is not None and race.lost(hedge=hedge):
                attempt.failure = attempt.failure or HEDGE_LOST
            trial.close()
            self._on_attempt(attempt)
        return trial

    def _settle(self, attempt: Attempt) -> None:
        """Tell the budget what an attempt came to; one that was cancelled came to nothing."""
        grant = self._grant
        if grant is None:
            return
        if attempt.failure is None:
            grant.succeeded(attempt.provider)
        elif attempt.failure in OWN_REFUSALS or not attempt.sent:
            grant.unsent()
        else:
            grant.failed(attempt.provider)


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


def _replay(body: bytes, attempt: Attempt) -> Receive:
    """A receive that hands out the body once, then waits: the watch owns the disconnect.

    Who has taken the body has the request, unless it says that it did not pass it on.
    """
    pending = True

    async def receive_replayed() -> Message:
        nonlocal pending
        if pending:
            pending = False
            attempt.sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.get_running_loop().create_future()
        raise AssertionError("only cancellation ends the wait")

    return receive_replayed
