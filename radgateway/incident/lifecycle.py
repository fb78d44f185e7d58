"""What may happen to an incident, and what it is then: pure functions from one record to the next.

    detected -> triaged -> responding -> resolved -> closed

Steps may be left out forwards (an alert that ends by itself is resolved from wherever it was), and
only a re-fire leads back. Whatever happens leaves a line in the timeline, with who and when.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from radgateway.incident.record import (
    ALERTS_MAX,
    ENTRIES_MAX,
    NAME_MAX,
    OPEN,
    TEXT_MAX,
    Alert,
    Entry,
    Incident,
    Severity,
    State,
    Verdict,
)
from radgateway.incident.severity import MATRIX, triage, worse

SOURCE: Final = "alertmanager"
"""Who is named where no person did it."""


class NotAllowed(Exception):
    """The incident is not in a state for that; the message says what to do instead."""


def noted(incident: Incident, now: float, by: str, what: str, text: str = "") -> Incident:
    """The incident with one more line. The timeline is ordered, whatever the clock does.

    Once it is full, further lines are left out and counted in the last.
    """
    timeline = incident.timeline
    if len(timeline) >= ENTRIES_MAX - 1:
        kept, counted = timeline[: ENTRIES_MAX - 1], timeline[ENTRIES_MAX - 1 :]
        left_out = 1 + int(counted[0].text.partition(" ")[0] if counted else 0)
        line = Entry(max(now, timeline[-1].at), by, "timeline full", f"{left_out} lines left out")
        return replace(incident, timeline=(*kept, line))
    at = max(now, timeline[-1].at) if timeline else now
    return replace(incident, timeline=(*timeline, Entry(at, by, what, text[:TEXT_MAX])))


def detected(group_key: str, alerts: Iterable[Alert], now: float) -> Incident:
    """A new incident, of a group of alerts."""
    alerts = tuple(alerts)[:ALERTS_MAX]
    first = min(alerts, key=lambda alert: (alert.priority, alert.started_at))
    place = first.labels.get("environment")
    incident = Incident(
        group_key=group_key,
        title=f"{first.name}{f' in {place}' if place else ''}: {first.summary}"[:NAME_MAX],
        severity=triage(alerts),
        # Alertmanager has waited before it told us; it is we who are late, if at all.
        started_at=min(first.started_at, now),
        alerts=alerts,
    )
    incident = noted(incident, incident.started_at, SOURCE, "began", incident.title)
    return noted(incident, now, SOURCE, "detected", f"{incident.severity}: {_counted(alerts)}")


def reported(title: str, severity: Severity, text: str, now: float, by: str) -> Incident:
    """A new incident that a person has noticed: its severity is theirs to say."""
    incident = Incident(title=title[:NAME_MAX], severity=severity, by_hand=True, started_at=now)
    return noted(incident, now, by, "reported", text or title)


def alerted(
    incident: Incident, alerts: Iterable[Alert], now: float, *, group_fires: bool
) -> Incident:
    """What Alertmanager says now of the incident's alerts, and of their group as a whole.

    It sends no more than some alerts of a large group, so that its word on the group counts.
    It is resolved when all have ended, opened again when one fires after that, and worse when they
    are; never better, since what is half mended is not over. A repetition changes nothing.
    """
    known = {alert.fingerprint: alert for alert in incident.alerts}
    fires_anew = False
    for alert in alerts:
        before = known.get(alert.fingerprint)
        if before is None and len(known) >= ALERTS_MAX:
            continue
        known[alert.fingerprint] = alert
        if before is None or before.firing != alert.firing:
            fires_anew = fires_anew or alert.firing
            what = "alert fires" if alert.firing else "alert ended"
            incident = noted(incident, now, SOURCE, what, _named(alert))
    if not group_fires:
        known = {name: _ended(alert, now) for name, alert in known.items()}
    incident = replace(incident, alerts=tuple(known.values()))
    firing = [alert for alert in known.values() if alert.firing]
    # One that goes on firing after a person has called it over is no news to that person.
    if fires_anew and not incident.open:
        incident = _reopened(incident, now)
    if not group_fires and incident.open:
        incident = _moved(
            incident, "resolved", now, SOURCE, what="resolved", text="all alerts have ended"
        )
    found = triage(firing)
    if firing and not incident.by_hand and worse(found, incident.severity):
        incident = replace(incident, severity=found)
        incident = noted(incident, now, SOURCE, "severity", f"{found}: {_counted(firing)}")
    return incident


def acknowledged(incident: Incident, now: float, by: str, text: str = "") -> Incident:
    """Somebody has it."""
    _require(incident, "acknowledge", "detected")
    return _moved(incident, "triaged", now, by, what="acknowledged", text=text)


def graded(incident: Incident, severity: Severity, now: float, by: str, text: str) -> Incident:
    """A person says how bad it is, which is what triage comes to."""
    _require(incident, "grade", *OPEN, "resolved")
    incident = replace(incident, severity=severity, by_hand=True)
    incident = noted(incident, now, by, "severity", f"{severity}{f': {text}' if text else ''}")
    if incident.state == "detected":
        incident = _moved(incident, "triaged", now, by, what="acknowledged")
    return incident


def responding(incident: Incident, now: float, by: str, text: str = "") -> Incident:
    """The mitigation has begun."""
    _require(incident, "respond to", "detected", "triaged")
    return _moved(incident, "responding", now, by, what="responding", text=text)


def resolved(incident: Incident, now: float, by: str, text: str = "") -> Incident:
    """A person has verified that it is over."""
    _require(incident, "resolve", *OPEN)
    return _moved(incident, "resolved", now, by, what="resolved", text=text)


def judged(incident: Incident, verdict: Verdict, now: float, by: str, text: str = "") -> Incident:
    """Whether the alert was worth it. May be said anew, also of one that is closed."""
    incident = replace(incident, verdict=verdict)
    words = verdict.replace("_", " ")
    return noted(incident, now, by, "verdict", f"{words}{f': {text}' if text else ''}")


def closed(incident: Incident, postmortem: str | None, now: float, by: str) -> Incident:
    """Nothing is left to do: it was reviewed, and where it was bad, understood."""
    _require(incident, "close", "resolved")
    if incident.verdict is None:
        raise NotAllowed("Say first whether the alert was useful or a false positive: verdict.")
    postmortem = postmortem or incident.postmortem
    real = incident.verdict == "useful"
    if MATRIX[incident.severity].postmortem and real and postmortem is None:
        raise NotAllowed(f"A {incident.severity} is closed with the address of its postmortem.")
    incident = replace(incident, postmortem=postmortem)
    return _moved(incident, "closed", now, by, what="closed", text=postmortem or "")


def _ended(alert: Alert, now: float) -> Alert:
    return replace(alert, firing=False, ended_at=now) if alert.firing else alert


def _reopened(incident: Incident, now: float) -> Incident:
    incident = replace(incident, state="detected", resolved_at=None, closed_at=None)
    return noted(incident, now, SOURCE, "reopened", "an alert fires again")


def _moved(
    incident: Incident, state: State, now: float, by: str, *, what: str, text: str = ""
) -> Incident:
    incident = noted(incident, now, by, what, text)
    at = incident.timeline[-1].at
    first = incident.acknowledged_at
    if first is None and state in ("triaged", "responding"):
        first = at
    return replace(
        incident,
        state=state,
        acknowledged_at=first,
        resolved_at=at if state == "resolved" else incident.resolved_at,
        closed_at=at if state == "closed" else incident.closed_at,
    )


def _require(incident: Incident, verb: str, *states: State) -> None:
    if incident.state not in states:
        raise NotAllowed(
            f"{incident.id} is {incident.state}: one can only {verb} what is {' or '.join(states)}."
        )


def _named(alert: Alert) -> str:
    place = ", ".join(
        f"{name} {alert.labels[name]}" for name in ("provider", "instance") if name in alert.labels
    )
    said = alert.description or alert.summary
    return f"{alert.name}{f' ({place})' if place else ''}: {said}"


def _counted(alerts: Iterable[Alert]) -> str:
    names = [alert.name for alert in alerts]
    return ", ".join(
        f"{names.count(name)} x {name}" if names.count(name) > 1 else name
        for name in dict.fromkeys(names)
    )
