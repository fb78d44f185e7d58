"""Before production: the strategy's checklist and its decision matrix (9.4)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from radgateway.release.attested import Attested
from radgateway.release.finding import (
    Finding,
    Judgement,
    Limit,
    Reading,
    Verdict,
    hours,
    judged,
    milliseconds,
    ratio,
)
from radgateway.release.measures import P95, WORDS, hours_served, measure


def queries(said: Attested) -> dict[str, str]:
    """What the Prometheus of staging is asked, by name."""
    job, limits = said.thresholds.job, said.thresholds.go_no_go
    names = ("error-rate", *P95)
    return {
        "soak": hours_served(job, said.evidence, limits.soak_window),
        **{name: measure(name, job, limits.window) for name in names},
    }


def judge(said: Attested, figures: Mapping[str, Reading]) -> Judgement:
    """The decision; `figures` has what was asked for."""
    limits, evidence = said.thresholds.go_no_go, said.evidence
    errors = _graded(
        f"Error rate in staging, {limits.window}",
        figures["error-rate"],
        Limit("<", limits.error_ratio, ratio),
        limits.error_ratio_conditional,
        ("conditional", "the risk has to be assessed"),
    )
    findings = [
        said.passed("ci_checks"),
        judged(
            f"Staging has served {evidence.build}",
            figures["soak"],
            Limit(">=", limits.soak_h, hours),
        ),
        said.scanned("Vulnerabilities", "critical", "high"),
        errors,
        *(
            _graded(
                f"{WORDS[name]}, {limits.window}",
                figures[name],
                Limit("<", limits.p95_s, milliseconds),
                limits.p95_watch_s,
                ("watch", "deploy with an extended canary"),
            )
            for name in P95
        ),
        said.passed("migration"),
        said.passed("rollback"),
        said.passed("on_call_notified"),
        said.passed("feature_flags"),
    ]
    if errors.verdict == "conditional":
        findings.append(said.passed("risk_assessment"))
    question = f"Go or no-go for {evidence.version} ({evidence.type})"
    return Judgement(question=question, findings=tuple(findings))


def _graded(
    criterion: str, reading: Reading, limit: Limit, up_to: Decimal, between: tuple[Verdict, str]
) -> Finding:
    """A figure with a grade between good and bad, and what that one asks for."""
    finding = judged(criterion, reading, limit)
    if isinstance(reading, Decimal) and not limit.holds(reading) and reading <= up_to:
        verdict, why = between
        return finding._replace(verdict=verdict, why=why)
    return finding
