"""What is known of an incident: frozen values, which the store keeps as JSON.

Times are Unix seconds. Every list has a bound; what is left out is said in the timeline.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Severity = Literal["SEV-1", "SEV-2", "SEV-3", "SEV-4"]
Priority = Literal["P1", "P2", "P3"]
State = Literal["detected", "triaged", "responding", "resolved", "closed"]
Verdict = Literal["useful", "false_positive"]
PageStatus = Literal["investigating", "identified", "monitoring", "resolved"]
DraftState = Literal["draft", "queued", "published", "failed", "withdrawn"]

OPEN: Final[tuple[State, ...]] = ("detected", "triaged", "responding")
"""States in which something is still wrong."""
ALERTS_MAX: Final = 200
ENTRIES_MAX: Final = 1_000
DRAFTS_MAX: Final = 100
TEXT_MAX: Final = 4_000
"""Characters of a note or a message."""
NAME_MAX: Final = 200
"""Characters of a title, a name or a label."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert of an incident, as it was last reported."""

    fingerprint: str
    name: str
    priority: Priority
    category: str = ""
    labels: dict[str, str] = {}
    summary: str = ""
    description: str = ""
    runbook: str = ""
    firing: bool
    started_at: float
    ended_at: float | None = None
    bad_ratio: float | None = None
    """The share of requests that fail, 0 to 1, where the alert says it."""


class Entry(msgspec.Struct, frozen=True):
    """One line of the timeline."""

    at: float
    by: str
    what: str
    text: str = ""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """One update of the status page: nothing is public before a person has agreed."""

    number: int
    status: PageStatus
    name: str
    body: str
    state: DraftState = "draft"


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """One incident."""

    number: int = 0
    """Given by the store."""
    group_key: str = ""
    """Alertmanager's; empty for one that a person reported."""
    title: str
    severity: Severity
    by_hand: bool = False
    """A person has said the severity: alerts change it no more."""
    state: State = "detected"
    started_at: float
    acknowledged_at: float | None = None
    resolved_at: float | None = None
    closed_at: float | None = None
    alerts: tuple[Alert, ...] = ()
    timeline: tuple[Entry, ...] = ()
    drafts: tuple[Draft, ...] = ()
    page_id: str | None = None
    """The status page's own id of it."""
    verdict: Verdict | None = None
    """Whether the alert was worth it; None while nobody has said so."""
    postmortem: str | None = None
    """Where it is to be read."""

    @property
    def id(self) -> str:
        """How people call it."""
        return f"INC-{self.number}"

    @property
    def priority(self) -> Priority | None:
        """The worst of its alerts'; None for one that a person reported."""
        return min((alert.priority for alert in self.alerts), default=None)

    @property
    def open(self) -> bool:
        """Whether something is still wrong."""
        return self.state in OPEN
