"""The arithmetic of error budgets."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.slo.objectives import BURN_PAIRS, INDICATORS, Objective, Objectives
from radgateway.slo.promql import days
from radgateway.telemetry.declared import BUCKETS, METRICS

STRATEGY = Objectives().availability
shares = st.decimals("0.0001", "1", places=4)
spans = st.decimals("0.01", "92", places=2)
objectives = st.builds(
    Objective,
    target=st.decimals("0.5", "0.99999", places=5),
    window_days=st.integers(1, 92),
)


def test_the_defaults_are_the_strategys() -> None:
    """99.5 % over 30 days, less than 1 % errors over 7, and 1 s and 2 s for what is ours."""
    assert {name: (o.target, o.below_s, o.window_days) for name, o in Objectives()} == {
        "availability": (Decimal("0.995"), None, 30),
        "error_rate": (Decimal("0.99"), None, 7),
        "overhead_p95": (Decimal("0.95"), 1, 7),
        "overhead_p99": (Decimal("0.99"), 2, 7),
        "first_token_p95": (Decimal("0.95"), 1, 7),
        "first_token_p99": (Decimal("0.99"), 2, 7),
    }


@pytest.mark.parametrize(
    ("share", "within", "budget_s", "burn", "bad", "gone_after_days"),
    [
        ("1", 30, 12_960, "1", "0.005", "30"),
        ("0.3", 7, 3_888, "1.286", "0.00643", "23.3"),
        ("0.6", 7, 7_776, "2.571", "0.01286", "11.7"),
    ],
)
def test_the_strategys_budgets_rightly_reckoned(
    share: str, within: int, budget_s: int, burn: str, bad: str, gone_after_days: str
) -> None:
    """216 minutes in all; 64.8 and 129.6 of them are 30 % and 60 %, not 1,080 and 2,160."""
    part, span = Decimal(share), Decimal(within)
    assert STRATEGY.budget_s * part == budget_s
    assert round(STRATEGY.burn_rate(part, span), 3) == Decimal(burn)
    assert round(STRATEGY.threshold(part, span), 5) == Decimal(bad)
    assert round(STRATEGY.lasts_days(STRATEGY.burn_rate(part, span)), 1) == Decimal(gone_after_days)


def test_the_burn_pairs_are_the_workbooks() -> None:
    """14.4, 6, 3 and 1 times the even burn, each with the outage it notices soonest."""
    assert [
        (
            pair.long,
            pair.short,
            STRATEGY.burn_rate(pair.share, days(pair.long)),
            STRATEGY.threshold(pair.share, days(pair.long)),
            STRATEGY.noticed_after_s(pair.share, days(pair.long)),
        )
        for pair in BURN_PAIRS
    ] == [
        ("1h", "5m", Decimal("14.4"), Decimal("0.072"), Decimal("259.2")),
        ("6h", "30m", 6, Decimal("0.03"), 648),
        ("1d", "2h", 3, Decimal("0.015"), 1_296),
        ("3d", "6h", 1, Decimal("0.005"), 1_296),
    ]


@given(objectives, shares, spans)
def test_burning_at_a_threshold_spends_its_share(
    objective: Objective, share: Decimal, within: Decimal
) -> None:
    """Whatever the objective: what a share's threshold lets through in its time is the share."""
    bad = objective.threshold(share, within)
    assert abs(objective.spent(bad, within) - share) < Decimal("1e-20")
    whole = objective.budget * objective.window_days
    assert abs(bad * within - share * whole) < Decimal("1e-20")
    assert abs(objective.lasts_days(objective.burn_rate(share, within)) * share - within) < Decimal(
        "1e-20"
    )


@given(objectives, shares, spans)
def test_an_outage_is_noticed_when_it_has_cost_the_share(
    objective: Objective, share: Decimal, within: Decimal
) -> None:
    """A complete outage spends a second of budget a second."""
    noticed_s = objective.noticed_after_s(share, within)
    assert abs(noticed_s - objective.budget_s * share) < Decimal("1e-15")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"target": Decimal("1")}, "target must be at least 0.5 and at most 0.99999, not 1"),
        ({"target": Decimal("99.5")}, "target must be .*, not 99.5"),
        ({"window_days": 0}, "window_days must be 1 to 92, not 0"),
        ({"below_s": Decimal("1.1")}, "below_s must be one of the buckets' edges: .*, 1, 1.2, 2, "),
        ({"below_s": Decimal(80)}, "below_s must be one of .* 20$"),
    ],
)
def test_what_can_not_be_promised(wrong: dict[str, Decimal], message: str) -> None:
    """The message begins with the field, as configuration's do, and says what would do."""
    right = {"target": Decimal("0.99"), "window_days": 7}
    with pytest.raises(ValueError, match=f"^{message}"):
        Objective(**{**right, **wrong})  # type: ignore[arg-type]


SLOW = Objective(target=Decimal("0.9"), window_days=7, below_s=Decimal(5))
LOOSE = Objective(target=Decimal("0.9"), window_days=30)
WEEK = Objective(target=Decimal("0.99"), window_days=7)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"overhead_p95": WEEK}, "overhead_p95 must say below_s"),
        ({"first_token_p95": SLOW}, "first_token_p99 must not have a below_s under that of"),
        ({"error_rate": SLOW}, "error_rate has no below_s"),
        ({"availability": LOOSE}, "availability must have a target of 0.95 or more"),
        ({"availability": WEEK}, "availability must have window_days of 28 or more"),
    ],
)
def test_objectives_that_do_not_fit_their_place(wrong: dict[str, Objective], message: str) -> None:
    """A time where answers are counted, none where time is, or alerts that could never fire."""
    with pytest.raises(ValueError, match=f"^{message}"):
        Objectives(**wrong)


def test_an_alert_is_one_edge_beyond_the_promise() -> None:
    """The strategy promises 1 s and alerts at 1.2 s: the next edge of the buckets."""
    promised = dict(Objectives())
    assert promised["overhead_p95"].alert_above_s == Decimal("1.2")
    assert SLOW.alert_above_s == Decimal("7.5")


def test_every_promised_edge_and_the_one_beyond_is_a_bucket() -> None:
    """Between two edges a histogram guesses, so promises are made at edges alone."""
    edges = {Decimal(repr(edge)) for edge in BUCKETS}
    for name, objective, indicator in Objectives().latencies():
        assert {objective.below_s, objective.alert_above_s} <= edges, name
        assert METRICS[indicator.metric.removeprefix("rad_gateway_")].kind == "histogram"
    assert {name.rpartition("_")[0] for name, _, _ in Objectives().latencies()} == set(INDICATORS)
