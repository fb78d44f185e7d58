"""A deployment, during which what a restart makes noisy is silenced, for a limited time.

The pages stay: they are what tells one to roll back.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from radgateway.incident.notices import Message
from radgateway.slo.alert import SERVICE
from radgateway.usage.moment import rfc3339

Outcome = Literal["deployed", "rolled_back", "failed"]
SILENCED: Final = "low_urgency|chat|email"
"""Ways of telling that a deployment mutes; `page` is none of them."""


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment. Times are Unix seconds."""

    id: str
    version: str
    environment: str
    by: str
    began_at: float
    ends_at: float
    """When the silence ends by itself."""
    ended_at: float | None = None
    outcome: Outcome | None = None
    silence: str | None = None
    """Alertmanager's id of it; None where it has none yet."""


def matchers(deployment: Deployment) -> list[dict[str, Any]]:
    """What Alertmanager keeps to itself meanwhile."""

    def matcher(name: str, value: str, *, regex: bool = False) -> dict[str, Any]:
        return {"name": name, "value": value, "isRegex": regex, "isEqual": True}

    return [
        matcher("service", SERVICE),
        matcher("environment", deployment.environment),
        matcher("delivery", SILENCED, regex=True),
    ]


def change_event(deployment: Deployment) -> Message:
    """What PagerDuty shows beside the incidents of the hour."""
    ended = deployment.ended_at is not None
    what = f"ended: {(deployment.outcome or 'deployed').replace('_', ' ')}" if ended else "began"
    where = f"{SERVICE} {deployment.version} to {deployment.environment}"
    at = deployment.ended_at if deployment.ended_at is not None else deployment.began_at
    body = {
        "summary": f"Deployment of {where} {what}",
        "timestamp": rfc3339(at),
        "source": SERVICE,
        "custom_details": {
            "deployment": deployment.id,
            "version": deployment.version,
            "environment": deployment.environment,
            "by": deployment.by,
        },
    }
    return Message("pagerduty", deployment.id, body)
