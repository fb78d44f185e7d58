"""How the API shows incidents and deployments: JSON with times as RFC 3339 in UTC."""

from __future__ import annotations

from typing import Any

from radgateway.incident.deployment import Deployment
from radgateway.incident.record import Incident
from radgateway.usage.moment import rfc3339


def summary(incident: Incident) -> dict[str, Any]:
    """What a list shows of an incident."""
    return {
        "id": incident.id,
        "severity": incident.severity,
        "state": incident.state,
        "open": incident.open,
        "title": incident.title,
        "priority": incident.priority,
        "startedAt": rfc3339(incident.started_at),
        "acknowledgedAt": _time(incident.acknowledged_at),
        "resolvedAt": _time(incident.resolved_at),
        "closedAt": _time(incident.closed_at),
        "verdict": incident.verdict,
        "postmortem": incident.postmortem,
        "alerts": [
            {
                "name": alert.name,
                "status": "firing" if alert.firing else "resolved",
                "priority": alert.priority,
                "summary": alert.summary,
                "description": alert.description,
                "runbook": alert.runbook or None,
                "labels": alert.labels,
                "startedAt": rfc3339(alert.started_at),
                "endedAt": _time(alert.ended_at),
            }
            for alert in incident.alerts
        ],
    }


def in_full(incident: Incident) -> dict[str, Any]:
    """All that is known of an incident."""
    return {
        **summary(incident),
        "timeline": [
            {"at": rfc3339(entry.at), "by": entry.by, "what": entry.what, "text": entry.text}
            for entry in incident.timeline
        ],
        "drafts": [
            {
                "number": draft.number,
                "status": draft.status,
                "state": draft.state,
                "name": draft.name,
                "body": draft.body,
            }
            for draft in incident.drafts
        ],
    }


def deployment_shown(deployment: Deployment) -> dict[str, Any]:
    """A deployment."""
    return {
        "id": deployment.id,
        "version": deployment.version,
        "environment": deployment.environment,
        "by": deployment.by,
        "beganAt": rfc3339(deployment.began_at),
        "endsAt": rfc3339(deployment.ends_at),
        "endedAt": _time(deployment.ended_at),
        "outcome": deployment.outcome,
        "silence": deployment.silence,
    }


def _time(unix_s: float | None) -> str | None:
    return rfc3339(unix_s) if unix_s is not None else None
