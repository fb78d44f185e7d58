"""Criteria, verdicts and the decision that comes of them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.release.finding import (
    Finding,
    Judgement,
    Limit,
    Unmeasured,
    Verdict,
    count,
    every,
    hours,
    judged,
    milliseconds,
    ratio,
)
from radgateway.release.show import as_json, as_text

VERDICTS = get_args(Verdict)
UNDER = Limit("<", Decimal("0.005"), ratio)


def judgement(*verdicts: Verdict) -> Judgement:
    findings = tuple(Finding("criterion", "limit", "figure", verdict) for verdict in verdicts)
    return Judgement(question="Question", findings=findings)


@given(st.lists(st.sampled_from(VERDICTS), max_size=8))
def test_go_only_where_all_that_was_judged_is_good(verdicts: list[Verdict]) -> None:
    """One failure is a no-go, whatever else is unknown; one gap, or nothing at all, is no go."""
    code = judgement(*verdicts).exit_code
    good = {"pass", "attested", "watch", "conditional"}
    assert (code == 1) == ("fail" in verdicts)
    assert (code == 0) == (
        bool(good.intersection(verdicts)) and set(verdicts) <= good | {"not judged"}
    )


@pytest.mark.parametrize(
    ("verdicts", "decision"),
    [
        (["pass", "attested"], "GO"),
        (["pass", "watch"], "GO with monitoring"),
        (["watch", "conditional"], "CONDITIONAL GO"),
        (["conditional", "unmeasurable"], "CAN'T BE JUDGED"),
        (["pass", "unmeasurable", "fail"], "NO-GO"),
        (["not judged"], "CAN'T BE JUDGED"),
        ([], "CAN'T BE JUDGED"),
    ],
)
def test_the_decision_is_said_in_words(verdicts: list[Verdict], decision: str) -> None:
    """As the strategy's matrix has them."""
    assert judgement(*verdicts).decision == decision


@pytest.mark.parametrize(
    ("comparison", "figure", "verdict"),
    [
        ("<", "0.00499", "pass"),
        ("<", "0.005", "fail"),
        ("<=", "0.005", "pass"),
        ("<=", "0.0051", "fail"),
        (">=", "0.005", "pass"),
        (">=", "0.0049", "fail"),
        ("<", "Infinity", "fail"),
    ],
)
def test_a_limit_is_exact_at_its_edge(comparison: str, figure: str, verdict: str) -> None:
    """Under 0.5 % is under it: the arithmetic is decimal."""
    limit = Limit(comparison, Decimal("0.005"), ratio)  # type: ignore[arg-type]
    assert judged("criterion", Decimal(figure), limit).verdict == verdict


@given(st.decimals(allow_nan=False))
def test_any_figure_can_be_shown(figure: Decimal) -> None:
    """An infinite quantile and a number without end are figures, too."""
    for unit in (count, hours, milliseconds, ratio):
        assert len(unit(figure)) < 60


def test_what_is_not_known_says_why() -> None:
    """A figure that is not there is neither good nor bad."""
    finding = judged("criterion", Unmeasured("no answer"), UNDER)
    assert finding == Finding("criterion", "< 0.5 %", "-", "unmeasurable", "no answer")


@given(st.lists(st.one_of(st.decimals(0, 1, places=3), st.just(Unmeasured("gap"))), max_size=10))
def test_a_row_passes_only_whole(row: list[Decimal | Unmeasured]) -> None:
    """One bad day fails it, and else one gap leaves it unjudged: seven days are seven."""
    finding = every("Availability", row, Limit(">=", Decimal("0.995"), ratio), "day", 7)
    known = [figure for figure in row if isinstance(figure, Decimal)]
    if any(figure < Decimal("0.995") for figure in known):
        assert finding.verdict == "fail"
    elif len(known) < 7:
        assert finding.verdict == "unmeasurable"
    else:
        assert finding.verdict == "pass"


def test_a_row_shows_its_worst() -> None:
    """Which is the lowest of what has to be high, and the highest of what has to be low."""
    low = every(
        "a", [Decimal("0.999"), Decimal("0.99")], Limit(">=", Decimal("0.9"), ratio), "d", 2
    )
    high = every(
        "b", [Decimal("0.1"), Decimal("0.3")], Limit("<", Decimal(1), milliseconds), "h", 2
    )
    assert (low.measured, high.measured) == ("99 % at worst", "300 ms at worst")


def test_a_judgement_is_shown_to_people_and_to_programs() -> None:
    """Every finding with all it has; nothing in it can take a terminal over."""
    found = Finding("Error rate", "< 0.5 %", "1 %", "fail", "bad \x1b[2J\nthing")
    shown = Judgement(question="Go?", findings=(found,))
    text = as_text(shown)
    assert "\x1b" not in text
    assert "Error rate  < 0.5 %    1 %       fail     bad  [2J thing" in text
    assert text.endswith("\nNO-GO\n")
    assert json.loads(as_json(shown)) == {
        "question": "Go?",
        "decision": "NO-GO",
        "exitCode": 1,
        "advice": "",
        "findings": [found._asdict()],
    }
