from __future__ import annotations

import random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.routing.backoff import full_jitter_s, pause_s
from radgateway.routing.retry_budget import RetryBudgetConfig

CONFIG = RetryBudgetConfig(backoff_s=0.1, backoff_max_s=2, retry_after_max_s=2)


@given(st.integers(0, 10_000), st.floats(0, 60), st.floats(0, 60), st.integers())
def test_the_wait_is_between_nothing_and_the_cap(
    waits: int, base_s: float, cap_s: float, seed: int
) -> None:
    """However many came before: no overflow, and never longer than allowed."""
    assert 0 <= full_jitter_s(waits, base_s, cap_s, random.Random(seed)) <= cap_s


def test_it_doubles_until_the_cap() -> None:
    """The mean of full jitter is half of what the exponential would be."""
    rng = random.Random(1)
    for waits, most_s in enumerate([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]):
        waited = [full_jitter_s(waits, 0.1, 2.0, rng) for _ in range(4000)]
        assert max(waited) <= most_s
        assert mean(waited) == pytest.approx(most_s / 2, rel=0.05)


@given(asked_s=st.floats(0, 2), passed_s=st.floats(0, 5), seed=st.integers())
def test_what_the_provider_asks_for_is_waited_out(
    asked_s: float, passed_s: float, seed: int
) -> None:
    """Not earlier than it said, less the time gone since; and not all of them at once."""
    wait_s = pause_s(CONFIG, 0, asked_s, passed_s, random.Random(seed))
    assert wait_s is not None
    assert asked_s - passed_s <= wait_s <= max(0, asked_s - passed_s) + 0.1


def test_one_that_asks_for_long_is_not_tried_again() -> None:
    """The caller can wait as well without holding a connection here."""
    assert pause_s(CONFIG, 0, 2.01, 5.0, random.Random(0)) is None
