"""What Alertmanager's webhook says: its version 4, read into alerts.

The form is that of its documentation. Labels and annotations are somebody else's text: bounded, and
none of it means anything but the few names that are read here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec

from radgateway.incident.record import NAME_MAX, Alert
from radgateway.incident.severity import priority_of

_LABELS_MAX: Final = 64
_WORDS_MAX: Final = 1_000


class WebhookAlert(msgspec.Struct, rename="camel"):
    """One alert of the webhook. `ends_at` is in the future, or the year 1, while it fires."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    starts_at: datetime
    ends_at: datetime
    annotations: dict[str, str] = {}
    fingerprint: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Webhook(msgspec.Struct, rename="camel"):
    """The body of one notification: a group of alerts."""

    version: Literal["4"]
    group_key: Annotated[str, msgspec.Meta(min_length=1, max_length=4_096)]
    status: Literal["firing", "resolved"]
    alerts: Annotated[list[WebhookAlert], msgspec.Meta(max_length=5_000)]
    truncated_alerts: int = 0


def alerts_of(webhook: Webhook) -> list[Alert]:
    """The alerts that make an incident; none for a group that only says that alerting works."""
    return [
        _alert(alert, priority)
        for alert in webhook.alerts
        if (priority := priority_of(alert.labels)) is not None
    ]


def _alert(alert: WebhookAlert, priority: Literal["P1", "P2", "P3"]) -> Alert:
    labels = {
        name[:NAME_MAX]: value[:NAME_MAX]
        for name, value in sorted(alert.labels.items())[:_LABELS_MAX]
    }
    said = alert.annotations
    firing = alert.status == "firing"
    return Alert(
        # Alertmanager sends one; it is the hash of the labels, and they do as well.
        fingerprint=alert.fingerprint or repr(labels),
        name=labels.get("alertname", "unnamed"),
        priority=priority,
        category=labels.get("category", ""),
        labels=labels,
        summary=said.get("summary", "")[:_WORDS_MAX],
        description=said.get("description", "")[:_WORDS_MAX],
        runbook=said.get("runbook_url", "")[:_WORDS_MAX],
        firing=firing,
        started_at=alert.starts_at.timestamp(),
        ended_at=None if firing else alert.ends_at.timestamp(),
        bad_ratio=_bad_ratio(said),
    )


def _bad_ratio(said: Mapping[str, str]) -> float | None:
    """The share of requests that fail, as the generated alerts tell it: directly or as its rest."""
    failing = _ratio(said.get("failing_ratio"))
    if failing is not None:
        return failing
    served = _ratio(said.get("served_ratio"))
    return None if served is None else 1.0 - served


def _ratio(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return min(max(value, 0.0), 1.0) if math.isfinite(value) else None
