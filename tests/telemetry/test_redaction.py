"""No secret comes through, by its field's name or by its look, however it is nested."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.telemetry.redaction import REDACTED, TEXT_LIMIT, is_secret, redact, scrub

SECRETS = [
    "sk-proj-abcdefghijklmnop",
    "sk-ant-api03-AbCdEf123456",
    "AIzaSyA1234567890abcdefghijklmnopqrstu",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "AKIAABCDEFGHIJKLMNOP",
    "ghp_abcdefghijklmnopqrstuvwxyz0123",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "key is {}, sorry", "url?x={}&y=1", '"{}"', "a={}\n"])
def test_values_that_look_like_secrets_go(secret: str, around: str) -> None:
    """Wherever in a text they stand."""
    text = scrub(around.format(secret))
    assert secret not in text
    assert REDACTED in text


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("Authorization: Bearer abc123def456", "abc123def456"),
        ("bearer QWxhZGRpbjpvcGVu", "QWxhZGRpbjpvcGVu"),
        ("GET /v1beta/models/x:generateContent?key=hunter22&alt=sse", "hunter22"),
        ("postgresql://rad:pa55word@db/usage", "pa55word"),
    ],
)
def test_secrets_in_their_usual_places_go(text: str, hidden: str) -> None:
    """Headers, query strings and URLs in messages."""
    assert hidden not in scrub(text)


@pytest.mark.parametrize(
    "key",
    [
        "authorization",
        "Authorization",
        "Proxy-Authorization",
        "x-api-key",
        "api_key",
        "api-key",
        "openai_api_key",
        "x-goog-api-key",
        "Cookie",
        "set-cookie",
        "access_token",
        "token",
        "client_secret",
        "password",
        "db_passwd",
    ],
)
def test_fields_named_like_secrets_go(key: str) -> None:
    """The value does not matter."""
    assert redact({key: "plain"}) == {key: REDACTED}
    assert redact([(key.encode(), b"plain")]) == [[key, REDACTED]]


def test_token_counts_stay() -> None:
    """A number of tokens is no secret."""
    counts = {"input_tokens": 12, "max_tokens": None, "tokens_per_s": 1.5}
    assert redact(counts) == counts
    assert is_secret("password", 1234)


def test_ordinary_text_stays() -> None:
    """Nothing is hidden for nothing."""
    text = "task-12 asked sklearn for the basics of a bearer bond, risk-free"
    assert scrub(text) == text


def test_values_are_bounded() -> None:
    """Long, deep, wide and hostile values end up small and plain."""

    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

    deep: Any = "x"
    for _ in range(100):
        deep = [deep]
    shown = redact({"long": "a" * 10**6, "deep": deep, "wide": list(range(10**5)), "h": Hostile()})
    assert len(json.dumps(shown)) < 3 * TEXT_LIMIT
    assert shown["h"] == "<Hostile>"


plain = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
nested = st.recursive(
    plain | st.just("SECRET"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@given(nested, st.sampled_from(SECRETS))
def test_no_seeded_secret_comes_through(value: Any, secret: str) -> None:
    """Put a secret anywhere into any structure: it is not in what would be logged."""

    def seeded(each: Any) -> Any:
        if each == "SECRET":
            return f"failed with {secret}!"
        if isinstance(each, list):
            return [seeded(item) for item in each]
        if isinstance(each, dict):
            return {key: seeded(item) for key, item in each.items()}
        return each

    assert secret not in json.dumps(redact(seeded(value)), ensure_ascii=False)
