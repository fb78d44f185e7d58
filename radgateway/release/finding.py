"""Criteria and verdicts, in decimal arithmetic without I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from radgateway.slo.promql import number

Verdict = Literal["pass", "attested", "watch", "conditional", "not judged", "unmeasurable", "fail"]
"""`attested` is good on somebody's word, `watch` and `conditional` are good with strings attached.
`not judged` was not asked for and weighs nothing."""
GO: Final = 0
NO_GO: Final = 1
UNKNOWN: Final = 2
"""Exit codes; the last one also for arguments and files that can't be used."""
_LARGEST: Final = Decimal(10) ** 15


class Unmeasured(NamedTuple):
    """A figure that is not there."""

    why: str


Reading = Decimal | Unmeasured
Unit = Callable[[Decimal], str]


class Finding(NamedTuple):
    """What became of one criterion. `why` is for what does not speak for itself."""

    criterion: str
    threshold: str
    measured: str
    verdict: Verdict
    why: str = ""


class Words(NamedTuple):
    """A decision as people say it, by exit code."""

    go: str = "GO"
    no_go: str = "NO-GO"
    unknown: str = "CAN'T BE JUDGED"


DECISIONS: Final = Words()
NO_ADVICE: Final = Words("", "", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """An answer with its reasons."""

    question: str
    findings: tuple[Finding, ...]
    words: Words = DECISIONS
    advice: Words = NO_ADVICE
    """What to do now, where the decision does not say it."""

    @property
    def verdicts(self) -> frozenset[Verdict]:
        """Those there are."""
        return frozenset(finding.verdict for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0 go, 1 no-go, 2 can't be judged, which it also is where nothing was found out."""
        if "fail" in self.verdicts:
            return NO_GO
        if "unmeasurable" in self.verdicts or not self.verdicts - {"not judged"}:
            return UNKNOWN
        return GO

    @property
    def decision(self) -> str:
        """In a word or two; what is good with strings attached says so."""
        word = self.words[self.exit_code]
        if self.exit_code != GO:
            return word
        if "conditional" in self.verdicts:
            return f"CONDITIONAL {word}"
        return f"{word} with monitoring" if "watch" in self.verdicts else word


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure is held against."""

    comparison: Literal["<", "<=", ">="]
    value: Decimal
    unit: Unit

    def __str__(self) -> str:
        return f"{self.comparison} {self.unit(self.value)}"

    def holds(self, figure: Decimal) -> bool:
        """Whether a figure is as it should be."""
        if self.comparison == "<":
            return figure < self.value
        return figure <= self.value if self.comparison == "<=" else figure >= self.value


def judged(criterion: str, reading: Reading, limit: Limit) -> Finding:
    """A figure against its limit; one that is not there is unmeasurable."""
    if isinstance(reading, Unmeasured):
        return unmeasurable(criterion, str(limit), reading.why)
    verdict: Verdict = "pass" if limit.holds(reading) else "fail"
    return Finding(criterion, str(limit), limit.unit(reading), verdict)


def every(
    criterion: str, readings: Iterable[Reading], limit: Limit, each: str, at_least: int
) -> Finding:
    """A row of figures, each against the limit: the worst is shown, and one gap spoils it.

    `each` is what one of them is of: a day. A figure that fails does so whatever is missing.
    """
    row = tuple(readings)
    known = [reading for reading in row if isinstance(reading, Decimal)]
    bad = [figure for figure in known if not limit.holds(figure)]
    threshold = f"{limit}, each of {at_least} {each}s"
    if bad:
        worst = min(bad) if limit.comparison == ">=" else max(bad)
        why = f"{len(bad)} of {len(row)} {each}s"
        return Finding(criterion, threshold, f"{limit.unit(worst)} at worst", "fail", why)
    if len(known) < at_least:
        reasons = [reading.why for reading in row if isinstance(reading, Unmeasured)]
        missing = f"{at_least - len(known)} of {at_least} {each}s are not known"
        return unmeasurable(criterion, threshold, ": ".join([missing, *reasons[:1]]))
    worst = min(known) if limit.comparison == ">=" else max(known)
    return Finding(criterion, threshold, f"{limit.unit(worst)} at worst", "pass")


def unmeasurable(criterion: str, threshold: str, why: str) -> Finding:
    """What nobody knows."""
    return Finding(criterion, threshold, "-", "unmeasurable", why)


def ratio(value: Decimal) -> str:
    """A share in percent, to three digits after the point."""
    return f"{_rounded(value * 100, '0.001')} %"


def milliseconds(value: Decimal) -> str:
    """Seconds as people compare them."""
    return f"{_rounded(value * 1000, '0.1')} ms"


def hours(value: Decimal) -> str:
    """Hours, to a tenth."""
    return f"{_rounded(value, '0.1')} h"


def count(value: Decimal) -> str:
    """A number of things."""
    return _rounded(value, "1")


def _rounded(value: Decimal, to: str) -> str:
    # Beyond what digits can hold, as an infinite quantile is, there is nothing to round.
    return number(value.quantize(Decimal(to))) if abs(value) < _LARGEST else str(value)
