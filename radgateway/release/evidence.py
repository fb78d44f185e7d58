"""What CI and people attest of a release, from a YAML file: who, when, with what result.

Whatever is left out is not known, and so never good. A mistake in the file is an error with its
line: a misspelt entry would else be one that is not there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from radgateway.config.bind import Binder
from radgateway.config.load import read_file
from radgateway.config.problems import Report
from radgateway.config.tree import note_places
from radgateway.config.values import REVISION, matches
from radgateway.release.types import Role, Type
from radgateway.usage.moment import moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """That something was done, and how it came out."""

    result: Literal["passed", "failed", "not_applicable"]
    """`not_applicable` only of what not every release has: a migration, feature flags."""
    by: str
    """A person, or a run of CI."""
    at: str
    """When, as RFC 3339 or a day in UTC."""
    link: str = ""
    """Where more is to be seen."""

    def __post_init__(self) -> None:
        _check(self.by, self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """A rollback that was tried."""

    result: Literal["passed", "failed"]
    took_s: int
    """Seconds from the command to the verified end of it."""
    by: str
    at: str
    link: str = ""

    def __post_init__(self) -> None:
        _check(self.by, self.at)
        if self.took_s < 0:
            raise ValueError("took_s must be 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What a scan of image and dependencies found."""

    critical: int
    high: int
    by: str
    at: str
    link: str = ""

    def __post_init__(self) -> None:
        _check(self.by, self.at)
        for name in ("critical", "high"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class P1Review:
    """What a review found of the P1 alerts that fired."""

    alerts: int
    """Those that somebody judged."""
    false_positives: int
    by: str
    at: str
    link: str = ""

    def __post_init__(self) -> None:
        _check(self.by, self.at)
        if self.alerts < 0:
            raise ValueError("alerts must be 0 or more")
        if not 0 <= self.false_positives <= self.alerts:
            raise ValueError("false_positives must be 0 to the number of alerts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A person's yes, in a role."""

    role: Role
    by: str
    at: str
    link: str = ""

    def __post_init__(self) -> None:
        _check(self.by, self.at)


Word = Attestation | Drill | Scan | P1Review | Approval
"""Somebody's word: `by` whom, and `at` what time."""


def when(word: Word) -> datetime:
    """The time of a word, in UTC."""
    return datetime.fromtimestamp(moment(word.at, 0.0), UTC)


def _check(by: str, at: str) -> None:
    if not by.strip():
        raise ValueError("by must say who")
    if "-" not in at[1:]:
        # An age would be one of when the file is read, not of when it was written.
        raise ValueError("at must be RFC 3339 (2026-11-25T10:00:00Z) or a day (2026-11-25)")
    try:
        moment(at, 0.0)
    except ValueError as error:
        raise ValueError(f"at {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All of it. What is None nobody has attested."""

    version: str
    """Of the release: the package's number."""
    type: Type
    revision: str = ""
    """The commit it was built from, as `telemetry.revision` has it. Empty means any build of the
    version."""
    reason: str = ""
    """Of a hotfix: the critical bug or the security issue."""
    approvals: tuple[Approval, ...] = field(default=())
    tests: Attestation | None = None
    image_build: Attestation | None = None
    scan: Scan | None = None
    code_review: Attestation | None = None
    ci_checks: Attestation | None = None
    smoke_tests: Attestation | None = None
    integration_tests: Attestation | None = None
    migration: Attestation | None = None
    rollback: Drill | None = None
    on_call_notified: Attestation | None = None
    feature_flags: Attestation | None = None
    risk_assessment: Attestation | None = None
    penetration_test: Attestation | None = None
    on_call_rotation: Attestation | None = None
    runbooks: Attestation | None = None
    p1_review: P1Review | None = None

    def __post_init__(self) -> None:
        if not self.version.strip():
            raise ValueError("version must not be empty")
        if self.revision:
            matches(self, "revision", REVISION, "letters, digits and dots, 64 at most")
        for each in fields(self):
            word = getattr(self, each.name)
            if getattr(word, "result", "") == "not_applicable" and each.name not in OPTIONAL:
                raise ValueError(f"{each.name} must be passed or failed: no release goes without")

    @property
    def build(self) -> str:
        """What is meant, as `rad_gateway_build_info` has it where the revision is told."""
        return f"{self.version}+{self.revision}" if self.revision else self.version


OPTIONAL: Final = frozenset({"migration", "feature_flags"})


def load_evidence(file: Path) -> Evidence:
    """The evidence of a file. Raises `ConfigError`."""
    root = read_file(file)
    report = Report()
    note_places(root, report)
    evidence = Binder(report).section(Evidence, root)
    report.raise_if_any()
    assert isinstance(evidence, Evidence)
    return evidence
