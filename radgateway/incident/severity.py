"""How bad an incident is, and what that obliges to: the strategy's table of severities (its 7.1).

Alerts have priorities, incidents severities. A P1 is a SEV-2, and a SEV-1 where nobody is served; a
P2 is a SEV-3, unless more than a quarter of the requests fail; a P3 is a SEV-4. Data loss and
security breaches have no alert: whoever sees one says so by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple, get_args

from radgateway.incident.record import Alert, Priority, Severity

MAJOR_RATIO: Final = 0.25
"""The strategy's: more requests than this share fail."""
OUTAGE_RATIO: Final = 0.99
"""Nobody is served, but for what a cache or a race lets through."""
OUTAGE_ALERTS: Final = frozenset({"RadGatewayAbsent"})
"""Alerts that know of no ratio, since nothing is known: an outage until somebody has looked."""

Audience = Literal["war_room", "executives", "tickets", "backlog"]
AUDIENCES: Final[tuple[Audience, ...]] = get_args(Audience)
Impact = Literal["critical", "major", "minor", "none"]


class Duty(NamedTuple):
    """One row of the notification matrix."""

    criteria: str
    response_s: int
    """Until somebody has taken it, in seconds."""
    audiences: tuple[Audience, ...]
    """Who gets a message."""
    status_page: bool
    """Whether the public is told, once a person has agreed."""
    postmortem: bool
    """Whether it can't be closed without one."""
    impact: Impact
    """How the status page shows it."""
    communication: str


MATRIX: Final[Mapping[Severity, Duty]] = {
    "SEV-1": Duty(
        "complete outage, data loss, security breach",
        5 * 60,
        ("war_room", "executives"),
        True,
        True,
        "critical",
        "immediate war room, status page, executives are notified",
    ),
    "SEV-2": Duty(
        "major degradation (over 25 % errors), core feature broken",
        15 * 60,
        ("war_room",),
        True,
        True,
        "major",
        "war room, status page update",
    ),
    "SEV-3": Duty(
        "minor degradation, workaround available",
        60 * 60,
        ("tickets",),
        False,
        False,
        "minor",
        "a ticket, reviewed the next day",
    ),
    "SEV-4": Duty(
        "cosmetic issues, monitoring gaps",
        24 * 60 * 60,
        ("backlog",),
        False,
        False,
        "none",
        "an item of the backlog",
    ),
}
"""Who is told what, and how soon somebody answers; worst first."""
SEVERITIES: Final[tuple[Severity, ...]] = tuple(MATRIX)


def worse(one: Severity, other: Severity) -> bool:
    """Whether one severity is worse than another."""
    return SEVERITIES.index(one) < SEVERITIES.index(other)


def triage(alerts: Iterable[Alert]) -> Severity:
    """The severity of an incident with these alerts: that of the worst."""
    return min((_of_alert(alert) for alert in alerts), key=SEVERITIES.index, default="SEV-4")


def _of_alert(alert: Alert) -> Severity:
    ratio = alert.bad_ratio or 0.0
    if alert.priority == "P1":
        outage = alert.name in OUTAGE_ALERTS or ratio >= OUTAGE_RATIO
        return "SEV-1" if outage else "SEV-2"
    if alert.priority == "P2":
        return "SEV-2" if ratio > MAJOR_RATIO else "SEV-3"
    return "SEV-4"


def priority_of(labels: Mapping[str, str]) -> Priority | None:
    """The priority that an alert's labels say; None for one that is no incident.

    Alerts of other people's rules have no `priority`: the usual `severity` then counts.
    """
    named = labels.get("priority")
    if named == "none":
        return None
    for known in get_args(Priority):
        if named == known:
            found: Priority = known
            return found
    return {"critical": _P1, "warning": _P2}.get(labels.get("severity", ""), _P3)


_P1: Final[Priority] = "P1"
_P2: Final[Priority] = "P2"
_P3: Final[Priority] = "P3"
