"""What a message says when it is sent, and what its record says of it afterwards."""

from __future__ import annotations

from msgspec.structs import replace

from radgateway.incident.lifecycle import noted
from radgateway.incident.notices import Destination
from radgateway.incident.outcome import Delivered, Refused
from radgateway.incident.public_words import with_state
from radgateway.incident.record import Draft, Incident
from radgateway.incident.severity import MATRIX
from radgateway.incident.transaction import Job, Transaction

OUTBOX = "outbox"
"""Who is named where a message was delivered."""


def claimed(transaction: Transaction, destination: Destination) -> Job | float | None:
    """The message to send now, in full; else when there will be one, or None.

    An update of the status page is completed here: what the page calls the incident is known only
    once the update before it has arrived.
    """
    job = transaction.claim(destination)
    if destination != "statuspage" or not isinstance(job, Job):
        return job
    found = _of(transaction, job)
    if found is None:
        return job
    incident, draft = found
    return job._replace(
        body={
            "page_id": incident.page_id,
            "name": draft.name,
            "status": draft.status,
            "body": draft.body,
            "impact": MATRIX[incident.severity].impact,
        }
    )


def settled(
    transaction: Transaction, destination: Destination, job: Job, outcome: Delivered | Refused
) -> None:
    """Forget a message, and leave word of it where it belongs."""
    transaction.done(job)
    if destination == "statuspage":
        found = _of(transaction, job)
        if found is not None:
            transaction.save(_published(*found, outcome, transaction.now))
    elif destination == "slack":
        incident = _incident(transaction, job)
        if incident is not None:
            who = str(job.body["audience"]).replace("_", " ")
            what, text = _words(outcome, "told", "not told", who)
            transaction.save(noted(incident, transaction.now, OUTBOX, what, text))


def _published(
    incident: Incident, draft: Draft, outcome: Delivered | Refused, now: float
) -> Incident:
    delivered = isinstance(outcome, Delivered)
    what, text = _words(outcome, "published", "not published", draft.status)
    incident = with_state(incident, draft.number, "published" if delivered else "failed")
    if isinstance(outcome, Delivered):
        incident = replace(incident, page_id=outcome.reference)
    return noted(incident, now, OUTBOX, what, text)


def _words(outcome: Delivered | Refused, done: str, not_done: str, what: str) -> tuple[str, str]:
    if isinstance(outcome, Delivered):
        return done, what
    return not_done, f"{what}: {outcome.reason}"


def _of(transaction: Transaction, job: Job) -> tuple[Incident, Draft] | None:
    incident = _incident(transaction, job)
    if incident is None:
        return None
    for draft in incident.drafts:
        if draft.number == job.draft:
            return incident, draft
    return None


def _incident(transaction: Transaction, job: Job) -> Incident | None:
    """The incident a message is about; None where it has been forgotten meanwhile."""
    return transaction.incident(int(job.subject.removeprefix("INC-")))
