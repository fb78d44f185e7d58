from __future__ import annotations

import random
import statistics
import timeit

import pytest

from radgateway.exchange import Attempt
from radgateway.provider.health import HealthBook, ProviderHealth


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def attempt(
    ended: float,
    *,
    first_byte_s: float | None = 0.5,
    status: int | None = 200,
    failure: str | None = None,
    retry_after_s: float | None = None,
) -> Attempt:
    made = Attempt("p", "m", ended - 1.0)
    made.ended, made.status, made.failure = ended, status, failure
    made.first_byte = None if first_byte_s is None else made.started + first_byte_s
    made.retry_after_s = retry_after_s
    return made


def failed(ended: float, reason: str = "http_5xx", **more: float) -> Attempt:
    return attempt(ended, first_byte_s=None, status=500, failure=reason, **more)


def health(clock: Clock) -> ProviderHealth:
    return ProviderHealth(clock=clock, wall=lambda: 1.5e9)


def test_without_traffic_nothing_is_claimed() -> None:
    """Neither fast nor slow, neither well nor failing."""
    made = health(Clock())
    assert not made.failing
    assert made.read() == (0, 0, None, None, None, None, None, None)


def test_latencies_are_those_of_first_bytes() -> None:
    """Median and 95th percentile by nearest rank, and an average that follows the last ones."""
    clock = Clock()
    made = health(clock)
    waits = [n / 100 for n in range(1, 101)]
    random.Random(7).shuffle(waits)
    for wait_s in waits:
        made.observe(attempt(clock.now, first_byte_s=wait_s))
    read = made.read()
    assert read.first_byte_p50_s == pytest.approx(0.50)
    assert read.first_byte_p95_s == pytest.approx(0.95)
    assert read.first_byte_ewma_s == pytest.approx(statistics.mean(waits[-20:]), abs=0.2)
    for _ in range(60):
        made.observe(attempt(clock.now, first_byte_s=9.0))
    assert made.read().first_byte_ewma_s == pytest.approx(9.0, rel=0.01)


def test_failures_are_counted_and_the_last_one_is_kept() -> None:
    """With its reason, its status, when it was, and how long the provider asked to be left."""
    clock = Clock()
    made = health(clock)
    for _ in range(3):
        made.observe(attempt(clock.now))
    made.observe(failed(clock.now, "http_429", retry_after_s=20.0))
    read = made.read()
    assert (read.attempts, read.failures, read.error_ratio) == (4, 1, 0.25)
    assert read.last_error == ("http_429", 500, 1.5e9)
    assert read.retry_after_s == 20
    clock.now += 15
    assert made.read().retry_after_s == 5
    clock.now += 6
    assert made.read().retry_after_s is None
    assert made.read().last_error is not None


def test_what_says_nothing_about_the_provider_is_left_out() -> None:
    """Our own refusals, and what the client abandoned before an answer; a 400 is an answer."""
    clock = Clock()
    made = health(clock)
    made.observe(failed(clock.now, "bulkhead_full"))
    made.observe(attempt(clock.now, status=None, first_byte_s=None))
    made.observe(attempt(clock.now, status=400, first_byte_s=None))
    read = made.read()
    assert (read.attempts, read.failures, read.last_error) == (1, 0, None)
    assert read.first_byte_p50_s is None


def test_the_window_forgets() -> None:
    """Five minutes are shown, thirty seconds are judged."""
    clock = Clock()
    made = health(clock)
    for _ in range(10):
        made.observe(failed(clock.now))
    judged = [made.failing]
    clock.now += 31
    judged.append(made.failing)
    assert judged == [True, False]
    assert made.read().failures == 10
    clock.now += 270
    assert made.read().attempts == 0


@pytest.mark.parametrize(("well", "ill", "failing"), [(0, 9, False), (0, 10, True), (6, 5, False)])
def test_failing_takes_ten_attempts_and_half_of_them(well: int, ill: int, failing: bool) -> None:
    """A single failure after a quiet night is not an outage."""
    clock = Clock()
    made = health(clock)
    for number in range(well + ill):
        made.observe(attempt(clock.now) if number < well else failed(clock.now))
    assert made.failing is failing


def test_memory_is_bounded() -> None:
    """However many attempts there were, 256 are kept."""
    clock = Clock()
    made = health(clock)
    for _ in range(5000):
        made.observe(attempt(clock.now))
    assert made.read().attempts == 256


def test_a_book_knows_its_providers_and_no_others() -> None:
    """An attempt elsewhere is nobody's."""
    one, two = health(Clock()), health(Clock())
    book = HealthBook({"p": one, "q": two})
    book.observe(attempt(1000.0))
    stranger = attempt(1000.0)
    stranger.provider = "x"
    book.observe(stranger)
    assert (one.read().attempts, two.read().attempts) == (1, 0)


def test_it_costs_next_to_nothing() -> None:
    """Told of every attempt: under 2 microseconds on a busy machine, 0.4 on a quiet one."""
    book = HealthBook({"p": ProviderHealth()})
    made = attempt(1000.0)
    best_s = min(timeit.repeat(lambda: book.observe(made), number=10_000, repeat=7)) / 10_000
    assert best_s < 2e-6
