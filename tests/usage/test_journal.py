"""Rows in the journal outlive their process, however it ends, and the disk's whims."""

from __future__ import annotations

import base64
import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import astuple

from radgateway.exchange import Exchange
from radgateway.usage.journal import Entry, Journal, Segment
from radgateway.usage.row import AttemptRow, UsageRow, row_of


def row(request_id: str = "r") -> UsageRow:
    """Any row."""
    return row_of(Exchange(request_id, "POST"))


def written(journal: Journal, made: UsageRow) -> Entry:
    """Where the journal has a row, which it has to take."""
    entry = journal.append(made)
    assert entry is not None
    return entry


def files(folder: Path) -> list[Path]:
    """The segments in a folder, the oldest first."""
    return sorted(folder.glob("*.journal"))


def left(folder: Path) -> list[UsageRow]:
    """What a process that starts now finds, and leaves there."""
    segments = Journal(folder).adopt()
    rows = [row for segment in segments for row in segment.rows()[0]]
    for segment in segments:
        segment.close()
    return rows


def test_a_row_can_be_read_back_as_it_was(tmp_path: Path) -> None:
    """Every field, and nothing after it."""
    journal = Journal(tmp_path / "j")
    rows = [row("a"), row("b")]
    (segment,) = {written(journal, each).segment for each in rows}
    assert segment.rows() == (rows[::-1], 0)


class NextRow(UsageRow, frozen=True, array_like=True, gc=False):
    """A row as a later version may have it."""

    more: str | None = None


def test_an_upgrade_finds_the_rows_of_the_version_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And who goes back finds those of the later one, without what it does not know."""
    before = row("before")
    later = NextRow(*[*astuple(row("later")), "known later"])
    for each in (before, later):
        journal = Journal(tmp_path / "j")
        journal.append(each)
        journal.close()
    assert left(tmp_path / "j") == [UsageRow(*astuple(later)[:-1]), before]
    monkeypatch.setattr("radgateway.usage.journal.UsageRow", NextRow)
    assert left(tmp_path / "j") == [later, NextRow(*astuple(before))]


def test_this_format_is_read_by_all_later_versions(tmp_path: Path) -> None:
    """A segment as 0.1 writes it. Fields that change their places would be read as each other."""
    written_by_0_1 = base64.b64decode(
        "cmFkdXNhZ2UyCuIAAAAY04RS3AAc2SAwZDBkMGQwZDBkMGQwZDBkMGQwZDBkMGQwZDBkMGQwZMs/9AAAAAAAAKFyoXSh"
        "a6RjaGF0oi9ypFBPU1ShbaNwLW2hcMzIq2ludGVycnVwdGVkoWWhacPLQCsAAAAAAADLQC0AAAAAAADLQC8AAAAAAAAQ"
        "ERITFKllc3RpbWF0ZWSkMC4yMaN2MjKR3AAToXCjcC1tzMjAw8LLP/gAAAAAAADLQAQAAAAAAADLQAwAAAAAAADLQBIA"
        "AAAAAADLQBYAAAAAAAAGBwgJCqhyZXBvcnRlZKQwLjExo3YxMg=="
    )
    attempt = AttemptRow(
        provider="p",
        model="p-m",
        status=200,
        failure=None,
        sent=True,
        hedge=False,
        offset_ms=1.5,
        duration_ms=2.5,
        first_byte_ms=3.5,
        waited_ms=4.5,
        connect_ms=5.5,
        input_tokens=6,
        output_tokens=7,
        cached_tokens=8,
        cache_write_tokens=9,
        reasoning_tokens=10,
        usage_source="reported",
        cost_usd="0.11",
        price_version="v12",
    )
    request = UsageRow(
        usage_id="0d" * 16,
        started_at=1.25,
        request_id="r",
        trace_id="t",
        api_key_name="k",
        api_type="chat",
        route="/r",
        method="POST",
        model="m",
        selected_model="p-m",
        provider="p",
        status=200,
        outcome="interrupted",
        error_code="e",
        interrupted="i",
        stream=True,
        duration_ms=13.5,
        ttft_ms=14.5,
        queued_ms=15.5,
        input_tokens=16,
        output_tokens=17,
        cached_tokens=18,
        cache_write_tokens=19,
        reasoning_tokens=20,
        usage_source="estimated",
        cost_usd="0.21",
        price_version="v22",
        attempts=(attempt,),
    )
    (tmp_path / "1.journal").write_bytes(written_by_0_1 + bytes(100))
    assert left(tmp_path) == [request]


def test_what_was_stored_leaves_nothing(tmp_path: Path) -> None:
    """A journal all of whose rows were released is gone from the disk when it closes."""
    journal = Journal(tmp_path / "j")
    for entry in [written(journal, row()) for _ in range(10)]:
        journal.release(entry)
    journal.close()
    assert files(tmp_path / "j") == []


def test_what_was_not_stored_is_found_by_the_next(tmp_path: Path) -> None:
    """A journal that closes with rows nobody stored leaves its file, unlocked."""
    journal = Journal(tmp_path / "j")
    kept = row("kept")
    journal.append(kept)
    assert left(tmp_path / "j") == []
    journal.close()
    assert left(tmp_path / "j") == [kept]


def test_a_segment_goes_when_its_last_row_is_stored(tmp_path: Path) -> None:
    """Segments end at their size, and each waits for its own rows only, in whatever order."""
    journal = Journal(tmp_path / "j", segment_bytes=1000)
    held: list[Entry] = []
    while len({entry.segment for entry in held}) < 3:
        held.append(written(journal, row()))
    assert all(path.stat().st_size <= 1000 for path in files(tmp_path / "j"))
    first, second, third = dict.fromkeys(entry.segment for entry in held)
    for entry in held:
        if entry.segment is second:
            journal.release(entry)
    assert list(journal.finished) == [second]
    for entry in held:
        if entry.segment is not second:
            journal.release(entry)
    assert list(journal.finished) == [second, first]
    assert not third.sealed


def test_abandoned_rows_are_to_be_brought_in(tmp_path: Path) -> None:
    """A segment with a row that only it has is not removed, but handed over once it is sealed."""
    journal = Journal(tmp_path / "j")
    rows = [row("stored"), row("abandoned")]
    stored, abandoned = (written(journal, each) for each in rows)
    segment = stored.segment
    journal.abandon(abandoned)
    journal.seal_spilled()
    assert not journal.spilled  # somebody still holds the other row
    journal.release(stored)
    assert list(journal.spilled) == [segment]
    assert not journal.finished
    assert segment.rows()[0] == rows[1:]


def test_a_row_said_anew_counts_once(tmp_path: Path) -> None:
    """Of two rows with one id the earlier is no row any more, in whatever file each is."""
    journal = Journal(tmp_path / "j", segment_bytes=300)
    first, other = row("first"), row("other")
    second = row_of(Exchange("second"), usage_id=first.usage_id)
    before = written(journal, first)
    written(journal, other)
    after = written(journal, second)
    assert before.segment is not after.segment
    journal.release(before)
    journal.close()
    assert sorted(each.request_id for each in left(tmp_path / "j")) == ["other", "second"]


def test_what_the_ledger_has_does_not_come_again(tmp_path: Path) -> None:
    """Not even from a file that is kept for the rows it has besides."""
    journal = Journal(tmp_path / "j")
    rows = [row(name) for name in ("stored", "queued", "stored too", "spilled")]
    stored, _, too, spilled = (written(journal, each) for each in rows)
    journal.release(stored)
    journal.abandon(spilled)
    journal.release(too)
    journal.close()
    assert left(tmp_path / "j") == [rows[3], rows[1]]


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_a_row_half_written_costs_only_itself(tmp_path: Path, cut: int) -> None:
    """A file that ends within a frame gives the rows before, and says how much is left over."""
    journal = Journal(tmp_path / "j")
    whole = [row("a"), row("b")]
    for each in [*whole, row("c")]:
        journal.append(each)
    journal.close()
    (path,) = files(tmp_path / "j")
    written_bytes = path.read_bytes().rstrip(b"\0")
    path.write_bytes(written_bytes[:-cut] + bytes(100))
    (segment,) = Journal(tmp_path / "j").adopt()
    rows, rest = segment.rows()
    assert rows == whole[::-1]
    assert rest > 0


def test_other_bytes_are_no_rows(tmp_path: Path) -> None:
    """Another version's file, and one whose bytes have changed, give no row that nobody wrote."""
    folder = tmp_path / "j"
    folder.mkdir()
    (folder / "1.journal").write_bytes(b"radusage0\n" + bytes(40) + b"row")
    journal = Journal(folder)
    journal.append(row())
    journal.close()
    changed = files(folder)[0] if files(folder)[0].name != "1.journal" else files(folder)[1]
    data = bytearray(changed.read_bytes().rstrip(b"\0"))
    data[-5] ^= 1
    changed.write_bytes(bytes(data))
    for segment in Journal(folder).adopt():
        rows, rest = segment.rows()
        assert rows == []
        assert rest > 0
        aside = segment.set_aside()
        assert aside.exists()
    assert files(folder) == []


def test_a_disk_that_takes_nothing_is_told_once_and_tried_again(tmp_path: Path) -> None:
    """It is left alone for five seconds; rows of that time are in memory only."""
    folder = tmp_path / "j"
    folder.write_text("in the way")
    told: list[OSError | None] = []
    now = [0.0]
    journal = Journal(folder, clock=lambda: now[0], on_change=told.append)
    assert journal.available
    assert [journal.append(row()) for _ in range(3)] == [None] * 3
    assert len(told) == 1
    assert isinstance(told[0], OSError)
    folder.unlink()
    now[0] = 4.9
    assert journal.append(row()) is None
    now[0] = 5.0
    assert journal.append(row()) is not None
    assert told[1:] == [None]


def test_a_full_disk_is_found_before_a_row_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment has its room from the beginning, or it is not begun, and leaves no file."""
    now = [0.0]
    journal = Journal(tmp_path / "j", segment_bytes=300, clock=lambda: now[0])
    before, after = row("before"), row("after")
    journal.append(before)

    def full(*arguments: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "posix_fallocate", full)
        assert [journal.append(row()) for _ in range(3)].count(None) >= 2
        assert not journal.available
    (only,) = files(tmp_path / "j")
    assert only.stat().st_size == 300
    now[0] = 5.0
    assert journal.append(after) is not None
    journal.close()
    assert {after.usage_id, before.usage_id} <= {each.usage_id for each in left(tmp_path / "j")}


def test_a_row_longer_than_a_segment_is_in_memory_only(tmp_path: Path) -> None:
    """It has no room anywhere, and does no harm to those that have."""
    now = [0.0]
    journal = Journal(tmp_path / "j", segment_bytes=300, clock=lambda: now[0])
    assert journal.append(row("x" * 400)) is None
    now[0] = 5.0
    assert journal.append(row()) is not None


def test_its_size_is_bounded(tmp_path: Path) -> None:
    """Beyond its bound it takes no row until some of its segments are gone."""
    now = [0.0]
    journal = Journal(tmp_path / "j", segment_bytes=1000, max_bytes=3000, clock=lambda: now[0])
    while (entry := journal.append(row())) is not None:
        journal.abandon(entry)
    assert sum(path.stat().st_size for path in files(tmp_path / "j")) <= 3000
    now[0] = 10.0
    assert journal.append(row()) is None
    segment = journal.spilled.popleft()
    segment.remove()
    journal.removed(segment)
    now[0] = 20.0
    assert journal.append(row()) is not None


def test_two_that_start_at_once_do_not_take_the_same(tmp_path: Path) -> None:
    """A segment is one process's; a second finds nothing while the first has it."""
    journal = Journal(tmp_path / "j")
    kept = row()
    journal.append(kept)
    journal.close()
    (mine,) = Journal(tmp_path / "j").adopt()
    assert Journal(tmp_path / "j").adopt() == []
    mine.remove()
    assert Journal(tmp_path / "j").adopt() == []


def test_sizes_out_of_range_are_refused(tmp_path: Path) -> None:
    """A journal of no size is none."""
    with pytest.raises(ValueError, match="segment_bytes"):
        Journal(tmp_path, segment_bytes=2, max_bytes=1)


_WRITES = """
import sys
from pathlib import Path
from radgateway.exchange import Exchange
from radgateway.usage.journal import Journal
from radgateway.usage.row import row_of

journal, number = Journal(Path(sys.argv[1]), segment_bytes=20_000), 0
while True:
    number += 1
    entry = journal.append(row_of(Exchange(str(number), "POST")))
    assert entry is not None
    if number % 3 == 0:
        journal.release(entry)
    print(number, flush=True)
"""


@pytest.mark.servers
def test_nothing_written_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    """Of a process killed while it writes, every row that it said was written is there.

    But those that it had said the ledger has.
    """
    folder = tmp_path / "j"
    for _ in range(3):
        command = [sys.executable, "-c", _WRITES, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            said = 0
            while said < 500:
                said = int(child.stdout.readline())
            assert left(folder) == []  # it lives
            child.send_signal(signal.SIGKILL)
            # A line cut short by the kill is a smaller number, or none.
            said = max([said, *(int(line) for line in child.stdout.read().split())])
        segments = Journal(folder).adopt()
        found = {int(each.request_id) for segment in segments for each in segment.rows()[0]}
        assert found >= {number for number in range(1, said + 1) if number % 3}
        assert found.isdisjoint(range(3, said + 1, 3))
        for segment in segments:
            segment.remove()


class Crashes(RuleBasedStateMachine):
    """Rows are written, stored and abandoned; the process crashes; another one brings them in.

    The ledger is a dictionary that keeps the first row of an id, until it is too old. Whatever the
    order, in the end every row that was written was stored as it was last written, and once.
    """

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.folder = Path(self.directory.name) / "j"
        self.ledger: dict[str, UsageRow] = {}
        self.stored: list[UsageRow] = []
        self.last: dict[str, UsageRow] = {}
        self.held: dict[str, Entry] = {}
        self.journal = self.opened()

    def opened(self) -> Journal:
        return Journal(self.folder, segment_bytes=700, max_bytes=10**6)

    @rule()
    def write(self) -> None:
        made = row()
        self.held[made.usage_id] = written(self.journal, made)
        self.last[made.usage_id] = made

    @rule(data=st.data())
    def correct(self, data: st.DataObject) -> None:
        if not self.held:
            return
        usage_id = data.draw(st.sampled_from(list(self.held)))
        made = msgspec.structs.replace(self.last[usage_id], status=499)
        entry = written(self.journal, made)
        self.journal.release(self.held[usage_id])
        self.held[usage_id] = entry
        self.last[usage_id] = made

    @rule(data=st.data(), abandon=st.booleans())
    def finish(self, data: st.DataObject, abandon: bool) -> None:
        if not self.held:
            return
        usage_id = data.draw(st.sampled_from(list(self.held)))
        entry = self.held.pop(usage_id)
        if abandon:
            self.journal.abandon(entry)
        else:
            self.store(self.last[usage_id])
            self.journal.release(entry)

    def store(self, made: UsageRow) -> None:
        if made.usage_id not in self.ledger:
            self.ledger[made.usage_id] = made
            self.stored.append(made)

    @rule()
    def expire(self) -> None:
        self.ledger.clear()

    @rule()
    def sweep(self) -> None:
        self.journal.seal_spilled()
        while self.journal.finished:
            segment = self.journal.finished.popleft()
            segment.remove()
            self.journal.removed(segment)
        while self.journal.spilled:
            self.bring_in(self.journal.spilled.popleft())

    def bring_in(self, segment: Segment) -> None:
        rows, rest = segment.rows()
        assert rest == 0
        for each in rows:
            self.store(each)
        segment.remove()
        self.journal.removed(segment)

    @rule(killed=st.booleans())
    def restart(self, killed: bool) -> None:
        if killed:
            # The kernel closes what a dead process had open, and no more happens.
            for segment in {*self.journal._sealed, self.journal._current}:
                if segment is not None:
                    segment.close()
        else:
            self.journal.close()
        self.held.clear()
        self.journal = self.opened()
        for segment in self.journal.adopt():
            self.bring_in(segment)
        assert {each.usage_id: each for each in self.stored} == self.last
        assert len(self.stored) == len(self.last)
        assert files(self.folder) == []

    @invariant()
    def the_ledger_has_nothing_else(self) -> None:
        assert self.ledger.keys() <= self.last.keys()

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.restart(killed=True)
            self.directory.cleanup()


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
