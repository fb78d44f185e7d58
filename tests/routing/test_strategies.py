from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from radgateway.routing import strategies
from radgateway.routing.latency import LatencyBook
from radgateway.routing.models import Candidate
from radgateway.routing.session import session_key
from radgateway.usage.prices import Price

A, B, C = Candidate("a", "m", 80), Candidate("b", "m", 20), Candidate("c", "m", 20)


def book() -> LatencyBook:
    """A book whose time stands still."""
    return LatencyBook(lambda: 0.0)


def order(
    name: str,
    candidates: Sequence[Candidate],
    seed: int = 0,
    key: bytes = b"",
    known: object = None,
    unix_s: float = 0.0,
) -> list[str]:
    """The providers in the order a strategy tries them."""
    strategy = strategies.BY_NAME[name]  # type: ignore[index]
    latencies = known if isinstance(known, LatencyBook) else book()
    tried = strategy(candidates, random.Random(seed), latencies, lambda: key, unix_s)
    return [c.provider for c in tried]


@given(name=st.sampled_from(sorted(strategies.BY_NAME)), seed=st.integers(), key=st.binary())
def test_every_strategy_tries_every_candidate_once(name: str, seed: int, key: bytes) -> None:
    """A strategy is an order: it loses nobody and repeats nobody."""
    assert sorted(order(name, [A, B, C], seed, key)) == ["a", "b", "c"]


def test_priority_is_the_weights_order_and_stable() -> None:
    """Highest weight first; the configuration's order among equals, every time."""
    assert order("priority", [B, C, A]) == ["a", "b", "c"]
    assert order("priority", [C, B, A]) == ["a", "c", "b"]


def test_weighted_gives_each_its_share() -> None:
    """80 to 20 means that four of five requests go to the first."""
    first = Counter(order("weighted", [A, B], seed)[0] for seed in range(4000))
    assert 0.77 < first["a"] / 4000 < 0.83


def test_least_cost_puts_the_unknown_price_last() -> None:
    """A price nobody stated is not free."""
    cheap = Candidate("cheap", price=Price(Decimal("0.1"), Decimal("0.4")))
    dear = Candidate("dear", price=Price(Decimal(3), Decimal(15)))
    assert order("least_cost", [A, dear, cheap]) == ["cheap", "dear", "a"]


def test_least_cost_goes_by_the_price_of_that_time() -> None:
    """One that changes on a day counts as it is then; before the first it is unknown, not free."""
    first = Price(Decimal(1), Decimal(1))
    dated = Candidate("dated", price=Price(None, None, later=((100.0, first),)))
    rising = Candidate(
        "rising",
        price=Price(Decimal("0.5"), Decimal("0.5"), later=((200.0, Price(Decimal(9), None)),)),
    )
    steady = Candidate("steady", price=Price(Decimal(2), Decimal(2)))
    orders = [order("least_cost", [dated, rising, steady], unix_s=at) for at in (0, 100, 200)]
    assert orders == [
        ["rising", "steady", "dated"],
        ["rising", "dated", "steady"],
        ["dated", "steady", "rising"],
    ]


def test_least_latency_prefers_the_faster_and_tries_the_unknown() -> None:
    """Of two known ones the faster; one never tried counts as fast, so it gets its chance."""
    latencies = book()
    latencies.observe("a", "m", 2.0)
    latencies.observe("b", "m", 0.5)
    assert order("least_latency", [A, B], known=latencies) == ["b", "a"]
    first = Counter(
        order("least_latency", [A, B, C], seed, known=latencies)[0] for seed in range(99)
    )
    assert first["a"] == 0  # the slowest of three is never the better of two
    assert first["c"] > first["b"] > 0


def test_a_slow_down_is_seen_at_once_and_forgiven_slowly() -> None:
    """A peak counts fully; it fades with time, not with the number of calls."""
    now = 0.0
    latencies = LatencyBook(lambda: now, decay_s=10)
    latencies.observe("a", "m", 0.1)
    latencies.observe("a", "m", 5.0)
    assert latencies.expect_s(A) == 5.0
    for _ in range(100):
        latencies.observe("a", "m", 0.1)
    assert latencies.expect_s(A) == 5.0
    now = 30.0
    latencies.observe("a", "m", 0.1)
    assert 0.1 < latencies.expect_s(A) < 0.5
    latencies.observe("a", "m", None)
    assert latencies.expect_s(A) == 10.0


def test_one_failure_does_not_keep_the_fastest_out_for_good() -> None:
    """A candidate that nobody calls is forgiven with time, and so gets called again."""
    now = 0.0
    latencies = LatencyBook(lambda: now, decay_s=10)
    latencies.observe("a", "m", None)
    picks: Counter[str] = Counter()
    for second in range(300):
        now = float(second)
        first = order("least_latency", [A, B], seed=second, known=latencies)[0]
        picks[first] += 1
        latencies.observe(first, "m", 0.1 if first == "a" else 0.3)
    assert picks["a"] > picks["b"] > 0


@given(key=st.binary(max_size=50))
def test_sticky_does_not_depend_on_the_replica(key: bytes) -> None:
    """No seed, no order of configuration and no latency changes a session's provider."""
    latencies = book()
    latencies.observe("a", "m", 9.0)
    assert order("sticky", [A, B, C], 1, key) == order("sticky", [C, A, B], 2, key, latencies)


def test_sticky_moves_only_the_sessions_of_the_one_that_left() -> None:
    """Removing a candidate leaves every other session where it was."""
    keys = [str(number).encode() for number in range(500)]
    for key in keys:
        before = order("sticky", [A, B, C], key=key)
        after = order("sticky", [A, B], key=key)
        assert after == [name for name in before if name != "c"]


def test_sticky_shares_by_weight() -> None:
    """Sessions spread as the weights say."""
    first = Counter(order("sticky", [A, B], key=b"%d" % n)[0] for n in range(4000))
    assert 0.77 < first["a"] / 4000 < 0.83


def test_a_conversation_keeps_its_session() -> None:
    """Later turns repeat the beginning, so they belong to the same session; a header decides."""
    scope: dict[str, Any] = {"headers": []}

    def turns(*said: str, **more: Any) -> bytes:
        roles = ["system", "user", "assistant", "user", "assistant"]
        messages = [{"role": r, "content": s} for r, s in zip(roles, said, strict=False)]
        return json.dumps({**more, "messages": messages}).encode()

    for size in (1, 5000):
        system, hello = "be brief " * size, "hello " * size
        first = turns(system, hello, temperature=1)
        later = turns(system, hello, "hi", "how are you?", temperature=0)
        other = turns(system, "x" + hello)
        keys = [session_key(scope, "m", body, b"") for body in (first, later, other)]
        assert keys[0] == keys[1] != keys[2]
    named = {"headers": [(b"x-session-id", b"s1")]}
    assert session_key(named, "m", first, b"") == session_key(named, "m", other, b"") == b"s1"
