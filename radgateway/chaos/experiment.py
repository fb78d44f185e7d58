"""What an experiment is, before it runs and after. Plain data, no I/O."""

from __future__ import annotations

import operator
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from radgateway.chaos.lab import Lab
    from radgateway.chaos.load import Figures

Verdict = Literal["held", "refuted", "aborted", "not run"]
Comparison = Literal["<=", ">=", "=="]

EXIT_CODES: Mapping[Verdict, int] = {"held": 0, "refuted": 1, "aborted": 2, "not run": 2}
_COMPARE: Mapping[Comparison, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
}


class CannotRun(Exception):
    """The experiment can't be run here and now; the message says what is missing."""


class Aborted(Exception):
    """The experiment went further than it may, and was ended."""


class Limit(NamedTuple):
    """A threshold of the hypothesis, which `--limit NAME=VALUE` replaces."""

    value: float
    meaning: str
    """With its unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One measured figure and what the hypothesis says it should be."""

    name: str
    measured: float
    comparison: Comparison
    expected: float
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether the figure is as it should be."""
        return _COMPARE[self.comparison](self.measured, self.expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A hypothesis, and the way to try it."""

    name: str
    phase: str
    """Where in the strategy's 8.1 it stands."""
    hypothesis: str
    blast_radius: str
    """What can be harmed at worst."""
    method: str
    abort: str
    """When it is ended before its time."""
    conduct: Callable[[Lab], Awaitable[None]]
    """Runs it. May raise `CannotRun` and `Aborted`."""
    steady_state: str = "99 % of requests are answered, before and after"
    live: bool = False
    """Whether it needs no more than a gateway's API, so that it can run against one that runs."""
    limits: Mapping[str, Limit] = field(default_factory=dict)
    obstacle: Callable[[], str | None] = lambda: None
    """Why it can't run in this release or on this machine; None where it can."""
    longest_s: float = 300.0
    """Seconds after which it is aborted, at full scale: the strategy's five minutes."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run came to."""

    experiment: Experiment
    where: str
    """The gateway's address, or the sandbox."""
    scale: float
    started_at: str
    """RFC 3339."""
    duration_s: float = 0.0
    verdict: Verdict = "not run"
    reason: str = ""
    """Why it was not run, or aborted."""
    figures: dict[str, Figures] = field(default_factory=dict)
    """Of the load, by phase: before, during, after."""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 the hypothesis held, 1 it was refuted, 2 it could not be tried or was aborted."""
        return EXIT_CODES[self.verdict]

    def judge(self) -> None:
        """Hold the findings against the hypothesis. Nothing found is nothing shown."""
        if not self.findings:
            self.verdict, self.reason = "not run", "nothing was measured"
        else:
            self.verdict = "held" if all(found.holds for found in self.findings) else "refuted"
