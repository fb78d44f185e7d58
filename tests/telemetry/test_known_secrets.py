"""Configured secrets are hidden whatever they look like, and cost no more for being many."""

from __future__ import annotations

import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.telemetry.known_secrets import KnownSecrets

MARK = "[x]"


def knowing(*secrets: str) -> KnownSecrets:
    """A set of these."""
    made = KnownSecrets()
    made.add(secrets)
    return made


@pytest.mark.parametrize(
    ("secret", "text", "hidden"),
    [
        ("alice-laptop-7", "model alice-laptop-7 is unknown", "model [x] is unknown"),
        ("alice-laptop-7", '{"k":"alice-laptop-7"}', '{"k":"[x]"}'),
        ("alice-laptop-7", "gpt-alice-laptop-7-mini", "gpt-[x]-mini"),
        ("alice-laptop-7", "a%20alice-laptop-7\\nalice-laptop-7", "a%20[x]\\n[x]"),
        ("alice-laptop-7", "malice-laptop-7", "malice-laptop-7"),
        ("alice-laptop-7", "alice-laptop-8", "alice-laptop-8"),
        ("p@ssw0rdlong", "of ssw0rdlong", "of [x]"),
        ("hunter2", "hunter2", "hunter2"),
        ("postgres", "postgres", "postgres"),
        ("radgateway99", "at radgateway99/db", "at [x]/db"),
    ],
    ids=[
        "word",
        "json",
        "in a name",
        "escaped",
        "in a word",
        "another",
        "a run of it",
        "short",
        "a word",
        "in a path",
    ],
)
def test_its_runs_are_hidden(secret: str, text: str, hidden: str) -> None:
    """Of 12 letters, or 8 with a digit; what is shorter is more often a word than a secret."""
    assert knowing(secret).hide(text, MARK) == hidden


@given(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=12, max_size=64),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_none_comes_through(secret: str, before: str, after: str) -> None:
    """Between whatever does not run into it."""
    hidden = knowing(secret).hide(f"{before} {secret} {after}", MARK)
    assert secret not in hidden.replace(before, "").replace(after, "")
    assert MARK in hidden


def test_the_longest_is_hidden_where_one_begins_another() -> None:
    """No end of it is left."""
    known = knowing("alice-laptop-7", "alice-laptop-7-and-more")
    assert known.hide("alice-laptop-7-and-more", MARK) == MARK
    assert known.hide("alice-laptop-7-and-less", MARK) == MARK + "-and-less"


def test_it_keeps_no_text() -> None:
    """Who reads the memory of this process finds numbers."""
    made = knowing("alice-laptop-7")
    assert len(made) == 1
    assert b"laptop" not in pickle.dumps(vars(made))


def test_many_are_as_quick_as_one() -> None:
    """A look is one in a set, for ten thousand keys as for one."""
    text = "word-number-1 " * 500

    def took_s(known: KnownSecrets) -> float:
        best = 1.0
        for _ in range(10):
            began = time.perf_counter()
            known.hide(text, MARK)
            best = min(best, time.perf_counter() - began)
        return best

    many = knowing(*(f"key-of-somebody-{number}" for number in range(10_000)))
    assert took_s(many) < 5 * took_s(knowing("key-of-somebody"))


def test_nothing_known_costs_nothing() -> None:
    """The text itself comes back."""
    text = "any text"
    assert KnownSecrets().hide(text, MARK) is text
