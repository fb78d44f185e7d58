"""The weekly review of alerts: which were worth it (the strategy, 6.3: under 5 % false positives).

Only a person can say what an alert was worth, so every incident of an alert is marked. The ratio of
those that are marked says nothing of the others: as long as one is not, the target is not met.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any, Final, Literal, NamedTuple

from radgateway.incident.record import Incident
from radgateway.incident.severity import MATRIX

FALSE_MAX: Final = 0.05
"""The strategy's share of false positives, which a P1 has to stay below."""

Verdict = Literal["met", "missed", "unmeasurable"]


class Tally(NamedTuple):
    """Some incidents of alerts."""

    name: str
    incidents: int
    false_positives: int
    unmarked: int

    @property
    def ratio(self) -> float | None:
        """Of those that are marked; None where none is."""
        marked = self.incidents - self.unmarked
        return self.false_positives / marked if marked else None


class Review(NamedTuple):
    """What a time's alerts came to."""

    incidents: int
    by_priority: tuple[Tally, ...]
    by_alert: tuple[Tally, ...]
    """Most incidents first."""
    answered_late: int
    """Acknowledged later than their severity allows, or by nobody before they were over."""
    acknowledge_s: float | None
    """The median from detection; None where nobody had to."""
    resolve_s: float | None
    verdict: Verdict


def review(incidents: Sequence[Incident]) -> Review:
    """The review of some incidents. Those that people reported are no alerts of ours to judge."""
    of_alerts = [incident for incident in incidents if incident.alerts]
    priorities = [
        _tally(name, (each for each in of_alerts if each.priority == name))
        for name in ("P1", "P2", "P3")
    ]
    names = {alert.name for incident in of_alerts for alert in incident.alerts}
    alerts = [
        _tally(name, (each for each in of_alerts if name in {a.name for a in each.alerts}))
        for name in sorted(names)
    ]
    taken = [
        incident.acknowledged_at - _detected(incident)
        for incident in incidents
        if incident.acknowledged_at is not None
    ]
    ended = [
        incident.resolved_at - incident.started_at
        for incident in incidents
        if incident.resolved_at is not None
    ]
    return Review(
        incidents=len(incidents),
        by_priority=tuple(priorities),
        by_alert=tuple(sorted(alerts, key=lambda tally: (-tally.incidents, tally.name))),
        answered_late=sum(_late(incident) for incident in incidents),
        acknowledge_s=median(taken) if taken else None,
        resolve_s=median(ended) if ended else None,
        verdict=_verdict(priorities[0]),
    )


def as_json(found: Review) -> dict[str, Any]:
    """As the API shows it."""

    def tally(each: Tally) -> dict[str, Any]:
        return {
            "name": each.name,
            "incidents": each.incidents,
            "falsePositives": each.false_positives,
            "unmarked": each.unmarked,
            "falsePositiveRatio": each.ratio,
        }

    return {
        "incidents": found.incidents,
        "priorities": [tally(each) for each in found.by_priority],
        "alerts": [tally(each) for each in found.by_alert],
        "answeredLate": found.answered_late,
        "medianAcknowledgeS": found.acknowledge_s,
        "medianResolveS": found.resolve_s,
        "falsePositiveMax": FALSE_MAX,
        "verdict": found.verdict,
    }


def _tally(name: str, incidents: Iterable[Incident]) -> Tally:
    verdicts = [incident.verdict for incident in incidents]
    return Tally(name, len(verdicts), verdicts.count("false_positive"), verdicts.count(None))


def _verdict(p1: Tally) -> Verdict:
    if p1.ratio is not None and p1.false_positives / p1.incidents >= FALSE_MAX:
        return "missed"  # whatever the others turn out to be
    if p1.unmarked:
        return "unmeasurable"
    return "met"


def _late(incident: Incident) -> bool:
    limit = _detected(incident) + MATRIX[incident.severity].response_s
    answered = incident.acknowledged_at
    if answered is None:
        answered = incident.resolved_at
    return answered is not None and answered > limit


def _detected(incident: Incident) -> float:
    return next(
        (entry.at for entry in incident.timeline if entry.what in ("detected", "reported")),
        incident.started_at,
    )
