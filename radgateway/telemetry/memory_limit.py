"""How much memory this process may use: the container's limit, else the machine's memory.

Control groups bound a process by the smallest limit on the way from its own group to the root;
inside a container that way is often one step. `memory.max` is version 2's file, `max` where there
is no limit; version 1 says the same with a number no machine has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def memory_limit_bytes(groups: Path = _GROUPS, own: Path = _OWN_GROUPS) -> int:
    """Bytes, of the smallest limit there is. A few small reads from the kernel, no disk."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min((machine, *(found for found in _limits(groups, own) if found > 0)))


def _limits(groups: Path, own: Path) -> Iterator[int]:
    for root, path, name in _places(groups, own):
        group = PurePosixPath("/", path)
        for step in (group, *group.parents):
            found = _number(root / str(step).lstrip("/") / name)
            if found is not None:
                yield found


def _places(groups: Path, own: Path) -> Iterator[tuple[Path, str, str]]:
    """Where a limit may stand: the hierarchy's folder, our group in it, and the file's name."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        # hierarchy:controllers:path (man 7 cgroups); version 2 is hierarchy 0 with no controllers
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            yield groups, path, "memory.max"
        elif "memory" in controllers.split(","):
            yield groups / "memory", path, "memory.limit_in_bytes"


def _number(file: Path) -> int | None:
    """The number in a file, or None where there is no such file or no limit."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
