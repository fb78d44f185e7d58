"""The security lint: clean on our own code, and not on code that is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pipeline.scripts import Programs, run
from steps.security_lint import main

FINDING = {
    "filename": "x.py",
    "line_number": 2,
    "test_id": "B602",
    "issue_text": "shell=True",
    "issue_severity": "HIGH",
}


def report(**changes: Any) -> str:
    whole = {"errors": [], "results": [], "metrics": {"_totals": {"loc": 10}}}
    return json.dumps({**whole, **changes})


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (report(), 0),
        (report(results=[{**FINDING, "issue_severity": "MEDIUM"}]), 0),
        (report(results=[FINDING]), 1),
        (report(results=[{**FINDING, "issue_severity": "CRITICAL"}]), 1),
        (report(errors=[{"filename": "x.py", "reason": "syntax error"}]), 2),
        (report(metrics={"_totals": {"loc": 0}}), 2),
        ("", 2),
        ("{}", 2),
    ],
)
def test_high_fails_and_so_does_what_was_not_read(text: str, code: int) -> None:
    """A file that bandit can't read is one that it finds nothing in."""
    assert main(text) == code


@pytest.mark.ops
def test_our_own_code_is_clean(programs: Programs) -> None:
    """By ruff's rules of any severity and bandit's of a high one."""
    done = run("lint-security", env=programs.environ)
    assert done.returncode == 0, done.stdout
    assert "bandit: 0 of high severity" in done.stdout


@pytest.mark.ops
@pytest.mark.parametrize(
    ("code", "exit_code", "says"),
    [
        ("import subprocess\nsubprocess.call(input(), shell=True)\n", 1, "B602"),
        ("password = 'hunter2'\n", 1, "S105"),
        ("def (:\n", 2, "was not looked at"),
    ],
)
def test_bad_code_is_found(
    programs: Programs, tmp_path: Path, code: str, exit_code: int, says: str
) -> None:
    """By one of the two, or by not being readable at all."""
    file = tmp_path / "seeded.py"
    file.write_text(code)
    done = run("lint-security", file, env=programs.environ, cwd=tmp_path)
    assert done.returncode == exit_code
    assert says in done.stdout + done.stderr
