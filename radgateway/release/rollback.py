"""Whether to roll back now: the strategy's automatic triggers (its 9.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final

from radgateway.release.finding import (
    Finding,
    Judgement,
    Reading,
    Unit,
    Unmeasured,
    Words,
    count,
    milliseconds,
    ratio,
    unmeasurable,
)
from radgateway.release.incidents import Incident
from radgateway.release.measures import Row
from radgateway.release.thresholds import Rollback
from radgateway.slo.promql import seconds
from radgateway.slo.triggers import TRIGGERS, Tracks, Trigger

WORDS: Final = Words("STAY", "ROLL BACK", "CAN'T BE JUDGED")
_UNITS: Final[dict[str, Unit]] = {
    "error-rate": ratio,
    "overhead-p95": milliseconds,
    "first-token-p95": milliseconds,
    "availability": ratio,
    "sev-1": count,
}
_SEV_1: Final = "SEV-1 incident open"


def queries(tracks: Tracks) -> dict[str, Row]:
    """What Prometheus is asked, by the trigger's name: each moment for as long as it holds."""
    return {
        trigger.name: Row(
            trigger.expr(tracks), seconds(trigger.interval), trigger.failure_limit + 1
        )
        for trigger in TRIGGERS
    }


def judge(
    figures: Mapping[str, Sequence[Reading]],
    incidents: Sequence[Incident] | Unmeasured | None,
    limits: Rollback,
) -> Judgement:
    """Whether a trigger is met. `incidents` are those open; None where nobody was asked."""
    findings = [_triggered(trigger, figures[trigger.name]) for trigger in _limited(limits)]
    findings.append(_incident(incidents))
    return Judgement(question="Automatic rollback triggers", findings=tuple(findings), words=WORDS)


def _limited(limits: Rollback) -> list[Trigger]:
    """The triggers with these limits."""
    given = {
        "error-rate": limits.error_ratio,
        "overhead-p95": limits.p95_s,
        "first-token-p95": limits.p95_s,
        "availability": limits.availability,
    }
    return [replace(each, limit=given.get(each.name, each.limit)) for each in TRIGGERS]


def _triggered(trigger: Trigger, row: Sequence[Reading]) -> Finding:
    """Met where every moment of its time is beyond the limit, and not where one is within it."""
    unit = _UNITS[trigger.name]
    bound = f"{'<=' if trigger.worse == 'above' else '>='} {unit(trigger.limit)}"
    held = f", or for under {trigger.hold}" if trigger.hold else ""
    known = [reading for reading in row if isinstance(reading, Decimal)]
    beyond = [figure for figure in known if _beyond(trigger, figure)]
    latest = row[-1]
    if isinstance(latest, Unmeasured):
        return unmeasurable(trigger.name, bound, latest.why)
    if len(beyond) == len(row):
        return Finding(trigger.name, bound, unit(latest), "fail", trigger.words)
    if len(beyond) < len(known):
        why = f"beyond it at {len(beyond)} of {len(row)} moments" if beyond else ""
        return Finding(trigger.name, bound + held, unit(latest), "pass", why)
    why = f"beyond it, and {len(row) - len(known)} of {len(row)} moments are not known"
    return unmeasurable(trigger.name, bound, why)


def _beyond(trigger: Trigger, figure: Decimal) -> bool:
    return figure > trigger.limit if trigger.worse == "above" else figure < trigger.limit


def _incident(incidents: Sequence[Incident] | Unmeasured | None) -> Finding:
    if incidents is None:
        return Finding(_SEV_1, "none", "-", "not judged", "give --incidents URL to ask for them")
    if isinstance(incidents, Unmeasured):
        return unmeasurable(_SEV_1, "none", incidents.why)
    worst = [each for each in incidents if each.severity == "SEV-1"]
    if worst:
        return Finding(_SEV_1, "none", f"{len(worst)}", "fail", "; ".join(map(str, worst[:3])))
    return Finding(_SEV_1, "none", f"none of {len(incidents)} open", "pass")
