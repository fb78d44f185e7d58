"""The limit is the smallest on the way from the process's own group to the root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from radgateway.telemetry.memory_limit import memory_limit_bytes

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
MB = 1 << 20


def limit(folder: Path, own: str, files: dict[str, str]) -> int:
    """What is read where the kernel's files say this."""
    for name, text in files.items():
        file = folder / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "own").write_text(own)
    return memory_limit_bytes(folder / "groups", folder / "own")


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"memory.max": f"{256 * MB}\n"}, 256 * MB),
        ("0::/\n", {"memory.max": "max\n"}, MACHINE),
        ("0::/pod/app\n", {"pod/app/memory.max": "max", "pod/memory.max": f"{64 * MB}"}, 64 * MB),
        (
            "0::/pod/app\n",
            {"pod/app/memory.max": f"{32 * MB}", "pod/memory.max": f"{64 * MB}"},
            32 * MB,
        ),
        (
            "9:cpu:/\n8:memory:/box\n0::/\n",
            {"memory/box/memory.limit_in_bytes": f"{128 * MB}\n"},
            128 * MB,
        ),
        ("8:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE),
        ("0::/\n", {"memory.max": f"{MACHINE * 2}"}, MACHINE),
        ("0::/\n", {"memory.max": "0\n"}, MACHINE),
        ("0::/\n", {}, MACHINE),
        ("nonsense\n\n0::/../../x\n", {}, MACHINE),
    ],
    ids=[
        "v2",
        "v2 without a limit",
        "v2, the group above",
        "v2, the smaller of two",
        "v1",
        "v1 without a limit",
        "more than the machine has",
        "zero",
        "no files",
        "nonsense",
    ],
)
def test_the_smallest_limit_counts(
    tmp_path: Path, own: str, files: dict[str, str], expected: int
) -> None:
    """A container's in either version; the machine's memory where there is none."""
    assert limit(tmp_path, own, files) == expected


def test_a_system_without_control_groups_has_its_machines_memory(tmp_path: Path) -> None:
    """Not every system is a Linux."""
    assert memory_limit_bytes(tmp_path, tmp_path / "none") == MACHINE
