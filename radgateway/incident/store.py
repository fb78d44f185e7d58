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
from typing import Final, TypeVar

from radgateway.incident.transaction import Transaction

T = TypeVar("T")

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


class StoreUnavailable(Exception):
    """The file can't be read or written now; the message says which and why."""


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
