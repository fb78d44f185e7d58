"""What can be read and changed within one transaction of the store."""

from __future__ import annotations

import sqlite3
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from radgateway.incident.deployment import Deployment
from radgateway.incident.notices import Destination, Message
from radgateway.incident.record import OPEN, Incident, Severity

WAITING_MAX: Final = 1_000
"""Messages that wait for one destination; what comes then is lost, and said to be."""
_FIRST: Final = """
SELECT number, subject, body, attempts, due_at FROM outbox AS mine
WHERE destination = ? AND NOT EXISTS (
    SELECT 1 FROM outbox AS earlier
    WHERE earlier.destination = mine.destination AND earlier.subject = mine.subject
    AND earlier.number < mine.number
)
ORDER BY due_at, number LIMIT 1
"""
"""What is due first; a message waits for those before it about the same subject."""
_ARE_OPEN: Final = ", ".join(f"'{state}'" for state in OPEN)

_incident = msgspec.json.Decoder(Incident)
_deployment = msgspec.json.Decoder(Deployment)


class Job(NamedTuple):
    """A message that is to be sent."""

    number: int
    subject: str
    body: dict[str, Any]
    attempts: int
    """How often it was tried before: a try that nobody saw the end of may have arrived."""
    draft: int = 0
    """Of an update of the status page: its number in the incident."""


class Page(NamedTuple):
    """Some incidents, newest first."""

    incidents: list[Incident]
    more: bool


class Transaction:
    """What can be read and changed within one transaction."""

    def __init__(self, connection: sqlite3.Connection, now: float) -> None:
        self._connection = connection
        self.now = now
        """When it happens, in Unix seconds."""
        self.lost: list[Message] = []
        """Messages that there was no room for."""

    def incident(self, number: int) -> Incident | None:
        """One incident."""
        select = "SELECT record FROM incidents WHERE number = ?"
        return _read(self._connection.execute(select, (number,)).fetchone())

    def latest_of(self, group_key: str) -> Incident | None:
        """The newest incident of a group."""
        select = "SELECT record FROM incidents WHERE group_key = ? ORDER BY number DESC LIMIT 1"
        return _read(self._connection.execute(select, (group_key,)).fetchone())

    def page(
        self,
        *,
        is_open: bool | None = None,
        severity: Severity | None = None,
        since: float = 0.0,
        before: int | None = None,
        limit: int,
    ) -> Page:
        """Incidents that fit, newest first, of those before a number."""
        where = ["started_at >= ?"]
        values: list[object] = [since]
        if is_open is not None:
            where.append(f"state {'' if is_open else 'NOT '}IN ({_ARE_OPEN})")
        if severity is not None:
            where.append("severity = ?")
            values.append(severity)
        if before is not None:
            where.append("number < ?")
            values.append(before)
        select = f"SELECT record FROM incidents WHERE {' AND '.join(where)} "  # noqa: S608 - of ours
        rows = self._connection.execute(
            f"{select} ORDER BY number DESC LIMIT ?", (*values, limit + 1)
        ).fetchall()
        return Page([_incident.decode(row[0]) for row in rows[:limit]], len(rows) > limit)

    def open_counts(self) -> dict[str, int]:
        """How many incidents are open, by severity."""
        select = "SELECT severity, count(*) FROM incidents "
        select += f"WHERE state IN ({_ARE_OPEN}) GROUP BY severity"
        return dict(self._connection.execute(select).fetchall())

    def save(self, incident: Incident) -> Incident:
        """Store an incident; a new one is given its number."""
        if incident.number == 0:
            insert = "INSERT INTO incidents (group_key, state, severity, started_at, record) "
            cursor = self._connection.execute(
                f"{insert} VALUES (?, ?, ?, ?, ?)",
                (incident.group_key, incident.state, incident.severity, incident.started_at, b""),
            )
            assert cursor.lastrowid is not None
            incident = replace(incident, number=cursor.lastrowid)
        self._connection.execute(
            "UPDATE incidents SET state = ?, severity = ?, record = ? WHERE number = ?",
            (
                incident.state,
                incident.severity,
                msgspec.json.encode(incident),
                incident.number,
            ),
        )
        return incident

    def deployment(self, id_: str) -> Deployment | None:
        """One deployment."""
        row = self._connection.execute(
            "SELECT record FROM deployments WHERE id = ?", (id_,)
        ).fetchone()
        return _deployment.decode(row[0]) if row is not None else None

    def deployments(self, limit: int) -> list[Deployment]:
        """The newest deployments."""
        select = "SELECT record FROM deployments ORDER BY began_at DESC LIMIT ?"
        return [_deployment.decode(row[0]) for row in self._connection.execute(select, (limit,))]

    def save_deployment(self, deployment: Deployment) -> None:
        """Store a deployment."""
        self._connection.execute(
            "INSERT OR REPLACE INTO deployments VALUES (?, ?, ?)",
            (deployment.id, deployment.began_at, msgspec.json.encode(deployment)),
        )

    def queue(self, message: Message) -> None:
        """Have a message sent; where too many wait already it is among the `lost`."""
        if self.waiting(message.to) >= WAITING_MAX:
            self.lost.append(message)
            return
        self._connection.execute(
            "INSERT INTO outbox (destination, subject, body, due_at) VALUES (?, ?, ?, ?)",
            (message.to, message.subject, msgspec.json.encode(message.body), self.now),
        )

    def waiting(self, destination: Destination) -> int:
        """How many messages wait for a destination."""
        count: int = self._connection.execute(
            "SELECT count(*) FROM outbox WHERE destination = ?", (destination,)
        ).fetchone()[0]
        return count

    def claim(self, destination: Destination) -> Job | float | None:
        """The message to send now, its try counted; else when there will be one, or None."""
        row = self._connection.execute(_FIRST, (destination,)).fetchone()
        if row is None:
            return None
        number, subject, body, attempts, due_at = row
        if due_at > self.now:
            return float(due_at)
        self._connection.execute(
            "UPDATE outbox SET attempts = attempts + 1 WHERE number = ?", (number,)
        )
        said: dict[str, Any] = msgspec.json.decode(body)
        return Job(number, subject, said, attempts, said.get("draft", 0))

    def put_off(self, job: Job, due_at: float) -> None:
        """Try a message again later."""
        self._connection.execute(
            "UPDATE outbox SET due_at = ? WHERE number = ?", (due_at, job.number)
        )

    def done(self, job: Job) -> None:
        """Forget a message: it has arrived, or never will."""
        self._connection.execute("DELETE FROM outbox WHERE number = ?", (job.number,))

    def forget(self, before: float) -> int:
        """Delete what is over and began before a time; says how many incidents."""
        self._connection.execute("DELETE FROM deployments WHERE began_at < ?", (before,))
        delete = f"DELETE FROM incidents WHERE state NOT IN ({_ARE_OPEN}) AND started_at < ?"  # noqa: S608 - of ours
        return self._connection.execute(delete, (before,)).rowcount


def _read(row: tuple[bytes] | None) -> Incident | None:
    return _incident.decode(row[0]) if row is not None else None
