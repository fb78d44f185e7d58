from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.exchange import HEDGE_LOST, Attempt
from radgateway.routing.latency import SAMPLES, LatencyBook
from radgateway.routing.models import Candidate

A = Candidate("a", "m")


def attempt(
    *, first_byte: float | None, ended: float = 9.0, failure: str | None = None, hedge: bool = False
) -> Attempt:
    made = Attempt("a", "m", 1.0)
    made.first_byte, made.ended, made.failure, made.hedge = first_byte, ended, failure, hedge
    return made


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300), st.floats(0.5, 0.99))
def test_the_quantile_is_that_of_the_latest_times(times: list[float], quantile: float) -> None:
    """Nearest rank over the last 128, however many came before."""
    book = LatencyBook(lambda: 0.0)
    for seconds in times:
        book.observe("a", "m", seconds)
    latest = sorted(times[-SAMPLES:])
    assert book.quantile_s(A, quantile) == latest[math.ceil(quantile * len(latest)) - 1]


def test_it_follows_a_change() -> None:
    """A provider that became slow is known as slow after as many calls as are kept."""
    book = LatencyBook(lambda: 0.0)
    for seconds in [0.1] * 1000 + [2.0] * SAMPLES:
        book.observe("a", "m", seconds)
        book.quantile_s(A, 0.95)
    assert book.quantile_s(A, 0.5) == 2.0


def test_a_few_calls_are_no_quantile() -> None:
    """Nothing is known before the first call, and nothing said before the least number of them."""
    book = LatencyBook(lambda: 0.0)
    assert book.quantile_s(A, 0.95) is None
    for number in range(20):
        assert book.quantile_s(A, 0.95, 20) is None
        book.observe("a", "m", float(number))
    assert book.quantile_s(A, 0.95, 20) == 18.0


def test_failures_have_no_time() -> None:
    """They weigh on the average that orders candidates, not on when a hedge is due."""
    book = LatencyBook(lambda: 0.0)
    book.observe("a", "m", 0.2)
    book.observe("a", "m", None)
    assert book.expect_s(A) == 10.0
    assert book.quantile_s(A, 0.99) == 0.2


@pytest.mark.parametrize(
    ("ended", "learned"),
    [
        (attempt(first_byte=3.0), 2.0),
        (attempt(first_byte=3.0, failure=HEDGE_LOST), 2.0),
        # Late, and given up for it: it would have taken at least as long.
        (attempt(first_byte=None, failure=HEDGE_LOST), 8.0),
        # A hedge whose rival was first may have had no time to answer at all.
        (attempt(first_byte=None, failure=HEDGE_LOST, hedge=True), None),
        (attempt(first_byte=None), None),
        (attempt(first_byte=None, failure="bulkhead_full"), None),
        (attempt(first_byte=3.0, failure="http_500"), None),
    ],
)
def test_what_an_attempt_teaches(ended: Attempt, learned: float | None) -> None:
    """Only times that are known, or known to be at least so long."""
    book = LatencyBook(lambda: 0.0)
    book.learn(ended)
    assert book.quantile_s(A, 0.5) == learned


def test_what_is_kept_is_bounded() -> None:
    """Callers choose the names under a wildcard."""
    book = LatencyBook(lambda: 0.0, max_entries=10)
    for number in range(1000):
        book.observe("a", str(number), 1.0)
    assert len(book._known) <= 10
    for _ in range(1000):
        book.observe("a", "m", 1.0)
    assert len(book._known["a", "m"]._ring) == SAMPLES
