"""Whether a deployment may begin now, as findings."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from radgateway.release.attested import Attested
from radgateway.release.finding import Finding, Judgement, Words
from radgateway.release.windows import State, Windows, state

WORDS: Final = Words("OPEN", "CLOSED", "CAN'T BE JUDGED")
ALWAYS: Final = ("local", "alpha", "staging")
"""Environments without a window."""


def window_findings(environment: str, said: Attested) -> list[Finding]:
    """Whether it is open for a release; a hotfix needs its approvals in place of a window."""
    if said.evidence.type == "hotfix" and environment not in ALWAYS:
        return [_found("24/7 for a hotfix with approval", "open"), said.because()]
    return [window_finding(environment, said.thresholds.windows, said.now)]


def window_finding(environment: str, windows: Windows, now: datetime) -> Finding:
    """Whether it is open for whatever is no hotfix."""
    if environment in ALWAYS:
        return _found("24/7", "open")
    wanted = f"{', '.join(windows.days)} {windows.opens}-{windows.closes} {windows.zone}"
    found = state(windows, now)
    if found.open:
        return _found(wanted, f"open until {_shown(found)}")
    why = f"{found.why}; opens {_shown(found)}"
    return Finding(_CRITERION, wanted, "closed", "fail", why)


def judge(environment: str, findings: list[Finding]) -> Judgement:
    """The answer for an environment."""
    question = f"Deployment window of {environment}"
    return Judgement(question=question, findings=tuple(findings), words=WORDS)


def _found(wanted: str, measured: str) -> Finding:
    return Finding(_CRITERION, wanted, measured, "pass")


def _shown(found: State) -> str:
    if found.changes is None:
        return "not within 400 days"
    return f"{found.changes:%a} {found.changes.isoformat(timespec='minutes')}"


_CRITERION: Final = "Deployment window"
