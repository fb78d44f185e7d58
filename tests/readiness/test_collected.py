"""Every test that the checklist names is one that pytest collects."""

from __future__ import annotations

import subprocess
import sys

import pytest
from ops_tools import ROOT

from radgateway.readiness.checklist import load_checklist

pytestmark = pytest.mark.ops


def test_pytest_collects_what_the_checklist_names() -> None:
    """By its own ids, parameters left out: a file that can't be imported proves nothing."""
    named = {test for box in load_checklist().boxes for test in box.tests}
    files = sorted({test.partition("::")[0] for test in named})
    asked = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert asked.returncode == 0, asked.stdout + asked.stderr
    collected = {line.partition("[")[0] for line in asked.stdout.splitlines()}
    assert named <= collected
