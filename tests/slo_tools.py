"""The real tools of Prometheus and Alertmanager in a test. One that is missing fails it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACK = ROOT / "examples" / "observability"


def tool(*names: str) -> str:
    """The path of a program, by the first of its names that is there."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    assert found is not None, f"{names[0]} is missing; `make tools` installs it"
    return found


def run(program: str, *arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """What a tool says, and its exit code."""
    return subprocess.run(
        [tool(program), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def written(files: dict[str, str], folder: Path) -> Path:
    """A pack as files in a folder."""
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder
