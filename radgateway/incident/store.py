"""Where incidents stand: one SQLite file, which one process owns while it serves.

A change and the messages that follow from it are one transaction, written through to the disk
before anybody hears that it was taken: a process that is killed loses nothing that it has answered
for, and sends nothing that did not happen. The store is plain and blocking; `Desk` calls it from a
thread.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from radgateway.incident.deployment import Deployment
from radgateway.incident.notices import Destination, Message
from radgateway.incident.record import OPEN, Incident, Severity

T = TypeVar("T")

WAITING_MAX: Final = 1_000
"""Messages that wait for one destination; what comes then is lost, and said to be."""
_BUSY_S: Final = 2.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS incidents (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    group_key TEXT NOT NULL,
    state TEXT NOT NULL,
    severity TEXT NOT NULL,
    started_at REAL NOT NULL,
    record BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS incidents_by_group ON incidents (group_key, number);
CREATE INDEX IF NOT EXISTS incidents_by_state ON incidents (state, severity, number);
CREATE TABLE IF NOT EXISTS deployments (
    id TEXT PRIMARY KEY,
    began_at REAL NOT NULL,
    record BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    destination TEXT NOT NULL,
    subject TEXT NOT NULL,
    body BLOB NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_by_destination ON outbox (destination, subject, number);
"""
_VERSION: Final = 1
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


class StoreUnavailable(Exception):
    """The file can't be read or written now; the message says which and why."""


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
        """Delete what is closed and began before a time; says how many incidents."""
        self._connection.execute("DELETE FROM deployments WHERE began_at < ?", (before,))
        return self._connection.execute(
            "DELETE FROM incidents WHERE state = 'closed' AND started_at < ?", (before,)
        ).rowcount


class Store:
    """The file. One thread at a time uses it.

    It is opened at once: raises `StoreUnavailable` where it is not ours to use.
    """

    def __init__(self, path: str, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        with self._unavailable():
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
        try:
            with self._unavailable():
                self._open()
        except BaseException:
            self._connection.close()
            raise

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """What `work` gives, once all it has changed is on the disk. Raises `StoreUnavailable`."""
        with self._unavailable():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(Transaction(self._connection, self._clock()))
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        return result

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _open(self) -> None:
        run = self._connection.execute
        # Two processes would send everything twice. The kernel lets go when the owner dies.
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA journal_mode = WAL")
        # An incident outlives the power, too; there are few, so that it may cost a write each.
        run("PRAGMA synchronous = FULL")
        (version,) = run("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise StoreUnavailable(f"{self._path}: was written by a newer version")
        self._connection.executescript(_SCHEMA)
        run(f"PRAGMA user_version = {_VERSION}")

    @contextlib.contextmanager
    def _unavailable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            hint = " (does another `incident serve` use it?)" if "locked" in str(error) else ""
            raise StoreUnavailable(f"{self._path}: {error}{hint}") from error


def _read(row: tuple[bytes] | None) -> Incident | None:
    return _incident.decode(row[0]) if row is not None else None
