"""What was attested, as findings: good on somebody's word, while that is fresh."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from radgateway.release.evidence import Attestation, Drill, Evidence, Word, when
from radgateway.release.finding import Finding, unmeasurable
from radgateway.release.thresholds import Thresholds
from radgateway.release.types import TYPES, Role

CRITERIA: Final = {
    "tests": "Tests pass",
    "image_build": "Image builds",
    "code_review": "Code review",
    "ci_checks": "All CI checks pass",
    "smoke_tests": "Smoke tests",
    "integration_tests": "Integration tests",
    "migration": "Database migration tested",
    "rollback": "Rollback tested",
    "on_call_notified": "On-call engineer notified",
    "feature_flags": "Feature flags configured",
    "risk_assessment": "Risk assessed",
    "penetration_test": "Penetration test",
    "on_call_rotation": "On-call rotation of trained engineers",
    "runbooks": "All runbooks tested and validated",
}
"""Entries of the evidence that have a result, in words."""
STANDING: Final = frozenset({"penetration_test", "on_call_rotation", "p1_review"})
"""What is true for longer than one release."""


@dataclass(frozen=True, slots=True)
class Attested:
    """The evidence as it is read at a moment."""

    evidence: Evidence
    thresholds: Thresholds
    now: datetime

    def passed(self, name: str) -> Finding:
        """An entry with a result."""
        word: Attestation | Drill | None = getattr(self.evidence, name)
        wanted = "passed"
        if word is None:
            return self._missing(CRITERIA[name], wanted, name)
        if word.result == "failed":
            return Finding(CRITERIA[name], wanted, "failed", "fail", _said(word))
        return self._good(CRITERIA[name], wanted, word.result.replace("_", " "), name, word)

    def rolled_back_within(self, seconds: int) -> Finding:
        """A rollback that was tried, and ended in time."""
        criterion, wanted = "Rollback within its time", f"<= {seconds} s"
        drill = self.evidence.rollback
        if drill is None:
            return self._missing(criterion, wanted, "rollback")
        if drill.result == "failed" or drill.took_s > seconds:
            return Finding(criterion, wanted, f"{drill.result}, {drill.took_s} s", "fail")
        return self._good(criterion, wanted, f"{drill.took_s} s", "rollback", drill)

    def scanned(self, criterion: str, *severities: str) -> Finding:
        """No vulnerability of these severities."""
        wanted = f"no {' or '.join(severities)}"
        scan = self.evidence.scan
        if scan is None:
            return self._missing(criterion, wanted, "scan")
        found = ", ".join(f"{getattr(scan, each)} {each}" for each in severities)
        if any(getattr(scan, each) for each in severities):
            return Finding(criterion, wanted, found, "fail", _said(scan))
        return self._good(criterion, wanted, found, "scan", scan)

    def approved(self, *always: Role) -> list[Finding]:
        """The approvals that this type of release needs, and others; each of another person."""
        kind = self.evidence.type
        findings = []
        persons: dict[str, Role] = {}
        for role in dict.fromkeys((*always, *TYPES[kind].approvals)):
            criterion, wanted = f"Approval: {role.replace('_', ' ')}", f"of a {kind}"
            of_role = (each for each in self.evidence.approvals if each.role == role)
            given = max(of_role, key=when, default=None)
            if given is None:
                findings.append(self._missing(criterion, wanted, f"approvals with {role}"))
                continue
            before = persons.setdefault(given.by.strip().casefold(), role)
            if before != role:
                why = f"{given.by} has approved as {before.replace('_', ' ')} already"
                findings.append(Finding(criterion, wanted, "given", "fail", why))
                continue
            findings.append(self._good(criterion, wanted, "given", "approvals", given))
        return findings

    def because(self) -> Finding:
        """Why it is a hotfix."""
        criterion, reason = "Reason of the hotfix", self.evidence.reason.strip()
        if not reason:
            return self._missing(criterion, "given", "reason")
        return Finding(criterion, "given", reason, "attested")

    def fresh(self, criterion: str, wanted: str, name: str, word: Word) -> Finding | None:
        """What there is to say against the time of a word; None where nothing is."""
        standing = name in STANDING
        days, hours = self.thresholds.standing_max_age_d, self.thresholds.evidence_max_age_h
        most = timedelta(days=days) if standing else timedelta(hours=hours)
        age = self.now - when(word)
        if age < -timedelta(minutes=5):
            return unmeasurable(criterion, wanted, f"{name}: {word.at} is in the future")
        if age > most:
            limit = f"{days} days" if standing else f"{hours} hours"
            return unmeasurable(criterion, wanted, f"{name}: {word.at} is over {limit} ago")
        return None

    def _good(self, criterion: str, wanted: str, found: str, name: str, word: Word) -> Finding:
        stale = self.fresh(criterion, wanted, name, word)
        return stale or Finding(criterion, wanted, found, "attested", _said(word))

    def _missing(self, criterion: str, wanted: str, name: str) -> Finding:
        return unmeasurable(criterion, wanted, f"the evidence has no {name}")


def _said(word: Word) -> str:
    return " ".join(part for part in (f"{word.by}, {word.at}", word.link) if part)
