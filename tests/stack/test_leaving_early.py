"""No way of leaving gets more out of a budget than is in it."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from drive import drive, http_scope
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import now, run_virtual

from radgateway.exchange import Exchange
from radgateway.inbound.limit_plan import LimitBook
from radgateway.inbound.limit_set import Budget, LimitSet
from radgateway.inbound.rate_limit import RateLimiter
from radgateway.inbound.request_context import RequestContextMiddleware
from radgateway.provider.deadline import Deadline
from radgateway.routing.models import Candidate, Route
from radgateway.routing.router import ProviderRouter
from radgateway.upstream.interface import Timeouts
from radgateway.usage.prices import Price, request_cost_usd

READ_USD, WRITE_USD = Decimal(1000), Decimal(3000)
TOKEN_S = 0.01
"""What the model takes for a token."""
CLOCK_S = 1.5
"""The gateway's own patience with it."""
PAD_MAX = 400
DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


def usage(read: int, written: int) -> bytes:
    counts = {"prompt_tokens": read, "completion_tokens": written}
    return json.dumps({"choices": [], "usage": counts}).encode()


def usd(read: int, written: int) -> Decimal:
    return (READ_USD * read + WRITE_USD * written) / 10**6


class Vendor:
    """A model whose answers are all of one length, with the meter of whoever sells it.

    An answer that does not stream is made to its end and charged, whoever waits for it; a stream
    ends with its connection, and what was sent of it is charged.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.charged = Decimal()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        asked = json.loads(body)
        read, tokens = math.ceil(len(body) / 4), min(self.tokens, asked.get("max_tokens", 10**6))
        streams = asked["stream"]
        self.charged += usd(read, 0 if streams else tokens)
        if not streams:
            await asyncio.sleep(TOKEN_S * tokens)
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": usage(read, tokens)})
            return
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(tokens):
            await asyncio.sleep(TOKEN_S)
            self.charged += usd(0, 1)
            await send({"type": "http.response.body", "body": DELTA, "more_body": True})
        end = b"data: " + usage(read, tokens) + b"\n\ndata: [DONE]\n\n"
        await send({"type": "http.response.body", "body": end})


@dataclass(frozen=True)
class Visit:
    """One request, and how long its client stays."""

    pause_s: float
    """After the one before."""
    stays_s: float | None
    """None to the end."""
    stream: bool
    pad: int

    def body(self, most: int | None) -> bytes:
        asked: dict[str, Any] = {"model": "m", "stream": self.stream, "user": "x" * self.pad}
        if self.stream:
            asked["stream_options"] = {"include_usage": True}  # else the gateway adds it
        if most is not None:
            asked["max_tokens"] = most
        return json.dumps(asked).encode()


VISITS = st.lists(
    st.builds(
        Visit,
        st.sampled_from([0.0, 0.1, 3.0]),
        st.none() | st.floats(0, 2.5),
        st.booleans(),
        st.integers(0, PAD_MAX),
    ),
    min_size=12,
    max_size=30,
)


@settings(deadline=None)
@given(
    visits=VISITS,
    tokens=st.integers(1, 200),
    most=st.none() | st.integers(1, 300),
    worth=st.integers(1, 6),
)
def test_no_way_of_leaving_spends_more_than_the_budget(
    visits: list[Visit], tokens: int, most: int | None, worth: int
) -> None:
    """What the vendor charges stays within the budget, as each request's part of it is kept until
    it is known or estimated; what the limiter counts is what the records say, to the last digit."""
    largest = len(Visit(0, None, True, PAD_MAX).body(most)) // 4 + 1
    # An answer is taken for 500 tokens while nothing is known of the model.
    budget = worth * usd(largest, most if most is not None else 500)
    vendor = Vendor(tokens)
    records: list[Exchange] = []

    async def story() -> Decimal:
        price = Price(READ_USD, WRITE_USD)
        router = ProviderRouter(
            {"a": Deadline(vendor, Timeouts(total_s=CLOCK_S))},
            {"m": Route((Candidate("a", "m", price=price),))},
            clock=now,
        )
        own = LimitSet(budget=Budget(usd=budget, per="month"))
        book = LimitBook(of_key=lambda name: own, prices_of=lambda model: (price,))
        limiter = RateLimiter(router, book, key=lambda scope: "caller", clock=now)
        app = RequestContextMiddleware(limiter, on_end=records.append, clock=now)

        async def visit(each: Visit) -> None:
            leave = asyncio.Event()
            if each.stays_s is not None:
                asyncio.get_running_loop().call_later(each.stays_s, leave.set)
            scope = http_scope(
                "/v1/chat/completions", headers=[("content-type", "application/json")]
            )
            await drive(app, scope, each.body(most), leave=leave)

        async with asyncio.TaskGroup() as group:
            for each in visits:
                await asyncio.sleep(each.pause_s)
                group.create_task(visit(each))
        (standing,) = await limiter.standings("caller") or ()
        await limiter.aclose()
        return budget - Decimal(standing.left) / 10**9

    counted = run_virtual(story())
    told = sum((request_cost_usd(made.attempts) or Decimal() for made in records), Decimal())
    assert vendor.charged <= told
    assert vendor.charged <= budget
    assert counted == told
