"""A canary's measurements and what becomes of them, by Argo's rules and without I/O.

A measurement is a success, a failure, inconclusive (neither condition holds) or an error (nothing
could be measured). More failures than `failureLimit` fail the canary, more inconclusive ones than
`inconclusiveLimit`, and more errors in a row than `consecutiveErrorLimit`, leave it unjudged.
Only one that gets to the end of every metric is promoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from radgateway.release.analysis import Criterion
from radgateway.release.condition import NoValue
from radgateway.release.finding import Finding, Judgement, Verdict, Words

Phase = Literal["successful", "failed", "inconclusive", "error"]
WORDS: Final = Words("PROMOTE", "ABORT", "NOT PROMOTED: CAN'T BE JUDGED")
_ADVICE: Final = Words(
    "Shift all traffic to it.",
    "Shift all traffic back to the stable version.",
    "Leave the traffic with the stable version, and see why there is nothing to judge by.",
)


def measured(criterion: Criterion, values: Sequence[float]) -> tuple[Phase, str]:
    """What a measurement came to, and why where its values do not say it."""
    try:
        success = criterion.success.holds(values) if criterion.success else None
        failure = criterion.failure.holds(values) if criterion.failure else None
    except NoValue as error:
        return "error", str(error)
    if failure or (failure is None and not success):
        return "failed", ""
    return ("successful" if success is not False else "inconclusive"), ""


class Course:
    """One criterion's measurements so far."""

    def __init__(self, criterion: Criterion) -> None:
        self.criterion = criterion
        self.counts: dict[Phase, int] = dict.fromkeys(
            ("successful", "failed", "inconclusive", "error"), 0
        )
        self.latest = ""
        """The values of the latest measurement, in words."""
        self.why = ""
        """Why it came to nothing."""
        self._errors_in_a_row = 0

    def record(self, phase: Phase, values: Sequence[float] = (), why: str = "") -> None:
        """Add a measurement."""
        self.counts[phase] += 1
        self._errors_in_a_row = self._errors_in_a_row + 1 if phase == "error" else 0
        self.latest = ", ".join(f"{value:.6g}" for value in values) or "nothing"
        self.why = why

    @property
    def phase(self) -> Phase | None:
        """How it has ended; None while it goes on."""
        metric, counts = self.criterion.metric, self.counts
        if counts["failed"] > metric.failureLimit:
            return "failed"
        if counts["inconclusive"] > metric.inconclusiveLimit:
            return "inconclusive"
        if self._errors_in_a_row > metric.consecutiveErrorLimit:
            return "error"
        # An error is no measurement: it is tried again.
        done = sum(counts.values()) - counts["error"]
        if metric.measurements is not None and done >= metric.measurements:
            return "successful"
        return None

    @property
    def tally(self) -> str:
        """The measurements so far, by what they came to."""
        return ", ".join(f"{count} {phase}" for phase, count in self.counts.items() if count)

    def finding(self) -> Finding:
        """Where it stands now that no more is measured."""
        metric, counts, phase = self.criterion.metric, self.counts, self.phase
        threshold = metric.successCondition or f"not {metric.failureCondition}"
        verdict: Verdict = "unmeasurable"
        # One without a count has no end of its own: that it went well until now is its success.
        if phase == "successful" or (phase is None and metric.measurements is None):
            verdict = "pass" if counts["successful"] else "unmeasurable"
        elif phase == "failed":
            verdict = "fail"
        of = f" of {metric.measurements}" if phase is None and metric.measurements else ""
        why = "; ".join(part for part in ((self.tally or "not measured") + of, self.why) if part)
        return Finding(metric.name, threshold, self.latest or "-", verdict, why)


class Canary:
    """All criteria of one canary."""

    def __init__(self, criteria: Sequence[Criterion]) -> None:
        self.courses = tuple(Course(criterion) for criterion in criteria)

    @property
    def certain(self) -> bool:
        """Whether no further measurement changes the verdict: one criterion has ended badly, or
        all have ended."""
        phases = [course.phase for course in self.courses]
        return None not in phases or any(phase not in (None, "successful") for phase in phases)

    def judgement(self) -> Judgement:
        """The verdict: final where it is certain, or where the time for open ends is over.

        Where a criterion has ended badly, those that were still under way are not judged.
        """
        cut_short = self.certain and any(course.phase is None for course in self.courses)
        findings = tuple(
            course.finding()._replace(verdict="not judged", why="under way when it was decided")
            if cut_short and course.phase is None
            else course.finding()
            for course in self.courses
        )
        return Judgement(question="Canary", findings=findings, words=WORDS, advice=_ADVICE)
