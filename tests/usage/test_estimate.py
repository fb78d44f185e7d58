"""Lengths are told by bytes until they are known, and a broken answer by what came of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.exchange import Usage
from radgateway.usage.estimate import OUTPUT_TOKENS, TOKENS_PER_S, Lengths, completed


def test_lengths_are_guessed_and_then_learned() -> None:
    """Of each model apart."""
    lengths = Lengths()
    assert (lengths.prompt("m", 401), lengths.answer("m")) == (101, OUTPUT_TOKENS)
    for _ in range(40):
        lengths.learn("m", 1000, Usage(50, 20))
    assert lengths.prompt("m", 1000) == pytest.approx(50, abs=2)
    assert lengths.answer("m") == pytest.approx(20, abs=2)
    assert lengths.answer("other") == OUTPUT_TOKENS


@pytest.mark.parametrize(
    "usage", [Usage(), Usage(5), Usage(None, 5), Usage(5, 5, source="estimated"), Usage(audio_s=3)]
)
def test_only_what_was_reported_is_learned(usage: Usage) -> None:
    """Estimates would confirm themselves."""
    lengths = Lengths()
    lengths.learn("m", 10, usage)
    assert (lengths.prompt("m", 100), lengths.answer("m")) == (25, OUTPUT_TOKENS)


@pytest.mark.parametrize(
    ("most", "waited_s", "tokens"),
    [
        (None, 0.0, OUTPUT_TOKENS),
        (None, 60.0, 60 * TOKENS_PER_S),
        (2000, 0.0, OUTPUT_TOKENS),
        (2000, 60.0, 2000),
        (20, 0.0, 20),
        (0, 60.0, 0),
    ],
)
def test_an_answer_that_was_given_up_is_a_usual_or_a_long_one(
    most: int | None, waited_s: float, tokens: int
) -> None:
    """As long as can be written in the time it was waited for, and as its caller allows."""
    assert Lengths().unseen("m", most, waited_s) == tokens


@given(st.none() | st.integers(0, 10**9), st.floats(0, 86_400))
def test_an_answer_that_was_given_up_is_bounded(most: int | None, waited_s: float) -> None:
    """By what its caller allows; where that is nothing, it is a whole answer at least."""
    tokens = Lengths().unseen("m", most, waited_s)
    assert tokens >= (OUTPUT_TOKENS if most is None else min(OUTPUT_TOKENS, most))
    assert tokens <= (10**9 if most is None else most)


def test_models_are_remembered_within_a_bound() -> None:
    """A wildcard's are its callers' to name."""
    lengths = Lengths()
    for number in range(3000):
        lengths.prompt(f"m{number}", 1)
    assert len(lengths) == 1024


@pytest.mark.parametrize(
    ("reported", "prompt", "parts", "used"),
    [
        (None, 100, 7, Usage(100, 7, source="estimated")),
        (None, 100, 0, Usage(100, 0, source="estimated")),
        (None, 100, None, Usage(100, None, source="estimated")),
        (None, None, None, Usage(source="absent")),
        (Usage(30, 1, 20), 100, 7, Usage(30, 7, 20, source="estimated")),
        (Usage(30, 9, 20), 100, 7, Usage(30, 9, 20, source="estimated")),
        (Usage(30, 9), 100, None, Usage(30, 9, source="estimated")),
        (Usage(30), 100, 7, Usage(30, 7, source="estimated")),
        (Usage(None, 9), 100, 7, Usage(100, 9, source="estimated")),
        (Usage(None, 9), None, 7, Usage(None, 9, source="estimated")),
        (Usage(0, 0), 100, 0, Usage(0, 0, source="estimated")),
    ],
)
def test_what_was_reported_stands_and_the_rest_is_estimated(
    reported: Usage | None, prompt: int | None, parts: int | None, used: Usage
) -> None:
    """And says so; what there is nothing to tell by stays unknown."""
    assert completed(reported, prompt, parts) == used


@given(
    st.none() | st.builds(Usage, *[st.none() | st.integers(0, 99)] * 4),
    st.none() | st.integers(0, 99),
    st.none() | st.integers(0, 99),
)
def test_nothing_reported_is_lost(
    reported: Usage | None, prompt: int | None, parts: int | None
) -> None:
    """No figure becomes less or unknown by being completed."""
    used = completed(reported, prompt, parts)
    was = reported or Usage()
    assert was.input_tokens in (None, used.input_tokens)
    assert was.output_tokens is None or (used.output_tokens or 0) >= was.output_tokens
    assert (used.cached_tokens, used.reasoning_tokens) == (was.cached_tokens, was.reasoning_tokens)
    assert (used.source == "absent") == (used.input_tokens is None and used.output_tokens is None)
