"""Becomes another program with some of a unit's fences: `python fenced.py "CALL CALL" PROGRAM ...`.

No new privileges, no memory that is both written and run (Linux 6.3 and later), files for their
owner alone; and where system calls are named, the end at any other one, as systemd has it.
"""

from __future__ import annotations

import ctypes
import os
import sys

_NO_NEW_PRIVILEGES, _MEMORY_DENY_WRITE_EXECUTE = 38, 65
"""Of prctl(2)."""
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
"""SCMP_ACT_ALLOW and SCMP_ACT_KILL_PROCESS of seccomp_init(3)."""


def _allow_only(calls: list[str]) -> None:
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(_KILL)))
    for name in calls:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # others are of other architectures
            added = seccomp.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0)
            assert added == 0, name
    assert seccomp.seccomp_load(context) == 0


if __name__ == "__main__":
    libc = ctypes.CDLL(None)
    assert libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    libc.prctl(_MEMORY_DENY_WRITE_EXECUTE, 1, 0, 0, 0)
    os.umask(0o077)
    if sys.argv[1]:
        _allow_only(sys.argv[1].split())
    os.execv(sys.argv[2], sys.argv[2:])
