"""The pipeline's scripts, run as the pipeline runs them, with programs of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ops_tools import ROOT

CI = ROOT / ".ci"
DIGEST = "sha256:" + "4d" * 32
IMAGE = f"ghcr.io/example/radgateway@{DIGEST}"
RUN = {
    "GITHUB_RUN_ID": "4711",
    "GITHUB_JOB": "verify",
    "GITHUB_SERVER_URL": "https://github.example",
    "GITHUB_REPOSITORY": "example/radgateway",
    "GITHUB_SHA": "c0ffee" + "0" * 34,
}
"""What a run of the pipeline has in its environment."""


class Programs:
    """A folder of programs that come first on the PATH, and a log of how each was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "programs"
        self.folder.mkdir()
        self.log = folder / "calls"
        self.log.touch()
        (self.folder / "python3").symlink_to(sys.executable)

    def add(self, name: str, text: str = "") -> None:
        """A program that notes its call, and then does as the text says."""
        file = self.folder / name
        file.write_text(f'#!/bin/bash\necho "{name} $*" >> "{self.log}"\n{text}\n')
        file.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """Each call, in order."""
        return self.log.read_text().splitlines()

    @property
    def environ(self) -> dict[str, str]:
        """An environment that finds these first, and has nothing of GitHub's in it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
        return {**kept, "PATH": f"{self.folder}:{os.environ['PATH']}"}


def run(
    script: str, *arguments: str | Path, env: Mapping[str, str], cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """A script of `.ci/`, its output and its exit code."""
    return subprocess.run(
        [CI / script, *arguments],
        cwd=cwd,
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
