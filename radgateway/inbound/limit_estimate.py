"""What a request will use, before anybody knows, and what it did use, once somebody does.

Nothing is tokenised: that costs more than all else a gateway does (a prompt of 1.5 million tokens
takes 150 ms). The prompt is told by its bytes and the answer by what the caller allows, both
corrected by what the model's requests really came to. An estimate only decides what is reserved;
what is charged in the end is what the provider reports.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from radgateway.exchange import Attempt, Exchange
from radgateway.inbound.limit_ledger import NOTHING
from radgateway.inbound.limit_plan import Costs, Price
from radgateway.inbound.limit_set import NANO

TOKENS_PER_BYTE = 0.25
"""Tokens of a prompt per byte of its request, until the model's own are known: four bytes a token
is English; JSON and other languages differ, and a picture comes to far less."""
OUTPUT_TOKENS = 500
"""Tokens of an answer whose length nobody bounds, until the model's own are known."""
_LEARNED = 0.2
"""Weight of each new request in what is known of its model."""
_MODELS_MAX = 1024
"""Models remembered; callers choose the names, so the memory is bounded."""
_NO_OUTPUT = frozenset({"countTokens", "embedContent", "batchEmbedContents"})


class Estimate(NamedTuple):
    """What a request is reserved for."""

    model: str
    body_bytes: int
    input_tokens: int
    output_tokens: int
    price: tuple[float, float]
    """Billionths of a dollar per token, input and output; 0 where unknown."""

    @property
    def costs(self) -> Costs:
        """The same, by kind."""
        return costs_of(self.input_tokens, self.output_tokens, self.nano_usd)

    @property
    def nano_usd(self) -> int:
        """Billionths of a dollar."""
        return priced(self.price, self.input_tokens, self.output_tokens)


class _Known:
    __slots__ = ("output_tokens", "price", "tokens_per_byte")

    def __init__(self, price: tuple[float, float]) -> None:
        self.price = price
        self.tokens_per_byte = TOKENS_PER_BYTE
        self.output_tokens = float(OUTPUT_TOKENS)


class Estimator:
    """Estimates requests, and learns from each that was reported. One for a gateway."""

    def __init__(self, price_of: Callable[[str], Price | None] | None = None) -> None:
        self._price_of = price_of
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def estimate(self, model: str, body_bytes: int, max_output: int | None) -> Estimate:
        """What a request of a size will use; `max_output` are the tokens its caller allows."""
        known = self._of(model)
        output = known.output_tokens if max_output is None else max_output
        return Estimate(
            model,
            body_bytes,
            math.ceil(body_bytes * known.tokens_per_byte),
            math.ceil(output),
            known.price,
        )

    def learn(self, estimate: Estimate, input_tokens: int, output_tokens: int) -> None:
        """Take note of what an estimated request really used."""
        known = self._of(estimate.model)
        if estimate.body_bytes:
            seen = input_tokens / estimate.body_bytes
            known.tokens_per_byte += _LEARNED * (seen - known.tokens_per_byte)
        known.output_tokens += _LEARNED * (output_tokens - known.output_tokens)

    def _of(self, model: str) -> _Known:
        known = self._known.get(model)
        if known is None:
            price = self._price_of(model) if self._price_of is not None else None
            # USD per million tokens are thousands of billionths per token.
            nano = (float(price[0]) * 1000, float(price[1]) * 1000) if price else (0.0, 0.0)
            known = self._known[model] = _Known(nano)
            if len(self._known) > _MODELS_MAX:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(model)
        return known


def costs_of(input_tokens: int, output_tokens: int, nano_usd: int) -> Costs:
    """What tokens and money come to, by kind; the one request is counted with its start."""
    return (1, input_tokens + output_tokens, input_tokens, output_tokens, nano_usd, 1)


def priced(price: tuple[float, float], input_tokens: int, output_tokens: int) -> int:
    """Billionths of a dollar, rounded up."""
    return math.ceil(round(price[0] * input_tokens + price[1] * output_tokens, 3))


def writes_nothing(exchange: Exchange) -> bool:
    """Whether an operation has no tokens of output, whatever its model."""
    operation = exchange.operation
    return operation is not None and (
        operation.api_type == "embeddings" or operation.action in _NO_OUTPUT
    )


def spent_by(exchange: Exchange, estimate: Estimate, events: int) -> Costs:
    """What a request that has ended is charged: all that its attempts used.

    What a provider reports counts. An answer that was not reported counts as estimated, or where
    it broke off as the `events` of its stream that went out; a failure or a refusal counts
    nothing.
    """
    whole = exchange.ended is not None and exchange.interrupted is None
    whole = whole and not exchange.disconnected
    attempts = exchange.attempts
    if not attempts:
        # Around an app that keeps no record of its calls.
        if exchange.status is None or exchange.status >= 400:
            return NOTHING
        output = estimate.output_tokens if whole else min(events, estimate.output_tokens)
        nano = priced(estimate.price, estimate.input_tokens, output)
        return costs_of(estimate.input_tokens, output, nano)
    input_tokens = output_tokens = nano_usd = 0
    final = exchange.final
    for attempt in attempts:
        last = attempt is final
        read, written, nano = _used(attempt, estimate, events if last else 0, whole=whole and last)
        input_tokens += read
        output_tokens += written
        nano_usd += nano
    return costs_of(input_tokens, output_tokens, nano_usd)


def _used(
    attempt: Attempt, estimate: Estimate, events: int, *, whole: bool
) -> tuple[int, int, int]:
    """Tokens of input and output, and billionths of a dollar, of one attempt."""
    usage = attempt.usage
    read = usage.input_tokens if usage is not None else None
    written = usage.output_tokens if usage is not None else None
    served = attempt.first_byte is not None and (attempt.status or 500) < 400
    if read is None and written is None and not served:
        return 0, 0, 0
    exact = read is not None and written is not None
    if not whole and events > (written or 0):
        # A stream that broke off says at its start what it had written by then.
        written, exact = events, False
    if read is None:
        read = estimate.input_tokens if served else 0
    if written is None:
        written = estimate.output_tokens if whole else 0
    if exact and attempt.cost_usd is not None:
        return read, written, math.ceil(attempt.cost_usd * NANO)
    if attempt.price is None:
        return read, written, 0
    price = float(attempt.price[0]) * 1000, float(attempt.price[1]) * 1000
    return read, written, priced(price, read, written)


def learn_from(exchange: Exchange, estimate: Estimate, estimator: Estimator) -> None:
    """Teach an estimator from a request whose one answer was reported to its end."""
    final = exchange.final
    usage = final.usage if final is not None else None
    if usage is None or exchange.interrupted is not None or exchange.disconnected:
        return
    if usage.input_tokens is not None and usage.output_tokens is not None:
        estimator.learn(estimate, usage.input_tokens, usage.output_tokens)
