"""A judgement as a table for people, or as JSON for programs."""

from __future__ import annotations

import json

from radgateway.release.finding import Judgement
from radgateway.slo.tables import Table

_HEAD = ("Criterion", "Threshold", "Measured", "Verdict", "Why")


def as_text(judgement: Judgement) -> str:
    """The table of the findings, then the decision."""
    rows = tuple(tuple(map(plain, finding)) for finding in judgement.findings)
    parts = [Table(judgement.question, _HEAD, rows).as_text(), "", judgement.decision]
    if advice := judgement.advice[judgement.exit_code]:
        parts.append(advice)
    return "\n".join(parts) + "\n"


def as_json(judgement: Judgement) -> str:
    """The same with names."""
    shown = {
        "question": judgement.question,
        "decision": judgement.decision,
        "exitCode": judgement.exit_code,
        "advice": judgement.advice[judgement.exit_code],
        "findings": [finding._asdict() for finding in judgement.findings],
    }
    return json.dumps(shown, indent=2, ensure_ascii=False) + "\n"


def plain(text: str) -> str:
    """In one line, and without what a terminal would obey: some of it is from elsewhere."""
    return "".join(c if c.isprintable() else " " for c in text)
