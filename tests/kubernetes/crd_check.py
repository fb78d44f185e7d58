"""The operators' own definitions of their resources, asked through Node about ours."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent / "crds"
LOCK = HERE / "package-lock.json"
INSTALLED = HERE / "node_modules" / ".installed"
LIMIT_S = 300


def check(resources: Mapping[str, Any]) -> dict[str, list[str]]:
    """Complaints about each, by its name; none where it is right."""
    _install()
    done = subprocess.run(
        ["node", str(HERE / "check.mjs")],
        input=json.dumps(resources),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def _install() -> None:
    """The pinned packages, once, whichever of several test processes comes first."""
    if shutil.which("npm") is None:
        pytest.fail("custom resources are checked with Node.js: install it with npm")
    with LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if INSTALLED.exists() and INSTALLED.read_text() == LOCK.read_text():
            return
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"],
            cwd=HERE,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert done.returncode == 0, done.stderr
        INSTALLED.write_text(LOCK.read_text())
