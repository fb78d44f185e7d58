"""From one environment into the next (the strategy's 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from radgateway.release.attested import Attested
from radgateway.release.finding import Finding, Judgement, Limit, Reading, count, judged
from radgateway.release.measures import serving
from radgateway.release.opening import window_findings


class Gate(NamedTuple):
    """What the way into the next environment asks for."""

    asks: Callable[[Attested], list[Finding]]
    serves: bool = False
    """Whether the environment before must be seen to run this very version."""


GATES: Final[Mapping[tuple[str, str], Gate]] = {
    ("local", "alpha"): Gate(lambda said: [said.passed("tests")]),
    ("alpha", "staging"): Gate(
        lambda said: [
            said.passed("image_build"),
            said.scanned("Security scan", "critical"),
            said.passed("code_review"),
            said.rolled_back_within(said.thresholds.gates.staging_rollback_s),
        ]
    ),
    ("staging", "production"): Gate(
        lambda said: [
            said.passed("smoke_tests"),
            said.passed("integration_tests"),
            *said.approved("release_manager"),
            *window_findings("production", said),
            said.rolled_back_within(said.thresholds.gates.production_rollback_s),
        ],
        serves=True,
    ),
}


def gate(source: str, target: str) -> Gate:
    """The one between two environments. Raises `ValueError` where there is none."""
    found = GATES.get((source, target))
    if found is None:
        ways = ", ".join(f"{a} {b}" for a, b in GATES)
        raise ValueError(f"there is no gate from {source} to {target}; there are: {ways}")
    return found


def queries(asked: Gate, said: Attested) -> dict[str, str]:
    """What the Prometheus of the environment before is asked, by name."""
    return {"serving": serving(said.thresholds.job, said.evidence)} if asked.serves else {}


def judge(source: str, target: str, said: Attested, figures: Mapping[str, Reading]) -> Judgement:
    """The decision on a promotion; `figures` has what was asked for."""
    asked, evidence = gate(source, target), said.evidence
    findings = asked.asks(said)
    if asked.serves:
        limit = Limit(">=", Decimal(1), count)
        criterion = f"Instances in {source} that serve {evidence.build}"
        findings.append(judged(criterion, figures["serving"], limit))
    question = f"Promote {evidence.version} ({evidence.type}) from {source} to {target}"
    return Judgement(question=question, findings=tuple(findings))
