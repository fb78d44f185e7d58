"""What the public is told: updates of the status page, made as drafts that a person agrees to.

Nothing of an alert's own text gets here, since it names instances and providers: the words follow
from the kind of trouble alone. They are the strategy's (its 7.4), with what it gives as an example
in their places.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec.structs import replace

from radgateway.incident.record import DRAFTS_MAX, TEXT_MAX, Draft, DraftState, Incident, PageStatus
from radgateway.incident.severity import MATRIX
from radgateway.incident.words import at, filled, span


class _Trouble(NamedTuple):
    headline: str
    problem: str
    impact: str


_TROUBLES: Final[dict[str, _Trouble]] = {
    "error_rate": _Trouble(
        "Elevated Error Rates",
        "elevated error rates on the chat completions API",
        "Some requests may fail.",
    ),
    "latency": _Trouble(
        "Slow Responses", "slow responses of the API", "Some requests may take longer than usual."
    ),
}
_TROUBLES["availability"] = _TROUBLES["error_rate"]
_OTHER: Final = _Trouble(
    "Service Disruption", "a disruption of the service", "Some requests may fail or be delayed."
)


def drafted(before: Incident | None, after: Incident, now: float) -> Incident:
    """The incident with the draft that what has just happened asks for.

    One for the beginning of a SEV-1 or 2, one when its mitigation begins, one for its end. Where
    nothing was published there is nothing to end: the draft that waits is withdrawn.
    """
    if not MATRIX[after.severity].status_page and not published(after):
        return after
    was = before.state if before is not None else None
    if after.state == was:
        first = not after.drafts and after.open
        return with_draft(after, "investigating", now) if first else after
    if after.state in ("resolved", "closed"):
        after = _withdrawn(after)
        if after.state == "resolved" and published(after):
            after = with_draft(after, "resolved", now)
        return after
    if after.state == "responding":
        return with_draft(after, "identified", now)
    if after.state == "detected" or not after.drafts:
        return with_draft(after, "investigating", now)
    return after


def published(incident: Incident) -> bool:
    """Whether the public has been told anything, or is about to be."""
    return any(draft.state in ("queued", "published") for draft in incident.drafts)


def with_draft(
    incident: Incident,
    status: PageStatus,
    now: float,
    *,
    cause: str | None = None,
    link: str | None = None,
    body: str | None = None,
) -> Incident:
    """The incident with one more draft; those before it that nobody published are withdrawn.

    `cause` and `link` are for the last update, and `body` in place of the template's own.
    """
    incident = _withdrawn(incident)
    trouble = _trouble(incident)
    ended = incident.resolved_at if incident.resolved_at is not None else now
    text = filled(
        f"status-{status}.txt",
        headline=trouble.headline,
        problem=trouble.problem,
        impact=impact(incident),
        timestamp=at(incident.started_at),
        duration=span(ended - incident.started_at),
        brief_description=cause or "still being investigated",
        link=link or incident.postmortem or "to follow",
    )
    title, _, words = text.partition("\n")
    draft = Draft(
        number=incident.drafts[-1].number + 1 if incident.drafts else 1,
        status=status,
        name=title.partition("] ")[2],
        body=(body or words)[:TEXT_MAX],
    )
    return replace(incident, drafts=(*incident.drafts[-DRAFTS_MAX + 1 :], draft))


def with_state(incident: Incident, number: int, state: DraftState) -> Incident:
    """The incident with one of its drafts in another state."""
    return replace(
        incident,
        drafts=tuple(
            replace(draft, state=state) if draft.number == number else draft
            for draft in incident.drafts
        ),
    )


def impact(incident: Incident) -> str:
    """What callers notice."""
    ratios = [alert.bad_ratio for alert in incident.alerts if alert.bad_ratio is not None]
    share = f" Estimated: {100 * max(ratios):.0f}% of requests." if ratios else ""
    return f"{_trouble(incident).impact}{share}"


def _trouble(incident: Incident) -> _Trouble:
    worst = min(incident.alerts, key=lambda alert: alert.priority, default=None)
    return _TROUBLES.get(worst.category, _OTHER) if worst is not None else _OTHER


def _withdrawn(incident: Incident) -> Incident:
    for draft in incident.drafts:
        if draft.state == "draft":
            incident = with_state(incident, draft.number, "withdrawn")
    return incident
