"""The decisions on the strategy: every sum on the page is done again, and its figures are ours."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

from radgateway.chaos.experiments import EXPERIMENTS
from radgateway.readiness.checklist import load_checklist
from radgateway.release.thresholds import Thresholds
from radgateway.slo.objectives import BUDGET_DAYS, CRITICAL_SHARE, WARNING_SHARE, Objectives
from radgateway.slo.routing import ESCALATION
from radgateway.slo.settings import Settings
from radgateway.slo.triggers import TRIGGERS
from radgateway.telemetry.declared import BUCKETS

PAGE = (
    Path(__file__).resolve().parents[2] / "docs" / "explanation" / "strategy-decisions.md"
).read_text()
PLAIN = PAGE.translate(str.maketrans("\u00d7\u2212", "*-"))
"""With signs that a keyboard has."""
_NUMBER = r"\d[\d,]*(?:\.\d+)?(?: %)?"
_SUM = re.compile(rf"({_NUMBER}(?: [*/+-] {_NUMBER})+) = ({_NUMBER})")
SUMS = _SUM.findall(PLAIN)
SECTIONS = re.findall(r"^## (\d+)\. (.+)$", PAGE, re.MULTILINE)


def value(text: str) -> Decimal:
    """A number as the page writes it; a percentage as a share."""
    number = Decimal(text.removesuffix(" %").replace(",", ""))
    return number / 100 if text.endswith("%") else number


def reckoned(terms: str) -> Decimal:
    """A sum of products and quotients, without brackets."""
    total = Decimal(0)
    for sign, product in re.findall(r"(^|[+-] )([^+-]+)", terms):
        first, *rest = re.split(r" (?=[*/] )", product.strip())
        result = value(first)
        for factor in rest:
            other = value(factor[2:])
            result = result * other if factor[0] == "*" else result / other
        total += -result if sign.startswith("-") else result
    return total


@pytest.mark.parametrize(("terms", "shown"), SUMS)
def test_a_sum_on_the_page_is_right(terms: str, shown: str) -> None:
    """In decimals, to as many places as the page shows."""
    places = Decimal(1).scaleb(-len(shown.removesuffix(" %").partition(".")[2]))
    result = reckoned(terms) * (100 if shown.endswith("%") else 1)
    rounded = result.quantize(places, ROUND_HALF_UP)
    assert rounded == Decimal(shown.removesuffix(" %").replace(",", ""))


def test_a_wrong_sum_would_be_found() -> None:
    """The reading itself: signs, products, percentages."""
    assert reckoned("1 + 1.5 * 0.95") == Decimal("2.425")
    assert reckoned("1 - 0.05") == Decimal("0.95")
    assert reckoned("0.5 % * 43,200 / 2") == 108
    assert len(SUMS) > 30


def test_every_decision_is_in_the_table_and_every_row_leads_to_one() -> None:
    """One row each, in order; the anchors are held by the strict build of the site."""
    rows = re.findall(r"^\| \[.+?\]\(#(\d+)-[\w-]+\) \| .+ \| .+ \|$", PAGE, re.MULTILINE)
    assert rows == [number for number, _ in SECTIONS]
    assert rows == [str(number) for number in range(1, 32)]
    for number, _ in SECTIONS:
        section = PAGE.partition(f"## {number}. ")[2].partition("\n## ")[0]
        assert "**Decided:**" in section, number
        assert number == "11" or "Written:" in section, number


def test_the_budgets_figures_are_those_of_the_rules() -> None:
    """Minutes, burn rates and shares of the page's table, from the objectives in force."""
    availability = Objectives().availability
    for name, share in (("Warning", WARNING_SHARE), ("Critical", CRITICAL_SHARE)):
        minutes = availability.budget_s * share / 60
        burn = round(availability.burn_rate(share, BUDGET_DAYS), 3)
        bad = round(availability.threshold(share, BUDGET_DAYS) * 100, 3)
        (row,) = re.findall(rf"^\| {name} \| .+$", PAGE, re.MULTILINE)
        assert f"| {minutes.normalize():f} |" in row
        assert f"= {burn} |" in row
        assert f"= {bad} % |" in row


def test_the_other_figures_are_those_of_the_code() -> None:
    """Limits, buckets, escalation and windows that the page names."""
    limits = {trigger.name: (trigger.limit, trigger.hold) for trigger in TRIGGERS}
    assert limits["error-rate"] == (Decimal("0.05"), "2m")
    assert limits["availability"] == (Decimal("0.95"), "")
    go = Thresholds().go_no_go
    assert (go.error_ratio, go.error_ratio_conditional) == (Decimal("0.005"), Decimal("0.01"))
    assert (go.p95_s, go.p95_watch_s) == (Decimal("0.8"), Decimal(1))
    assert {0.8, 1.2, 2.0, 20.0, 40.0, 80.0} <= set(BUCKETS)
    assert [after for _, after in ESCALATION] == ["15m", "30m"]
    assert Settings().least_bad == 5
    assert "provider-latency" in {experiment.name for experiment in EXPERIMENTS}
    launch = ("Team readiness", "Launch exit criteria")
    assert sum(box.section not in launch for box in load_checklist().boxes) == 33
