"""The skeleton of a postmortem, with all that is known filled in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from radgateway.incident.public_words import impact
from radgateway.incident.record import Incident
from radgateway.incident.severity import MATRIX
from radgateway.incident.words import at, filled, span


def postmortem(incident: Incident) -> str:
    """The page, as Markdown."""
    duty = MATRIX[incident.severity]
    detected = next(
        (entry.at for entry in incident.timeline if entry.what in ("detected", "reported")),
        incident.started_at,
    )
    ended = incident.resolved_at
    late = incident.acknowledged_at is not None and (
        incident.acknowledged_at - detected > duty.response_s
    )
    return (
        filled(
            "postmortem.md",
            id=incident.id,
            title=_cell(incident.title),
            severity=incident.severity,
            criteria=duty.criteria,
            began=at(incident.started_at),
            detected=f"{at(detected)}, {span(detected - incident.started_at)} later",
            acknowledged=_acknowledged(incident, detected, late=late),
            resolved=at(ended) if ended is not None else "not yet",
            duration=span(ended - incident.started_at) if ended is not None else "not over",
            verdict=(incident.verdict or "not judged yet").replace("_", " "),
            impact=impact(incident),
            timeline="\n".join(_timeline(incident)),
            alerts="\n".join(_alerts(incident)) or "None: a person noticed it.",
        )
        + "\n"
    )


def _acknowledged(incident: Incident, detected: float, *, late: bool) -> str:
    if incident.acknowledged_at is None:
        return "by nobody"
    limit = span(MATRIX[incident.severity].response_s)
    kept = "later than" if late else "within"
    after = span(incident.acknowledged_at - detected)
    return f"{at(incident.acknowledged_at)}, {after} after its detection ({kept} the {limit})"


def _timeline(incident: Incident) -> Iterator[str]:
    yield "| When | Who | What |"
    yield "|---|---|---|"
    for entry in incident.timeline:
        when = datetime.fromtimestamp(entry.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
        said = f"{entry.what}: {entry.text}" if entry.text else entry.what
        yield f"| {when} | {_cell(entry.by)} | {_cell(said)} |"


def _alerts(incident: Incident) -> Iterator[str]:
    for alert in incident.alerts:
        runbook = f" ([runbook]({alert.runbook}))" if alert.runbook else ""
        yield f"- {_cell(alert.name)}, {alert.priority}: {_cell(alert.description)}{runbook}"


def _cell(text: str) -> str:
    """A text that stays in its cell and is no markup of ours."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
