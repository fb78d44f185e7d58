"""Which limits a request falls under, and under which names they are counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.inbound.limit_plan import LimitBook, Plan, Plans
from radgateway.inbound.limit_set import CONCURRENCY, KINDS, MONEY, REQUESTS, TOKENS, LimitSet

MINUTELY = LimitSet(requests=("5/minute",))


def keys(plan: Plan) -> list[str]:
    return [limit.key for limit in plan.limits]


def book(**options: Any) -> LimitBook:
    options.setdefault("of_key", lambda name: MINUTELY)
    return LimitBook(**options)


def test_a_request_falls_under_its_caller_its_model_and_the_whole() -> None:
    """One list of them all, each with its owner in its key and its words."""
    plans = Plans(
        book(
            of_model=lambda model: ("gpt", LimitSet(tokens=("9/day",))) if "gpt" in model else None,
            total=LimitSet(max_concurrency=2),
        )
    )
    plan = plans.of_model("bob", "gpt-latest")
    assert keys(plan) == ["key/bob/requests/60", "model/gpt/tokens/86400", "all/concurrency/0"]
    assert [limit.text for limit in plan.limits] == [
        "5 requests per minute",
        "9 tokens per day for gpt",
        "2 requests at once for all callers",
    ]
    assert keys(plans.of_model("bob", "other")) == ["key/bob/requests/60", "all/concurrency/0"]
    assert plans.of_model("bob", "other") is plans.of("bob")
    assert plans.of_model("bob", "gpt-4") is plan


_OWNERS = st.text(max_size=12) | st.sampled_from(["a/b", "a", "b", "a%2Fb", "%-x", "x" * 300])


@given(_OWNERS, _OWNERS)
def test_no_two_owners_share_an_account(one: str, other: str) -> None:
    """Slashes, escapes and lengths do not make two names the same (`a/b` and `a`, `b`)."""
    plans = Plans(book())
    same = set(keys(plans.of(one))) & set(keys(plans.of(other)))
    assert bool(same) == (one == other)
    assert all(key.count("/") == 3 and len(key) < 2500 for key in keys(plans.of(one)))


def test_a_callers_account_is_not_a_models() -> None:
    """A key may have the name of a model."""
    plans = Plans(book(of_model=lambda model: ("same", MINUTELY)))
    assert len(set(keys(plans.of_model("same", "same")))) == 2


def test_changing_an_amount_does_not_forget_what_was_spent() -> None:
    """The key of an account holds the window, not the limit."""
    low, high = LimitSet(requests=("5/minute",)), LimitSet(requests=("50/minute",))
    assert keys(Plans(book(of_key=lambda name: low)).of("a")) == keys(
        Plans(book(of_key=lambda name: high)).of("a")
    )


@pytest.mark.parametrize(
    ("limits", "reads"),
    [
        (MINUTELY, False),
        (LimitSet(max_concurrency=1), False),
        (LimitSet(tokens=("1/day",)), True),
        (LimitSet(money=("1/day",)), True),
    ],
)
def test_a_body_is_read_only_for_what_is_in_it(limits: LimitSet, reads: bool) -> None:
    """Limits on requests need nothing of it; one on any model does."""
    assert Plans(book(of_key=lambda name: limits)).of("a").reads is reads
    assert Plans(book(total=limits)).of("a").reads is reads
    assert Plans(book(of_model=lambda model: None)).of("a").reads


def test_one_limit_of_requests_is_the_short_way() -> None:
    """And nothing else is: not a second one, not another kind, not one that only reports."""
    assert Plans(book()).of("a").only is not None
    for other in (
        book(total=MINUTELY),
        book(of_key=lambda name: LimitSet(max_concurrency=1)),
        book(shadow=True),
        book(of_key=lambda name: None),
        book(of_model=lambda model: None),
    ):
        assert Plans(other).of("a").only is None


def test_limits_that_only_report_come_last() -> None:
    """Whether set on a limit set or on all of them."""
    quiet = LimitSet(requests=("1/minute",), shadow=True)
    plan = Plans(book(of_key=lambda name: quiet, total=MINUTELY)).of("a")
    assert [limit.shadow for limit in plan.limits] == [False, True]
    assert all(limit.shadow for limit in Plans(book(shadow=True, total=MINUTELY)).of("a").limits)


def test_a_share_is_at_least_one() -> None:
    """Of a limit that several processes can't count together."""
    limits = LimitSet(requests=("10/minute",), money=("1/day",), max_concurrency=2)
    plan = Plans(book(of_key=lambda name: limits)).of("a")
    share = plan.share(3)
    amounts = {limit.kind: limit.amount for limit in share.limits}
    assert amounts == {REQUESTS: 3, MONEY: 10**9 // 3, CONCURRENCY: 1}
    assert keys(share) == keys(plan)
    assert plan.share(3) is share
    assert plan.share(2) is not share


def test_plans_are_remembered_within_a_bound() -> None:
    """Callers without a name of ours may be without number."""
    plans = Plans(book(of_model=lambda model: (model, MINUTELY)), max_plans=10)
    for number in range(100):
        plans.of(f"caller {number}")
        plans.of_model("a", f"model {number}")
    assert len(plans._by_name) == len(plans._by_both) == 10


def test_a_storage_that_counts_requests_is_given_nothing_else() -> None:
    """It is an error when the plan is made, not a limit that quietly does not hold."""
    plans = Plans(book(total=LimitSet(tokens=("9/day",))), only_requests=True)
    with pytest.raises(ValueError, match=r"9 tokens per day for all callers needs memory"):
        plans.of("a")
    assert Plans(book(), only_requests=True).of("a").limits


def test_policies_are_written_as_the_draft_does() -> None:
    """Money in cents, and no window where there is none."""
    limits = LimitSet(
        requests=("5/minute",), tokens=("9/hour",), money=("0.50/day",), max_concurrency=2
    )
    plan = Plans(book(of_key=lambda name: limits)).of("a")
    assert {KINDS[limit.kind]: limit.policy for limit in plan.limits} == {
        "requests": b'"requests";q=5;qu="requests";w=60',
        "tokens": b'"tokens";q=9;w=3600',
        "money": b'"money";q=50;w=86400',
        "concurrency": b'"concurrency";q=2;qu="concurrent-requests"',
    }
    assert {limit.kind for limit in plan.limits if limit.holds} == {TOKENS, MONEY, CONCURRENCY}
