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
    Unmeasured,
    every,
    judged,
    milliseconds,
    ratio,
    unmeasurable,
)
from radgateway.release.incidents import P1Tally
from radgateway.release.measures import P95, WORDS, Row, measure
from radgateway.release.thresholds import Thresholds

_HOUR_S: Final = 3_600
_DAY_S: Final = 86_400
_FALSE_POSITIVES: Final = "False positives among P1 alerts"
_NONE: Final = "no P1 alert has fired and been judged: drill one"


def queries(thresholds: Thresholds) -> dict[str, Row]:
    """What the Prometheus of staging is asked, by name."""
    job, limits = thresholds.job, thresholds.exit
    return {
        "availability": Row(measure("availability", job, "1d"), _DAY_S, limits.availability_days),
        **{name: Row(measure(name, job, "1h"), _HOUR_S, limits.p95_hours) for name in P95},
    }


def judge(
    said: Attested,
    figures: Mapping[str, Sequence[Reading]],
    p1: P1Tally | Unmeasured | None = None,
) -> Judgement:
    """Whether alpha is over; `figures` has what was asked for.

    `p1` is what the incident app says; None where it was not asked, and the evidence counts.
    """
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
        _false_positives(said) if p1 is None else _marked(said.thresholds, p1),
        said.scanned("Vulnerabilities", "critical"),
        said.passed("penetration_test"),
        *(every(WORDS[name], figures[name], fast, "hour", limits.p95_hours) for name in P95),
        said.passed("on_call_rotation"),
        said.passed("runbooks"),
    )
    return Judgement(question="Launch exit criteria, alpha to beta", findings=findings)


def _marked(thresholds: Thresholds, p1: P1Tally | Unmeasured) -> Finding:
    """The share of P1 alerts that told nothing, as people marked their incidents."""
    limit = _limit(thresholds)
    if isinstance(p1, Unmeasured):
        return unmeasurable(_FALSE_POSITIVES, str(limit), p1.why)
    if p1.incidents == 0:
        return unmeasurable(_FALSE_POSITIVES, str(limit), _NONE)
    finding = judged(_FALSE_POSITIVES, Decimal(p1.false_positives) / p1.incidents, limit)
    if p1.unmarked and finding.verdict == "pass":
        why = f"{p1.unmarked} of {p1.incidents} are not marked yet"
        return unmeasurable(_FALSE_POSITIVES, str(limit), why)
    return finding._replace(why=f"{p1.false_positives} of {p1.incidents}")


def _false_positives(said: Attested) -> Finding:
    """The same on the word of whoever has reviewed them."""
    limit, review = _limit(said.thresholds), said.evidence.p1_review
    if review is None:
        why = "the evidence has no p1_review, and --incidents was not given"
        return unmeasurable(_FALSE_POSITIVES, str(limit), why)
    if review.alerts == 0:
        return unmeasurable(_FALSE_POSITIVES, str(limit), _NONE)
    if stale := said.fresh(_FALSE_POSITIVES, str(limit), "p1_review", review):
        return stale
    share = Decimal(review.false_positives) / review.alerts
    finding = judged(_FALSE_POSITIVES, share, limit)
    why = f"{review.false_positives} of {review.alerts}: {review.by}, {review.at}"
    verdict = "attested" if finding.verdict == "pass" else finding.verdict
    return finding._replace(verdict=verdict, why=why)


def _limit(thresholds: Thresholds) -> Limit:
    return Limit("<", thresholds.exit.p1_false_positive_ratio, ratio)
