"""From alpha to beta: the strategy's launch exit criteria (its 10.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from radgateway.release.attested import Attested
from radgateway.release.finding import (
    Finding,
    Judgement,
    Limit,
    Reading,
    every,
    judged,
    milliseconds,
    ratio,
    unmeasurable,
)
from radgateway.release.measures import P95, WORDS, Row, measure
from radgateway.release.thresholds import Thresholds

_HOUR_S: Final = 3_600
_DAY_S: Final = 86_400


def queries(thresholds: Thresholds) -> dict[str, Row]:
    """What the Prometheus of staging is asked, by name."""
    job, limits = thresholds.job, thresholds.exit
    return {
        "availability": Row(measure("availability", job, "1d"), _DAY_S, limits.availability_days),
        **{name: Row(measure(name, job, "1h"), _HOUR_S, limits.p95_hours) for name in P95},
    }


def judge(said: Attested, figures: Mapping[str, Sequence[Reading]]) -> Judgement:
    """Whether alpha is over; `figures` has what was asked for."""
    limits = said.thresholds.exit
    fast = Limit("<", limits.p95_s, milliseconds)
    findings = (
        every(
            "Availability",
            figures["availability"],
            Limit(">=", limits.availability, ratio),
            "day",
            limits.availability_days,
        ),
        _false_positives(said),
        said.scanned("Vulnerabilities", "critical"),
        said.passed("penetration_test"),
        *(every(WORDS[name], figures[name], fast, "hour", limits.p95_hours) for name in P95),
        said.passed("on_call_rotation"),
        said.passed("runbooks"),
    )
    return Judgement(question="Launch exit criteria, alpha to beta", findings=findings)


def _false_positives(said: Attested) -> Finding:
    """The share of P1 alerts that told nothing. With none judged there is no such share."""
    criterion = "False positives among P1 alerts"
    limit = Limit("<", said.thresholds.exit.p1_false_positive_ratio, ratio)
    review = said.evidence.p1_review
    if review is None:
        return unmeasurable(criterion, str(limit), "the evidence has no p1_review")
    if review.alerts == 0:
        return unmeasurable(criterion, str(limit), "no P1 alert has fired and been judged: drill")
    if stale := said.fresh(criterion, str(limit), "p1_review", review):
        return stale
    share = Decimal(review.false_positives) / review.alerts
    finding = judged(criterion, share, limit)
    why = f"{review.false_positives} of {review.alerts}: {review.by}, {review.at}"
    verdict = "attested" if finding.verdict == "pass" else finding.verdict
    return finding._replace(verdict=verdict, why=why)
