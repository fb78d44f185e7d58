"""What a responder may order of an incident: the form of each order, and what it changes.

The names are those of the paths, `POST /v0/incidents/ID/NAME`, and of the commands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from radgateway.incident import lifecycle
from radgateway.incident.desk import Change
from radgateway.incident.lifecycle import NotAllowed
from radgateway.incident.public_words import with_draft, with_state
from radgateway.incident.record import (
    NAME_MAX,
    TEXT_MAX,
    Draft,
    Incident,
    PageStatus,
    Severity,
    Verdict,
)

Text = Annotated[str, msgspec.Meta(max_length=TEXT_MAX)]
Said = Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_MAX)]
Address = Annotated[str, msgspec.Meta(pattern=r"^https?://[!-~]{1,500}$")]


class Order(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An order with nothing to say but a few words of one's own."""

    text: Text = ""


class NoteOrder(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A line for the timeline."""

    text: Said


class SeverityOrder(Order, kw_only=True):
    """How bad it is."""

    severity: Severity


class VerdictOrder(Order, kw_only=True):
    """Whether the alert was worth it."""

    verdict: Verdict


class CloseOrder(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """That nothing is left to do."""

    postmortem: Address | None = None


class DraftOrder(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A draft for the status page: of a template, or with words of one's own."""

    status: PageStatus
    cause: Said | None = None
    link: Address | None = None
    body: Said | None = None


class PublishOrder(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which draft may be public: what was shown, and not one that came meanwhile."""

    number: int


class ReportOrder(Order, kw_only=True):
    """An incident that no alert has noticed."""

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_MAX)]
    severity: Severity


class Ordered(NamedTuple):
    """The form of an order's body, and what the order changes, given who it is of."""

    form: type[Any]
    change: Callable[[Any, str], Change]


def _acknowledge(order: Order, by: str) -> Change:
    return lambda incident, now: lifecycle.acknowledged(incident, now, by, order.text)


def _respond(order: Order, by: str) -> Change:
    return lambda incident, now: lifecycle.responding(incident, now, by, order.text)


def _grade(order: SeverityOrder, by: str) -> Change:
    return lambda incident, now: lifecycle.graded(incident, order.severity, now, by, order.text)


def _note(order: NoteOrder, by: str) -> Change:
    return lambda incident, now: lifecycle.noted(incident, now, by, "note", order.text)


def _resolve(order: Order, by: str) -> Change:
    return lambda incident, now: lifecycle.resolved(incident, now, by, order.text)


def _judge(order: VerdictOrder, by: str) -> Change:
    return lambda incident, now: lifecycle.judged(incident, order.verdict, now, by, order.text)


def _close(order: CloseOrder, by: str) -> Change:
    return lambda incident, now: lifecycle.closed(incident, order.postmortem, now, by)


def _draft(order: DraftOrder, by: str) -> Change:
    def drafted(incident: Incident, now: float) -> Incident:
        incident = with_draft(
            incident, order.status, now, cause=order.cause, link=order.link, body=order.body
        )
        return lifecycle.noted(incident, now, by, "draft", order.status)

    return drafted


def _publish(order: PublishOrder, by: str) -> Change:
    def published(incident: Incident, now: float) -> Incident:
        draft = _waiting(incident, order.number)
        incident = with_state(incident, draft.number, "queued")
        return lifecycle.noted(incident, now, by, "agreed to publish", draft.status)

    return published


def _waiting(incident: Incident, number: int) -> Draft:
    for draft in incident.drafts:
        # One that the page refused may be tried again once the reason is mended.
        if draft.number == number and draft.state in ("draft", "failed"):
            return draft
    raise NotAllowed(f"{incident.id} has no draft {number} that waits; look at its drafts again.")


ORDERS: Final[dict[str, Ordered]] = {
    "acknowledge": Ordered(Order, _acknowledge),
    "severity": Ordered(SeverityOrder, _grade),
    "respond": Ordered(Order, _respond),
    "note": Ordered(NoteOrder, _note),
    "resolve": Ordered(Order, _resolve),
    "verdict": Ordered(VerdictOrder, _judge),
    "close": Ordered(CloseOrder, _close),
    "draft": Ordered(DraftOrder, _draft),
    "publish": Ordered(PublishOrder, _publish),
}
