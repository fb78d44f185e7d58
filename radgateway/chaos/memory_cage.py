"""A memory limit for one process, kept by the kernel: beyond it, the OOM killer comes.

Control groups of either version, where this user may make one (root in a container, mostly);
elsewhere there is no cage, and who needs one has to do without.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


class MemoryCage:
    """A control group with a limit. What a process held before it came in is not counted."""

    def __init__(self, folder: Path, limit_file: str, events: str) -> None:
        self._folder = folder
        self._limit_file = limit_file
        self._events = events

    def hold(self, pid: int, limit_bytes: int) -> None:
        """Put a process in. Raises `OSError`."""
        (self._folder / self._limit_file).write_text(str(limit_bytes))
        (self._folder / "cgroup.procs").write_text(str(pid))

    def kills(self) -> int:
        """How often the OOM killer has come."""
        for line in (self._folder / self._events).read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
        return 0


@contextlib.contextmanager
def memory_cage() -> Iterator[MemoryCage | None]:
    """A cage until the block ends; None where none can be had."""
    folder = (_V1 if _V1.is_dir() else _V2) / f"radgateway-chaos-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        yield None
        return
    try:
        if (folder / "memory.limit_in_bytes").exists():
            yield MemoryCage(folder, "memory.limit_in_bytes", "memory.oom_control")
        elif (folder / "memory.max").exists():
            yield MemoryCage(folder, "memory.max", "memory.events")
        else:
            yield None
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()
