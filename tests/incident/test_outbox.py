"""Sending: at least once, in order, never for ever; and what the store says of it afterwards."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from incident.stories import BEGAN, incident
from msgspec.structs import replace
from virtual_time import run_virtual

from radgateway.incident.notices import Message
from radgateway.incident.outbox import ASKED_MAX_S, ATTEMPTS_MAX, BASE_S, CAP_S, Outbox, wait_s
from radgateway.incident.outcome import Delivered, Later, Outcome, Refused
from radgateway.incident.store import Store, StoreUnavailable
from radgateway.incident.transaction import WAITING_MAX, Job, Transaction


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(str(tmp_path / "incidents.db"), lambda: BEGAN)
    yield made
    made.close()


class Scripted:
    """A sender that answers as it is told, and remembers what it was given."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.got: list[tuple[str, Any, int]] = []
        self.at: list[float] = []

    async def send(self, job: Job) -> Outcome:
        self.got.append((job.subject, job.body.get("text"), job.attempts))
        self.at.append(asyncio.get_running_loop().time())
        return self.outcomes.pop(0) if self.outcomes else Delivered()

    async def aclose(self) -> None:
        pass


def told(subject: str, text: str) -> Message:
    return Message("slack", subject, {"audience": "war_room", "text": text})


def queue(store: Store, *messages: Message) -> list[Message]:
    """Have messages wait; those that are lost."""

    def work(tx: Transaction) -> list[Message]:
        for message in messages:
            tx.queue(message)
        return tx.lost

    return store.transact(work)


def sent_by(path: str, sender: Scripted, for_s: float) -> list[str]:
    """Run an outbox for some virtual seconds; gives what it counted."""
    counted: list[str] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()

        def clock() -> float:
            return BEGAN + loop.time()

        store = Store(path, clock)

        async def transact(work: Callable[[Transaction], Any]) -> Any:
            return store.transact(work)

        outbox = Outbox(
            "slack",
            sender,
            transact,
            on_outcome=lambda destination, outcome: counted.append(outcome),
            clock=clock,
            rng=random.Random(1),
        )
        outbox.start()
        await asyncio.sleep(for_s)
        await outbox.aclose()
        store.close()

    run_virtual(story())
    return counted


def prepared(tmp_path: Path, *messages: Message) -> str:
    """A store in which messages wait about INC-1 and INC-2."""
    path = str(tmp_path / "incidents.db")
    store = Store(path, lambda: BEGAN)
    for _ in range(2):
        store.transact(lambda tx: tx.save(replace(incident(), number=0)))
    queue(store, *messages)
    store.close()
    return path


def timeline(path: str, number: int) -> list[tuple[str, str]]:
    store = Store(path, lambda: BEGAN)
    found = store.transact(lambda tx: tx.incident(number))
    store.close()
    assert found is not None
    return [(entry.what, entry.text) for entry in found.timeline if entry.by == "outbox"]


def test_messages_of_a_subject_keep_their_order(tmp_path: Path) -> None:
    """One that has to wait holds up those after it about the same, and no others."""
    path = prepared(tmp_path, told("INC-1", "a"), told("INC-1", "b"), told("INC-2", "c"))
    sender = Scripted(Later("busy", 50.0))
    assert sent_by(path, sender, 100) == ["delayed", "delivered", "delivered", "delivered"]
    assert sender.got == [
        ("INC-1", "a", 0),
        ("INC-2", "c", 0),
        ("INC-1", "a", 1),
        ("INC-1", "b", 0),
    ]
    assert sender.at[2] >= 50.0
    assert timeline(path, 1) == [("told", "war room")] * 2


def test_what_never_arrives_is_given_up_and_said(tmp_path: Path) -> None:
    """After so many tries, and at once where there is no use in any; the next has its turn."""
    path = prepared(tmp_path, told("INC-1", "a"), told("INC-1", "b"), told("INC-2", "c"))
    busy = [Later("busy")] * (ATTEMPTS_MAX - 1)
    sender = Scripted(Refused("it answered 404"), Refused("it answered 410"), *busy, Later("busy"))
    counted = sent_by(path, sender, ATTEMPTS_MAX * (CAP_S + 60))
    assert counted == ["failed", "failed", *["delayed"] * (ATTEMPTS_MAX - 1), "failed"]
    assert timeline(path, 1) == [
        ("not told", "war room: it answered 404"),
        ("not told", "war room: it answered 410"),
    ]
    assert timeline(path, 2) == [("not told", "war room: given up after 12 tries: busy")]


def test_a_try_that_was_cut_short_counts(tmp_path: Path) -> None:
    """A process that ends in the middle of a call leaves the message, and that it was tried."""
    path = prepared(tmp_path, told("INC-1", "a"))

    class Endless(Scripted):
        async def send(self, job: Job) -> Outcome:
            self.got.append((job.subject, job.body["text"], job.attempts))
            await asyncio.Event().wait()
            raise AssertionError

    cut_short, after = Endless(), Scripted()
    sent_by(path, cut_short, 10)
    sent_by(path, after, 10)
    assert cut_short.got == [("INC-1", "a", 0)]
    assert after.got == [("INC-1", "a", 1)]
    again = Scripted()
    sent_by(path, again, 10)
    assert again.got == []


def test_a_sender_with_a_bug_silences_nobody(tmp_path: Path) -> None:
    """What it fell over is tried again, so often as any other; what comes after has its turn."""
    path = prepared(tmp_path, told("INC-1", "a"), told("INC-2", "b"))

    class Buggy(Scripted):
        async def send(self, job: Job) -> Outcome:
            outcome = await super().send(job)
            if job.subject == "INC-1":
                raise KeyError("audience")
            return outcome

    sent_by(path, Buggy(), ATTEMPTS_MAX * (CAP_S + 60))
    assert timeline(path, 1) == [("not told", "war room: given up after 12 tries: a bug: KeyError")]
    assert timeline(path, 2) == [("told", "war room")]


@given(st.integers(1, ATTEMPTS_MAX - 1), st.none() | st.floats(0, 1e9), st.integers())
def test_waits_have_bounds(attempts: int, asked_s: float | None, seed: int) -> None:
    """No sooner than asked, within reason; with jitter, so that nobody comes back together."""
    wait = wait_s(attempts, asked_s, random.Random(seed))
    assert wait is not None
    least = min(asked_s or 0.0, ASKED_MAX_S)
    assert least <= wait <= least + min(CAP_S, BASE_S * 2**attempts)
    assert wait_s(ATTEMPTS_MAX, asked_s, random.Random(seed)) is None


def test_a_message_is_tried_for_as_long_as_it_is_said() -> None:
    """The longest waits come to 47 minutes, and half of that is the average (docs/how-to)."""
    most_s = sum(min(CAP_S, BASE_S * 2**attempts) for attempts in range(1, ATTEMPTS_MAX))
    rng = random.Random(1)
    waits = [wait_s(n, None, rng) or 0.0 for _ in range(500) for n in range(1, ATTEMPTS_MAX)]
    assert round(most_s / 60) == 47
    assert abs(sum(waits) / 500 / most_s - 0.5) < 0.03


def test_a_change_and_its_messages_are_one(store: Store) -> None:
    """Where anything fails, neither is there."""

    def broken(tx: Transaction) -> None:
        tx.save(replace(incident(), number=0))
        tx.queue(told("INC-1", "a"))
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        store.transact(broken)
    assert store.transact(lambda tx: (tx.incident(1), tx.waiting("slack"))) == (None, 0)


def test_what_waits_is_bounded(store: Store) -> None:
    """What does not fit is said to be lost, and nothing that waits makes room for it."""
    lost = queue(store, *(told("INC-1", str(n)) for n in range(WAITING_MAX + 3)))
    assert [message.body["text"] for message in lost] == ["1000", "1001", "1002"]
    assert store.transact(lambda tx: tx.waiting("slack")) == WAITING_MAX


def test_one_process_owns_the_file(store: Store, tmp_path: Path) -> None:
    """A second would send everything twice: it is told why it can't."""
    with pytest.raises(StoreUnavailable, match="does another `incident serve` use it"):
        Store(str(tmp_path / "incidents.db"), lambda: BEGAN)


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """It may mean something else by the same words."""
    path = tmp_path / "incidents.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreUnavailable, match="newer version"):
        Store(str(path), lambda: BEGAN)


def test_what_is_no_store_is_said_to_be_none(tmp_path: Path) -> None:
    """A folder, or a file of something else."""
    (tmp_path / "text.db").write_text("this is no database" * 100)
    for name in ("text.db", "", "missing/incidents.db"):
        with pytest.raises(StoreUnavailable):
            Store(str(tmp_path / name), lambda: BEGAN)


def test_only_what_is_over_is_forgotten(store: Store) -> None:
    """However old the others are."""
    for state in ("detected", "resolved", "closed", "closed"):
        record = replace(incident(), number=0, state=state)
        store.transact(lambda tx, record=record: tx.save(record))  # type: ignore[misc]
    assert store.transact(lambda tx: tx.forget(BEGAN + 1)) == 3
    left = store.transact(lambda tx: tx.page(limit=10)).incidents
    assert [each.state for each in left] == ["detected"]


def test_a_list_has_pages(store: Store) -> None:
    """Newest first, by state and severity, from after a number on."""
    for number in range(5):
        severity = "SEV-1" if number % 2 else "SEV-2"
        record = replace(incident(), number=0, severity=severity)
        store.transact(lambda tx, record=record: tx.save(record))  # type: ignore[misc]
    first = store.transact(lambda tx: tx.page(is_open=True, limit=2))
    assert ([each.number for each in first.incidents], first.more) == ([5, 4], True)
    rest = store.transact(lambda tx: tx.page(is_open=True, before=4, limit=10))
    assert ([each.number for each in rest.incidents], rest.more) == ([3, 2, 1], False)
    bad = store.transact(lambda tx: tx.page(severity="SEV-1", limit=10))
    assert [each.number for each in bad.incidents] == [4, 2]
    assert store.transact(lambda tx: tx.page(is_open=False, limit=10)).incidents == []
    assert store.transact(lambda tx: tx.open_counts()) == {"SEV-1": 2, "SEV-2": 3}
