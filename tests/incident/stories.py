"""Alerts, groups and incidents for the tests, with no more said of them than each needs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from radgateway.incident.lifecycle import detected
from radgateway.incident.record import Alert, Incident, Priority

BEGAN = 1_795_600_800.0
"""2026-11-25 10:00 UTC."""
GROUP = '{}/{alertname!="Watchdog"}:{alertname="HighErrorRate", environment="production"}'


def alert(
    name: str = "HighErrorRate",
    priority: Priority = "P1",
    *,
    firing: bool = True,
    ratio: float | None = None,
    fingerprint: str = "",
    category: str = "error_rate",
    runbook: str = "https://docs.example.invalid/runbooks/error-rate-spike/",
) -> Alert:
    """One alert."""
    return Alert(
        fingerprint=fingerprint or name,
        name=name,
        priority=priority,
        category=category,
        labels={"environment": "production"},
        summary="More than 2 % of requests fail.",
        description="5% of the requests of the last five minutes failed.",
        runbook=runbook,
        firing=firing,
        started_at=BEGAN,
        ended_at=None if firing else BEGAN + 600,
        bad_ratio=ratio,
    )


def incident(*alerts: Alert, number: int = 7, now: float = BEGAN + 60) -> Incident:
    """One that was just detected."""
    return replace(detected(GROUP, alerts or (alert(),), now), number=number)


def notification(
    name: str = "HighErrorRate",
    *,
    status: str = "firing",
    priority: str = "P1",
    key: str = GROUP,
    annotations: dict[str, str] | None = None,
    fingerprint: str = "f1",
) -> dict[str, Any]:
    """A body of Alertmanager's webhook, version 4."""
    began = datetime.fromtimestamp(BEGAN, UTC).isoformat()
    ended = datetime.fromtimestamp(BEGAN + 600, UTC).isoformat()
    firing = status == "firing"
    labels = {"alertname": name, "priority": priority, "environment": "production"}
    return {
        "version": "4",
        "groupKey": key,
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "incidents",
        "groupLabels": {"alertname": name},
        "commonLabels": labels,
        "commonAnnotations": annotations or {},
        "externalURL": "http://alertmanager.example.invalid",
        "alerts": [
            {
                "status": status,
                "labels": {**labels, "category": "error_rate"},
                "annotations": {
                    "summary": "More than 2 % of requests fail.",
                    **(annotations or {}),
                },
                "startsAt": began,
                "endsAt": "0001-01-01T00:00:00Z" if firing else ended,
                "generatorURL": "http://prometheus.example.invalid/graph",
                "fingerprint": fingerprint,
            }
        ],
    }
