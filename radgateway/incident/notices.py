"""Who hears of what has happened: messages, made from the record before and after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

from radgateway.incident.record import Incident
from radgateway.incident.severity import MATRIX, Audience, worse
from radgateway.incident.words import filled, span

Destination = Literal["slack", "statuspage", "pagerduty"]

_TEXT_MAX: Final = 3_000
"""Characters of a Slack message that are shown without a click."""
_ALERTS_SHOWN: Final = 5


class Message(NamedTuple):
    """One thing to be sent. Those of one subject arrive in the order in which they were made."""

    to: Destination
    subject: str
    """The id of the incident or deployment."""
    body: dict[str, Any]


def messages(before: Incident | None, after: Incident) -> Iterator[Message]:
    """What has to be sent because one record became another."""
    event = _event(before, after)
    if event is not None:
        for audience in MATRIX[after.severity].audiences:
            text = _slack_text(after, event, audience)
            yield Message("slack", after.id, {"audience": audience, "text": text})
    queued = {draft.number for draft in before.drafts if draft.state == "queued"} if before else ()
    for draft in after.drafts:
        if draft.state == "queued" and draft.number not in queued:
            yield Message("statuspage", after.id, {"draft": draft.number})


def _event(before: Incident | None, after: Incident) -> str | None:
    if before is None:
        return "opened"
    if after.open and not before.open:
        return "opened again"
    if after.open and worse(after.severity, before.severity):
        return "is worse now"
    return "resolved" if before.open and after.state == "resolved" else None


def _slack_text(incident: Incident, event: str, audience: Audience) -> str:
    firing = [alert for alert in incident.alerts if alert.firing]
    lines = [f"- {escaped(alert.description or alert.name)}" for alert in firing[:_ALERTS_SHOWN]]
    if len(firing) > _ALERTS_SHOWN:
        lines.append(f"- and {len(firing) - _ALERTS_SHOWN} more")
    runbook = next((alert.runbook for alert in firing if alert.runbook), "none")
    ended = incident.resolved_at if incident.resolved_at is not None else incident.started_at
    kind = "executives" if audience == "executives" else incident.severity.lower()
    text = filled(
        f"slack-{'resolved' if event == 'resolved' else kind}.txt",
        severity=incident.severity,
        event=event,
        id=incident.id,
        title=escaped(incident.title),
        response=span(MATRIX[incident.severity].response_s),
        alerts="\n".join(lines) or "Reported by a person.",
        runbook=escaped(runbook),
        duration=span(ended - incident.started_at),
    )
    return text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 1]}…"


def escaped(text: str) -> str:
    """Text that Slack shows as it is: an alert's may not call a whole channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
