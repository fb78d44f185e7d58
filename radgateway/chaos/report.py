"""A report as people and programs read it: a table, Markdown, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from radgateway import __version__
from radgateway.chaos.experiment import Experiment, Report


def table(rows: Sequence[Sequence[str]]) -> str:
    """Cells in columns, the first row over a rule."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def listing(experiments: Sequence[Experiment]) -> str:
    """All experiments, one a line, and what stands against those that can't run."""
    rows = [["experiment", "phase", "runs against", "hypothesis"]]
    notes = [""]
    for experiment in experiments:
        rows.append([experiment.name, experiment.phase, _where(experiment), experiment.hypothesis])
        if obstacle := experiment.obstacle():
            notes.append(f"{experiment.name} is pending: {obstacle}")
    notes.append("All of one: radgateway chaos list NAME. To try it: radgateway chaos run NAME.")
    return "\n".join([table(rows), *notes])


def in_full(experiment: Experiment) -> str:
    """All that is to be known of an experiment before it is run."""
    parts = {
        "phase": experiment.phase,
        "runs against": _where(experiment),
        "pending": experiment.obstacle() or "",
        "hypothesis": experiment.hypothesis,
        "steady state": experiment.steady_state,
        "blast radius": experiment.blast_radius,
        "method": experiment.method,
        "abort": experiment.abort,
    }
    lines = [f"{name.ljust(12)}  {text}" for name, text in parts.items() if text]
    if experiment.limits:
        rows = [["--limit", "meaning"]]
        rows += [[f"{name}={value:g}", text] for name, (value, text) in experiment.limits.items()]
        lines += ["", table(rows)]
    return "\n".join([experiment.name, "", *lines])


def _where(experiment: Experiment) -> str:
    if experiment.obstacle():
        return "pending"
    return "sandbox, --url" if experiment.live else "sandbox"


def as_text(report: Report) -> str:
    """The findings as a table, and the verdict."""
    lines = []
    if report.findings:
        rows = [["finding", "measured", "expected", ""]]
        rows += [[*cells, "holds" if holds else "FAILS"] for *cells, holds in _findings(report)]
        lines += [table(rows), ""]
    reason = f": {report.reason}" if report.reason else ""
    lines.append(
        f"{report.experiment.name}: {_VERDICTS[report.verdict]}{reason} "
        f"({report.duration_s:g} s, {report.where})"
    )
    return "\n".join(lines)


_VERDICTS = {
    "held": "the hypothesis HELD",
    "refuted": "the hypothesis is REFUTED",
    "aborted": "ABORTED",
    "not run": "NOT RUN",
}


def as_markdown(report: Report) -> str:
    """A page for the record of a game day."""
    experiment = report.experiment
    lines = [
        f"# Chaos experiment: {experiment.name}",
        "",
        f"**Verdict: {report.verdict}.** {report.reason}".rstrip(),
        "",
        "| | |",
        "|---|---|",
        f"| Hypothesis | {experiment.hypothesis} |",
        f"| Steady state | {experiment.steady_state} |",
        f"| Blast radius | {experiment.blast_radius} |",
        f"| Method | {experiment.method} |",
        f"| Abort | {experiment.abort} |",
        f"| Against | {report.where} |",
        f"| Started, took | {report.started_at}, {report.duration_s:g} s |",
        f"| Scale of time | {report.scale:g} |",
        f"| radgateway | {__version__} |",
    ]
    if report.findings:
        lines += ["", "## Findings", "", "| Finding | Measured | Expected | |", "|---|---|---|---|"]
        lines += [
            f"| {name} | {measured} | {expected} | {'holds' if holds else '**fails**'} |"
            for name, measured, expected, holds in _findings(report)
        ]
    if report.figures:
        lines += ["", "## Load", "", *_load(report)]
    if report.notes:
        lines += ["", "## Notes", "", *[f"- {note}" for note in report.notes]]
    return "\n".join([*lines, ""])


def _load(report: Report) -> list[str]:
    lines = ["| Phase | Requests | Answered | p50 ms | p95 ms | p99 ms | By |"]
    lines.append("|---|---|---|---|---|---|---|")
    lines += [
        f"| {phase} | {f.requests} | {f.answered} | {f.p50_ms:g} | {f.p95_ms:g} "
        f"| {f.p99_ms:g} | {_counts(f.providers)} |"
        for phase, f in report.figures.items()
    ]
    failures = {phase: f.failures for phase, f in report.figures.items() if f.failures}
    if failures:
        lines += ["", "Failures:", ""]
        lines += [f"- {phase}: {_counts(counts)}" for phase, counts in failures.items()]
    return lines


def as_json(report: Report) -> str:
    """The same for a program."""
    experiment = report.experiment
    document: dict[str, Any] = {
        "experiment": experiment.name,
        "phase": experiment.phase,
        "hypothesis": experiment.hypothesis,
        "steady_state": experiment.steady_state,
        "blast_radius": experiment.blast_radius,
        "method": experiment.method,
        "abort": experiment.abort,
        "verdict": report.verdict,
        "reason": report.reason,
        "where": report.where,
        "scale": report.scale,
        "started_at": report.started_at,
        "duration_s": report.duration_s,
        "version": __version__,
        "findings": [{**asdict(found), "holds": found.holds} for found in report.findings],
        "load": {
            phase: {**asdict(figures), "success_ratio": round(figures.success_ratio, 4)}
            for phase, figures in report.figures.items()
        },
        "notes": report.notes,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _findings(report: Report) -> list[tuple[str, str, str, bool]]:
    return [
        (
            found.name,
            f"{found.measured:g}{found.unit}",
            f"{found.comparison} {found.expected:g}{found.unit}",
            found.holds,
        )
        for found in report.findings
    ]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items()) or "nobody"
