"""The tools of `make test-ops` in a test. One that is missing fails it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_OWN = ROOT / ".venv-ops" / "bin"


def ops_tool(name: str) -> str:
    """The path of a program of the tools' own environment, or of the machine."""
    found = shutil.which(name, path=str(_OWN)) or shutil.which(name)
    assert found is not None, f"{name} is missing; `make test-ops` installs it"
    return found


def run_ops(
    name: str,
    *arguments: str | Path,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 120.0,
) -> subprocess.CompletedProcess[str]:
    """What a tool says, and its exit code."""
    return subprocess.run(
        [ops_tool(name), *map(str, arguments)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
