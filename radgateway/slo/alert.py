"""What an alert is: a rule, and what a person needs with it: priority, team, words and runbook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from radgateway.slo.settings import Settings
from radgateway.slo.yaml_text import Value

Priority = Literal["P1", "P2", "P3", "none"]
Category = Literal["availability", "latency", "error_rate", "infrastructure", "database"]
Delivery = Literal["page", "low_urgency", "chat", "email", "watchdog"]
Measure = Literal["failing_ratio", "served_ratio"]
"""An annotation that the incident app triages by: the share of requests that fail, or the rest."""

TEAMS: Final[Mapping[Category, str]] = {
    "availability": "team_echo",
    "latency": "team_echo",
    "error_rate": "team_echo",
    "infrastructure": "platform_team",
    "database": "platform_team",
}
"""Whose alerts they are; the strategy's alert_routing."""
SEVERITIES: Final[Mapping[Priority, str]] = {
    "P1": "critical",
    "P2": "warning",
    "P3": "info",
    "none": "none",
}
RESPONSES: Final[Mapping[Priority, str]] = {
    "P1": "within 15 minutes; within 5 where nobody is served",
    "P2": "within 1 hour",
    "P3": "within 24 hours",
    "none": "never",
}
"""The strategy's classes of incidents (its 7.1) for its priorities: P1 is SEV-1 or 2, P2 is SEV-3,
P3 is SEV-4 until somebody says more."""
SERVICE: Final = "rad-gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alerting rule, and what a person needs with it."""

    name: str
    expr: str
    priority: Priority
    category: Category
    delivery: Delivery
    runbook: str
    """A page of docs/runbooks, without its ending."""
    summary: str
    description: str
    action: str
    hold: str = ""
    """How long the condition holds before the alert fires; at once where empty."""
    keep: str = ""
    """How long it goes on firing after the condition has passed."""
    more_labels: Mapping[str, str] = field(default_factory=dict)
    measures: Measure | None = None
    """What the expression's value is, where that says how many are served."""

    @property
    def labels(self) -> dict[str, str]:
        """Labels, as routing reads them."""
        return {
            "severity": SEVERITIES[self.priority],
            "priority": self.priority,
            "team": TEAMS[self.category],
            "category": self.category,
            "delivery": self.delivery,
            "service": SERVICE,
            **self.more_labels,
        }

    def annotations(self, settings: Settings) -> dict[str, str]:
        """Words, as templates show them."""
        return {
            "summary": self.summary,
            "description": self.description,
            "action": self.action,
            "respond": RESPONSES[self.priority],
            "runbook_url": settings.page_url(f"runbooks/{self.runbook}"),
            **(
                {self.measures: '{{ $value | printf "%.4f" }}'} if self.measures is not None else {}
            ),
        }

    def as_yaml(self, settings: Settings) -> Value:
        """As a rule of a rule file."""
        rule: dict[str, Value] = {"alert": self.name, "expr": self.expr}
        if self.hold:
            rule["for"] = self.hold
        if self.keep:
            rule["keep_firing_for"] = self.keep
        rule["labels"] = self.labels
        rule["annotations"] = self.annotations(settings)
        return rule
