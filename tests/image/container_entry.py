"""Becomes a process in a container: run as `python container_entry.py ORDER`, ORDER in JSON.

What a container runtime does, by the system calls it does it with, where no runtime can run: mounts
of its own, the root read-only, /tmp in memory, one volume, the image's user without any other
group and without a way to more rights, the image's environment and no more. It stays the same
process all the way, so that a signal to it is one to the gateway.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NO_NEW_PRIVILEGES = 38
"""PR_SET_NO_NEW_PRIVS of prctl(2)."""


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _enter(order: Mapping[str, Any]) -> None:
    root = order["root"]
    for name in ("proc", "dev", "tmp"):
        Path(root, name).mkdir(exist_ok=True)
    _mount("--bind", root, root)
    _mount("--bind", "/proc", f"{root}/proc")
    _mount("--rbind", "/dev", f"{root}/dev")
    _mount("-t", "tmpfs", "-o", "size=64m,mode=1777", "tmpfs", f"{root}/tmp")
    _mount("--bind", order["data"], f"{root}/data")
    _mount("-o", "remount,bind,ro", root)
    os.chroot(root)
    os.chdir(order["directory"])
    user, group = map(int, order["user"].split(":"))
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    assert ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    os.execve(order["arguments"][0], order["arguments"], order["environ"])


if __name__ == "__main__":
    if sys.argv[1] == "inside":
        _enter(json.loads(sys.argv[2]))
    os.execvp("unshare", ["unshare", "--mount", sys.executable, __file__, "inside", sys.argv[1]])
