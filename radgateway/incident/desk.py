"""The desk: takes what is reported and ordered, and keeps record and messages in step.

Every change is one transaction: the record is read, a plain function says what it becomes, and
what has to be told because of it is queued with it. Only then does whoever asked hear that it was
done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from radgateway.incident.deliveries import OUTBOX
from radgateway.incident.deployment import Deployment, change_event
from radgateway.incident.lifecycle import alerted, detected, noted
from radgateway.incident.notices import Destination, Message, messages
from radgateway.incident.outbox import Outbox
from radgateway.incident.public_words import drafted, with_state
from radgateway.incident.record import Alert, Incident
from radgateway.incident.store import Store, StoreUnavailable
from radgateway.incident.telemetry import IncidentInstruments
from radgateway.incident.transaction import Transaction
from radgateway.task_end import end_task

T = TypeVar("T")
Change = Callable[[Incident, float], Incident]
"""What an incident becomes, at a time in Unix seconds."""

_log = logging.getLogger("radgateway.incident")
OPEN_MAX = 1_000
"""Incidents that may be open at once: more are one incident, with its alerts grouped wrongly."""
_HOUR_S = 3_600.0
_DAY_S = 24 * _HOUR_S


class UnknownIncident(LookupError):
    """There is no such incident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the desk goes by."""

    reopen_s: float
    keep_days: int
    told: frozenset[Destination]
    """Destinations that are configured."""
    audiences: frozenset[str]
    """Audiences that have an address."""
    auto_publish: bool


class Desk:
    """The one that changes incidents. Its store is used from one thread, in the order of asking."""

    def __init__(self, store: Store, rules: Rules, instruments: IncidentInstruments) -> None:
        self.outboxes: dict[Destination, Outbox] = {}
        self._store = store
        self._rules = rules
        self._instruments = instruments
        self._thread = ThreadPoolExecutor(1, "incident-store")
        self._keeping: asyncio.Task[None] | None = None

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        """What `work` gives, done and on the disk. Raises `StoreUnavailable`.

        It is done also where whoever asked has gone meanwhile.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._store.transact, work)

    def start(self) -> None:
        """Begin to send, and to forget what is old, in the running loop."""
        for outbox in self.outboxes.values():
            outbox.start()
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    async def aclose(self) -> None:
        """Stop sending, and let go of the file. What waits stays in it."""
        task, self._keeping = self._keeping, None
        await end_task(task)
        for outbox in self.outboxes.values():
            await outbox.aclose()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown(wait=False)

    async def alert(
        self, group_key: str, alerts: Sequence[Alert], *, group_fires: bool
    ) -> Incident | None:
        """Take a notification of Alertmanager; None where there is nothing in it for anybody.

        A group is one incident for as long as it fires, and a while after: how often it is told
        of makes no difference.
        """

        def work(tx: Transaction) -> tuple[Incident | None, str]:
            before = tx.latest_of(group_key)
            if before is not None and self._goes_on(before, tx.now):
                after = self._save(
                    tx, before, alerted(before, alerts, tx.now, group_fires=group_fires)
                )
                again = after.open and not before.open
                return after, "reopened" if again else "updated"
            if not any(alert.firing for alert in alerts):
                return None, "ignored"
            _require_room(tx)
            return self._save(tx, None, detected(group_key, alerts, tx.now)), "opened"

        incident, outcome = await self._changed(work)
        self._instruments.notified(outcome)
        if incident is not None and outcome != "updated":
            _note(incident, outcome)
        return incident

    async def report(self, make: Callable[[float], Incident]) -> Incident:
        """Take what a person has noticed."""

        def work(tx: Transaction) -> Incident:
            _require_room(tx)
            return self._save(tx, None, make(tx.now))

        incident = await self._changed(work)
        _note(incident, "reported")
        return incident

    async def change(self, number: int, change: Change) -> Incident:
        """Change an incident. Raises `UnknownIncident`, and what the change raises."""

        def work(tx: Transaction) -> Incident:
            before = _found(tx, number)
            return self._save(tx, before, change(before, tx.now))

        incident = await self._changed(work)
        _note(incident, incident.timeline[-1].what)
        return incident

    async def incident(self, number: int) -> Incident:
        """One incident. Raises `UnknownIncident`."""
        return await self.transact(lambda tx: _found(tx, number))

    async def deploy(
        self, id_: str, change: Callable[[Deployment | None, float], Deployment]
    ) -> Deployment:
        """Begin or end a deployment, and have it told where that is news."""

        def work(tx: Transaction) -> Deployment:
            before = tx.deployment(id_)
            after = change(before, tx.now)
            tx.save_deployment(after)
            if before is None or (before.ended_at is None and after.ended_at is not None):
                self._queue(tx, [change_event(after)])
            return after

        return await self._changed(work)

    def _goes_on(self, incident: Incident, now: float) -> bool:
        """Whether what is said of a group now is about an incident that there is."""
        if incident.open or any(alert.firing for alert in incident.alerts):
            return True
        ended = incident.resolved_at if incident.resolved_at is not None else incident.started_at
        return incident.state == "resolved" and now - ended <= self._rules.reopen_s

    def _save(self, tx: Transaction, before: Incident | None, after: Incident) -> Incident:
        after = drafted(before, after, tx.now)
        if self._rules.auto_publish:
            for draft in after.drafts:
                if draft.state == "draft":
                    after = with_state(after, draft.number, "queued")
        if after == before:
            return after
        if after.number == 0:
            after = tx.save(after)
        self._queue(tx, messages(before, after))
        for message in tx.lost:
            after = noted(after, tx.now, OUTBOX, "not told", f"{message.to}: too many wait")
            if message.to == "statuspage":
                after = with_state(after, message.body["draft"], "failed")
        return tx.save(after)

    def _queue(self, tx: Transaction, made: Iterable[Message]) -> None:
        for message in made:
            if message.to not in self._rules.told:
                continue
            if message.to == "slack" and message.body["audience"] not in self._rules.audiences:
                continue
            tx.queue(message)

    async def _changed(self, work: Callable[[Transaction], T]) -> T:
        def counted(tx: Transaction) -> tuple[T, dict[str, int], list[Message]]:
            return work(tx), tx.open_counts(), tx.lost

        result, counts, lost = await self.transact(counted)
        self._instruments.opened(counts)
        for message in lost:
            self._instruments.sent(message.to, "lost")
            _log.error(
                "radgateway.incident.message_lost",
                extra={"destination": message.to, "subject": message.subject},
            )
        for outbox in self.outboxes.values():
            outbox.wake()
        return result

    async def _keep(self) -> None:
        """Forget what is old, once an hour; the first time also shows what is open."""
        while True:
            try:
                await self._changed(lambda tx: tx.forget(tx.now - self._rules.keep_days * _DAY_S))
            except StoreUnavailable as error:
                _log.error("radgateway.incident.store_unavailable", extra={"reason": str(error)})
            await asyncio.sleep(_HOUR_S)


def _require_room(tx: Transaction) -> None:
    if sum(tx.open_counts().values()) >= OPEN_MAX:
        raise StoreUnavailable(f"{OPEN_MAX} incidents are open: resolve some")


def _found(tx: Transaction, number: int) -> Incident:
    incident = tx.incident(number)
    if incident is None:
        raise UnknownIncident(number)
    return incident


def _note(incident: Incident, what: str) -> None:
    _log.info(
        "radgateway.incident.changed",
        extra={
            "incident": incident.id,
            "what": what,
            "severity": incident.severity,
            "state": incident.state,
        },
    )
