"""Evidence for the tests: all of it good, and fresh at the tests' time."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from radgateway.release.attested import CRITERIA, Attested
from radgateway.release.evidence import Approval, Attestation, Drill, Evidence, P1Review, Scan
from radgateway.release.evidence_form import FORM
from radgateway.release.thresholds import Thresholds

NOW = datetime(2026, 11, 11, 12, 0, tzinfo=UTC)
"""A Wednesday, with the window open."""
AT = "2026-11-11T08:00:00Z"
SAID = {"by": "ci", "at": AT}
_PERSONS = {
    "release_manager": "ada",
    "sre_lead": "grace",
    "product": "joan",
    "engineering": "barbara",
    "executive": "hedy",
}
APPROVALS = tuple(
    Approval(role=role, by=by, at=AT)  # type: ignore[arg-type]
    for role, by in _PERSONS.items()
)


def attestation(result: str = "passed", at: str = AT) -> Attestation:
    """One entry."""
    return Attestation(result=result, by="ci", at=at)  # type: ignore[arg-type]


def attested(thresholds: Thresholds | None = None, **changes: Any) -> Attested:
    """All that can be attested, with changes; None takes an entry out."""
    given: dict[str, Any] = {name: attestation() for name in CRITERIA if name != "rollback"}
    whole = Evidence(
        version="1.4.0",
        type="minor",
        reason="CVE-2026-0001",
        approvals=APPROVALS,
        scan=Scan(critical=0, high=0, **SAID),
        rollback=Drill(result="passed", took_s=95, **SAID),
        p1_review=P1Review(alerts=41, false_positives=1, **SAID),
        **given,
    )
    return Attested(replace(whole, **changes), thresholds or Thresholds(), NOW)


def filled_in() -> str:
    """The form with every entry's comment taken away."""
    entry = re.compile(r"^# ((?:  - )?\{?[a-z_0-9]+:.*|  - \{.*)$", re.MULTILINE)
    return entry.sub(r"\1", FORM)
