"""What an attempt cost, in exact decimal US dollars.

A price that nobody configured and tokens that nobody reported make the cost unknown, which is
None. It is never 0: a ledger that counts unknown as free reports savings nobody made.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from radgateway.exchange import HEDGE_LOST, Attempt, Usage

PER_MILLION = Decimal(1_000_000)


def cost_usd(usage: Usage | None, price: tuple[Decimal, Decimal] | None) -> Decimal | None:
    """The cost of some tokens at a price of (input, output) USD per million tokens."""
    if usage is None or price is None:
        return None
    read, written = usage.input_tokens, usage.output_tokens
    if read is None or written is None:
        return None
    return (price[0] * read + price[1] * written) / PER_MILLION


def request_cost_usd(attempts: Iterable[Attempt]) -> Decimal | None:
    """The cost of a request: all of its attempts together, the abandoned ones included.

    An attempt that failed before it reported any tokens is taken to be free. One that was served,
    broken off or abandoned without a known cost makes the sum unknown.
    """
    total: Decimal | None = None
    for attempt in attempts:
        if attempt.cost_usd is not None:
            total = attempt.cost_usd if total is None else total + attempt.cost_usd
        elif not _free(attempt):
            return None
    return total


def _free(attempt: Attempt) -> bool:
    if not attempt.sent:
        return True
    served = attempt.first_byte is not None or attempt.failure in (None, HEDGE_LOST)
    metered = attempt.usage is not None and attempt.usage.source != "absent"
    refused = attempt.status is not None and attempt.status >= 400
    return not metered and (refused or not served)
