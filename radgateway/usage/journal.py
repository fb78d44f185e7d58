"""Usage rows on disk from the moment they are made until the ledger has them.

A journal is a folder of segments, files to which one process appends. The process holds a lock on
each, which the kernel takes back when it dies, however it dies: whoever opens the folder next finds
the segments whose lock is free and brings their rows into the ledger. A row that the ledger has is
marked, and is not brought in: the ledger would know its id, but not for longer than it keeps the
row. What was on its way there when the process died has no mark, and is written once more.

A segment is mapped into memory: a row is copied and no system call is made, which would let go of
the interpreter for as long as another thread likes to keep it. The file has its full size from the
beginning, so that a full disk is found then, and not by a signal later.

Rows are handed to the kernel, not to the disk: they outlive the process, and what the machine had
not yet written out is lost when the power goes. So it is with the SQLite ledger, too.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec

from radgateway.asgi import Clock
from radgateway.usage.row import UsageRow

if sys.platform != "win32":
    import fcntl

AVAILABLE = sys.platform != "win32"
"""Whether this system has the locks a journal needs."""

_SUFFIX = ".journal"
_MAGIC = b"radusage2\n"
"""Begins every segment. The number changes where fields of a row do more than come at the end."""
_FRAME = struct.Struct("<II")
"""Before each row: its length in bytes, with `_VOID` where it no longer counts, and its CRC-32.
A length of 0 is the end."""
_VOID = 1 << 31
_FLAGS = os.O_RDWR | os.O_CLOEXEC if AVAILABLE else 0
_RETRY_S = 5.0
"""Seconds a disk that took no row is left alone for."""


class Segment:
    """One file of a journal, open and locked by this process; mapped where it is written."""

    __slots__ = ("_fd", "_map", "outstanding", "path", "sealed", "size", "spilled")

    def __init__(self, path: Path, fd: int, room: int = 0) -> None:
        self.path = path
        self._fd = fd
        self._map = mmap.mmap(fd, room) if room else None
        self.size = 0
        """Bytes that were written."""
        self.outstanding = 0
        """Rows of it that somebody holds in memory and has not released."""
        self.sealed = False
        """Whether no row will be added."""
        self.spilled = False
        """Whether it has rows that nobody holds in memory."""

    def append(self, frame: bytes) -> None:
        """Add bytes, for which there has to be room."""
        assert self._map is not None
        end = self.size + len(frame)
        self._map[self.size : end] = frame
        self.size = end

    def void(self, at: int) -> None:
        """Mark the row that begins at a byte as one that no longer counts."""
        assert self._map is not None
        self._map[at + 3] |= _VOID >> 24

    def rows(self) -> tuple[list[UsageRow], int]:
        """Its rows, the latest first, and the bytes at its end that are none.

        Latest first, because of two rows with one id the ledger keeps the one it gets first.
        """
        data = self.path.read_bytes()
        if not data.startswith(_MAGIC):
            return [], len(data.rstrip(b"\0"))
        rows, end = _unframed(data, len(_MAGIC))
        rows.reverse()
        return rows, len(data[end:].rstrip(b"\0"))

    def set_aside(self) -> Path:
        """Keep a file that can't be read, under a name that nobody looks for; the new path."""
        aside = self.path.with_suffix(".unreadable")
        self.path.rename(aside)
        self.close()
        return aside

    def remove(self) -> None:
        """Delete the file."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self.close()

    def close(self) -> None:
        """Let go of the file, and of its lock."""
        fd, self._fd = self._fd, -1
        mapped, self._map = self._map, None
        if mapped is not None:
            mapped.close()
        if fd >= 0:
            os.close(fd)


class Entry(NamedTuple):
    """Where a journal has a row."""

    segment: Segment
    at: int
    """The byte at which it begins."""


class Journal:
    """The segments of one process in a folder, which other processes may use as well.

    `append`, `release` and `abandon` are for one thread, the event loop's. What they leave to do
    (`finished`, `spilled`) takes longer and is for another thread; so is `adopt`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = 1024 * 1024,
        max_bytes: int = 256 * 1024 * 1024,
        clock: Clock = time.monotonic,
        on_change: Callable[[OSError | None], object] = lambda error: None,
    ) -> None:
        if not 0 < segment_bytes <= max_bytes:
            raise ValueError("segment_bytes must be more than 0 and at most max_bytes")
        self.folder = folder
        self.available = True
        """Whether the disk took the last row."""
        self.finished: deque[Segment] = deque()
        """Segments all of whose rows were released: to be removed."""
        self.spilled: deque[Segment] = deque()
        """Segments with rows that only they hold: to be read, stored, and removed."""
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._clock = clock
        self._on_change = on_change
        self._encode = msgspec.msgpack.Encoder().encode
        self._current: Segment | None = None
        self._sealed: set[Segment] = set()
        self._retry_at = 0.0

    def append(self, row: UsageRow) -> Entry | None:
        """Write a row that the caller has in memory too; to be released when the ledger has it.

        None where the disk does not take it: then only memory has it.
        """
        if self._retry_at and self._clock() < self._retry_at:
            return None
        payload = self._encode(row)
        frame = _FRAME.pack(len(payload), crc32(payload)) + payload
        segment = self._current
        if segment is None or segment.size + len(frame) > self._segment_bytes:
            try:
                segment = self._next(len(frame))
            except OSError as error:
                self._failed(error)
                return None
        entry = Entry(segment, segment.size)
        segment.append(frame)
        segment.outstanding += 1
        if not self.available:
            self.available, self._retry_at = True, 0.0
            self._on_change(None)
        return entry

    def release(self, entry: Entry) -> None:
        """The ledger has the row, or another entry says it anew: this one no longer counts."""
        entry.segment.void(entry.at)
        self._let_go(entry.segment)

    def abandon(self, entry: Entry) -> None:
        """There is no room in memory for the row: from now on only the disk has it."""
        entry.segment.spilled = True
        self._let_go(entry.segment)

    def seal_spilled(self) -> None:
        """Add no more to a segment that has spilled rows, so that they can be brought in."""
        if self._current is not None and self._current.spilled:
            self._seal(self._current)

    def removed(self, segment: Segment) -> None:
        """A segment of this process is gone: its room is free again."""
        self._sealed.discard(segment)

    def adopt(self) -> list[Segment]:
        """The segments that dead processes have left, now this one's to bring in and remove."""
        try:
            paths = sorted(self.folder.glob(f"*{_SUFFIX}"), reverse=True)
        except OSError:
            return []
        return [segment for path in paths if (segment := _take(path)) is not None]

    def close(self) -> None:
        """Let go of everything; what has rows that nobody stored stays for the next process."""
        if self._current is not None:
            self._seal(self._current)
        for segment in self.finished:
            with contextlib.suppress(OSError):
                segment.remove()
        for segment in self._sealed:
            segment.close()

    def _next(self, room: int) -> Segment:
        """The segment after the current one. Raises `OSError`."""
        if self._current is not None:
            self._seal(self._current)
        if len(_MAGIC) + room > self._segment_bytes:
            raise OSError(f"a row of {room} bytes is too long")
        if (len(self._sealed) + 1) * self._segment_bytes > self._max_bytes:
            raise OSError(f"the journal has its {self._max_bytes} bytes")
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._current = _create(self.folder, self._segment_bytes)
        return self._current

    def _seal(self, segment: Segment) -> None:
        segment.sealed = True
        self._sealed.add(segment)
        self._current = None
        if not segment.outstanding:
            self._settle(segment)

    def _let_go(self, segment: Segment) -> None:
        segment.outstanding -= 1
        if segment.sealed and not segment.outstanding:
            self._settle(segment)

    def _settle(self, segment: Segment) -> None:
        (self.spilled if segment.spilled else self.finished).append(segment)

    def _failed(self, error: OSError) -> None:
        self._retry_at = self._clock() + _RETRY_S
        if self.available:
            self.available = False
            self._on_change(error)


def _unframed(data: bytes, at: int) -> tuple[list[UsageRow], int]:
    """The rows up to the first that is not whole, and where that begins."""
    decode = msgspec.msgpack.Decoder(UsageRow).decode
    rows: list[UsageRow] = []
    while at + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, at)
        start = at + _FRAME.size
        end = start + (length & ~_VOID)
        payload = data[start:end]
        if not length or end > len(data) or crc32(payload) != checksum:
            break
        if not length & _VOID:
            try:
                rows.append(decode(payload))
            except msgspec.MsgspecError:
                break
        at = end
    return rows, at


def _create(folder: Path, size: int) -> Segment:
    """A new segment of a size, locked. Raises `OSError`."""
    while True:
        # Names sort by age, to the microsecond, and two processes never choose the same.
        name = f"{time.time_ns() // 1000:016d}-{secrets.token_hex(4)}{_SUFFIX}"
        path = folder / name
        fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            # Another process that looks for segments may have taken it before its lock was ours.
            if _lock(fd, path):
                os.posix_fallocate(fd, 0, size)
                segment = Segment(path, fd, size)
                segment.append(_MAGIC)
                return segment
        except OSError:
            path.unlink(missing_ok=True)
            os.close(fd)
            raise
        os.close(fd)


def _take(path: Path) -> Segment | None:
    """An existing segment, locked; None where its process lives, or another took it first."""
    try:
        fd = os.open(path, _FLAGS)
    except OSError:
        return None
    segment = Segment(path, fd)
    try:
        if _lock(fd, path):
            return segment
    except OSError:
        pass  # no locks on this file system: nothing of ours is here either
    segment.close()
    return None


def _lock(fd: int, path: Path) -> bool:
    """Lock a file, if it is free and still the one at its path. Raises `OSError`."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
