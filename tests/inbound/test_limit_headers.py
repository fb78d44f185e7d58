"""What a caller is told, in the IETF's words and in those its own client reads."""

from __future__ import annotations

import re
from typing import Any

import pytest

from radgateway.asgi import header
from radgateway.inbound.limit_headers import duration, refusal_of, told, told_of_one
from radgateway.inbound.limit_ledger import LocalLedger, Verdict
from radgateway.inbound.limit_plan import LimitBook, Plans
from radgateway.inbound.limit_set import LimitSet
from radgateway.inbound.limit_storage import SlidingWindows

NOW = 1_700_000_000.0


def verdict_of(times: int = 1, **limits: Any) -> Verdict:
    """The last of several requests of 30 tokens in, 10 out and a cent, 15 s into a minute."""
    own = LimitSet(**limits)
    plan = Plans(LimitBook(of_key=lambda name: own)).of("a")
    ledger = LocalLedger(SlidingWindows(clock=lambda: 3600.0 * 24 * 30 * 12 * 5 + 15))
    verdict = Verdict([])
    for _ in range(times):
        verdict = ledger.take(plan.limits, (1, 40, 30, 10, 10**7, 1))
    return verdict


ALL: dict[str, Any] = {
    "requests": ("60/minute", "5/hour"),
    "tokens": ("1000/minute",),
    "input_tokens": ("500/minute",),
    "output_tokens": ("100/minute",),
    "money": ("2.50/day",),
    "max_concurrency": 3,
}


def test_the_ietf_fields_name_the_tightest_of_each_kind() -> None:
    """Two lists in step: the policy, and what is left of it."""
    headers = told(verdict_of(**ALL).standings, "openai-chat")
    assert header(headers, b"ratelimit-policy") == (
        b'"requests";q=5;qu="requests";w=3600, "tokens";q=1000;w=60, "input_tokens";q=500;w=60, '
        b'"output_tokens";q=100;w=60, "money";q=250;w=86400, '
        b'"concurrency";q=3;qu="concurrent-requests"'
    )
    assert header(headers, b"ratelimit") == (
        b'"requests";r=4;t=7185, "tokens";r=960;t=105, "input_tokens";r=470;t=105, '
        b'"output_tokens";r=90;t=105, "money";r=249;t=172785, "concurrency";r=2'
    )


def test_openais_clients_read_theirs() -> None:
    """Requests and tokens, resets as Go writes durations; also where nothing tells the dialect."""
    for dialect in ("openai-chat", "openai-responses", "openai", ""):
        headers = told(verdict_of(**ALL).standings, dialect)
        names = {name for name, _ in headers}
        assert header(headers, b"x-ratelimit-limit-requests") == b"5"
        assert header(headers, b"x-ratelimit-remaining-requests") == b"4"
        assert header(headers, b"x-ratelimit-reset-requests") == b"1h59m45s"
        assert header(headers, b"x-ratelimit-limit-tokens") == b"1000"
        assert header(headers, b"x-ratelimit-remaining-tokens") == b"960"
        assert header(headers, b"x-ratelimit-reset-tokens") == b"1m45s"
        assert not any(b"anthropic" in name or b"input" in name for name in names)


def test_anthropics_clients_read_theirs() -> None:
    """Four kinds, resets as RFC 3339 writes times."""
    headers = told(verdict_of(**ALL).standings, "anthropic-messages", unix_s=NOW)
    for kind, most, left in (
        (b"requests", b"5", b"4"),
        (b"tokens", b"1000", b"960"),
        (b"input-tokens", b"500", b"470"),
        (b"output-tokens", b"100", b"90"),
    ):
        prefix = b"anthropic-ratelimit-%b-" % kind
        assert header(headers, prefix + b"limit") == most
        assert header(headers, prefix + b"remaining") == left
        reset = header(headers, prefix + b"reset")
        assert reset == (
            b"2023-11-15T00:13:05Z" if kind == b"requests" else b"2023-11-14T22:15:05Z"
        )
    assert not any(name.startswith(b"x-") for name, _ in headers)


def test_geminis_clients_read_none() -> None:
    """So they get the IETF's alone."""
    names = [name for name, _ in told(verdict_of(**ALL).standings, "gemini")]
    assert names == [b"ratelimit-policy", b"ratelimit"]


@pytest.mark.parametrize("dialect", ["openai-chat", "anthropic-messages", "gemini", ""])
def test_the_short_way_tells_the_same(dialect: str) -> None:
    """One limit of requests has the same headers whichever way it was looked at."""
    verdict = verdict_of(2, requests=("60/minute",))
    short = told_of_one(verdict.standings[0], dialect)
    assert sorted(short) == sorted(told(verdict.standings, dialect))


def test_a_refusal_names_its_limit_and_tells_one_moment() -> None:
    """`t` of the limit that refuses is Retry-After's moment; the others are as they were."""
    verdict = verdict_of(6, **{**ALL, "max_concurrency": None})
    assert verdict.refused is not None
    refusal = refusal_of(verdict.standings, verdict.refused, "openai-chat")
    assert refusal.message.startswith("The limit of 5 requests per hour is reached; retry in ")
    retry_after = int(refusal.retry_after or b"")
    found = re.search(rb'"requests";r=0;t=(\d+)', header(refusal.headers, b"ratelimit") or b"")
    assert found is not None
    assert 0 <= retry_after - int(found[1]) <= 1
    assert f"retry in {retry_after} s" in refusal.message
    assert header(refusal.headers, b"x-ratelimit-remaining-tokens") == b"800"


def test_limits_that_only_report_are_not_told() -> None:
    """A caller would mind what does not bind it."""
    assert told(verdict_of(requests=("5/hour",), shadow=True).standings, "") == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, b"0ms"),
        (0.0121, b"13ms"),
        (1, b"1s"),
        (59.2, b"1m0s"),
        (360, b"6m0s"),
        (7265, b"2h1m5s"),
    ],
)
def test_durations_read_as_openais(seconds: float, text: bytes) -> None:
    """Rounded up, so that nobody comes back too early."""
    assert duration(seconds) == text
