"""What a request is reserved for, before anybody knows, and what it is charged in the end.

An estimate only decides what is reserved. What is charged is what each attempt's record says it
used, which is also what its usage row says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from radgateway.exchange import Attempt, Exchange, Usage
from radgateway.inbound.limit_ledger import NOTHING
from radgateway.inbound.limit_plan import Costs, Prices
from radgateway.inbound.limit_set import NANO
from radgateway.usage.estimate import Lengths
from radgateway.usage.prices import Price, cost_usd


class Estimate(NamedTuple):
    """What a request is reserved for."""

    model: str
    body_bytes: int
    input_tokens: int
    output_tokens: int
    prices: Prices
    """Of whoever may serve it; none where none is known."""

    @property
    def costs(self) -> Costs:
        """The same, by kind."""
        return costs_of(self.input_tokens, self.output_tokens, self.nano_usd)

    @property
    def nano_usd(self) -> int:
        """Billionths of a dollar: enough for whoever will serve it."""
        return max(
            (priced(price, self.input_tokens, self.output_tokens) for price in self.prices),
            default=0,
        )


class Estimator:
    """Estimates requests, and learns from each that was reported. One for a limiter."""

    def __init__(
        self,
        prices_of: Callable[[str], Prices] | None = None,
        lengths: Lengths | None = None,
    ) -> None:
        self._prices_of = prices_of
        self.lengths = lengths if lengths is not None else Lengths()

    def estimate(self, model: str, body_bytes: int, max_output: int | None) -> Estimate:
        """What a request of a size will use; `max_output` are the tokens its caller allows."""
        lengths = self.lengths
        return Estimate(
            model,
            body_bytes,
            lengths.prompt(model, body_bytes),
            lengths.answer(model) if max_output is None else max_output,
            self._prices_of(model) if self._prices_of is not None else (),
        )


def costs_of(input_tokens: int, output_tokens: int, nano_usd: int) -> Costs:
    """What tokens and money come to, by kind; the one request is counted with its start."""
    return (1, input_tokens + output_tokens, input_tokens, output_tokens, nano_usd, 1)


def priced(price: Price, input_tokens: int, output_tokens: int) -> int:
    """Billionths of a dollar, rounded up; 0 where the price is not known."""
    return _nano(cost_usd(Usage(input_tokens, output_tokens), price))


def _nano(cost: Decimal | None) -> int:
    return math.ceil(cost * NANO) if cost is not None else 0


def spent_by(exchange: Exchange, estimate: Estimate, events: int) -> Costs:
    """What a request that has ended is charged: all that its attempts used.

    Where the record does not say how much an attempt used, it is charged as reserved. One that
    used nothing, as it was never sent or its provider declined, counts nothing.
    """
    attempts = exchange.attempts
    if not attempts:
        return _spent_elsewhere(exchange, estimate, events)
    input_tokens = output_tokens = nano_usd = 0
    for attempt in attempts:
        read, written, nano = _used(attempt, estimate)
        input_tokens += read
        output_tokens += written
        nano_usd += nano
    return costs_of(input_tokens, output_tokens, nano_usd)


def _spent_elsewhere(exchange: Exchange, estimate: Estimate, events: int) -> Costs:
    """The same around an app that keeps no record of its calls: `events` went out."""
    if exchange.status is None or exchange.status >= 400:
        return NOTHING
    output = estimate.output_tokens
    if exchange.ended is None or exchange.interrupted is not None or exchange.disconnected:
        output = min(events, output)
    return estimate._replace(output_tokens=output).costs


def _used(attempt: Attempt, estimate: Estimate) -> tuple[int, int, int]:
    """Tokens of input and output, and billionths of a dollar, of one attempt."""
    usage = attempt.usage
    if usage is None:
        return 0, 0, 0
    read, written = usage.input_tokens, usage.output_tokens
    if read is None:
        read = estimate.input_tokens
    if written is None:
        written = estimate.output_tokens
    if attempt.cost_usd is not None:
        return read, written, _nano(attempt.cost_usd)
    return read, written, priced(attempt.price, read, written) if attempt.price is not None else 0


def learn_from(exchange: Exchange, estimate: Estimate, estimator: Estimator) -> None:
    """Teach an estimator from a request whose one answer was reported to its end."""
    final = exchange.final
    usage = final.usage if final is not None else None
    if usage is None or exchange.interrupted is not None or exchange.disconnected:
        return
    estimator.lengths.learn(estimate.model, estimate.body_bytes, usage)
