"""The judgement of the dependency scan: an answer for every pin, by a service that knows some."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from steps.audit import judge, main, plan
from steps.pins import read_pins

LOCK = "httpx==0.28.1 --hash=sha256:aa\nh11==0.16.0 --hash=sha256:bb\n"
FOUND = {"id": "PYSEC-1", "fix_versions": ["0.29"], "aliases": ["CVE-2026-0001"], "description": ""}
Report = dict[str, list[dict[str, Any]]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All asked, all answered: nothing is vulnerable but the control."""
    lock = tmp_path / "lock.txt"
    lock.write_text(LOCK)
    asked = tmp_path / "asked"
    asked.mkdir()
    plan(asked, [lock])
    for file in asked.glob("*.txt"):
        pins = read_pins(file.read_text())
        vulns = [FOUND] if file.stem == "control" else []
        answers = [{"name": pin.name, "version": pin.version, "vulns": vulns} for pin in pins]
        file.with_suffix(".json").write_text(json.dumps({"dependencies": answers, "fixes": []}))
    return asked


def change(folder: Path, name: str, to: Callable[[Report], object]) -> None:
    file = folder / name
    report = json.loads(file.read_text())
    to(report)
    file.write_text(json.dumps(report))


def test_all_is_well(folder: Path) -> None:
    """Every pin was audited, and the service knew what it had to know."""
    assert judge(folder) == (2, [])


def test_a_vulnerability_is_found_with_its_aliases(folder: Path, tmp_path: Path) -> None:
    """Exit 1; accepted under an alias, exit 0; once that is over, exit 2."""
    change(folder, "round-1.json", lambda report: report["dependencies"][0]["vulns"].append(FOUND))
    (found,) = judge(folder)[1]
    assert str(found) == "httpx 0.28.1: PYSEC-1 CVE-2026-0001 (unknown, fixed in 0.29)"
    accepted = tmp_path / "accepted.toml"
    accepted.write_text("")
    assert main(["judge", str(folder), str(accepted)]) == 1
    today = datetime.now(UTC).date()
    entry = '[[accepted]]\nid = "CVE-2026-0001"\npackage = "httpx"\nreason = "why"\nuntil = '
    accepted.write_text(f"{entry}{today}\n")
    assert main(["judge", str(folder), str(accepted)]) == 0
    accepted.write_text(f"{entry}{today - timedelta(days=2)}\n")
    assert main(["judge", str(folder), str(accepted)]) == 2


@pytest.mark.parametrize(
    ("name", "to", "says"),
    [
        ("round-1.json", lambda report: report["dependencies"].pop(), "1 not audited, h11 0.16.0"),
        (
            "round-1.json",
            lambda report: report["dependencies"][1].update(version="9"),
            "1 not audited",
        ),
        (
            "round-1.json",
            # As pip-audit reports what it could not find.
            lambda report: report["dependencies"].append({"name": "x", "skip_reason": "unknown"}),
            "leaves something out",
        ),
        (
            "control.json",
            lambda report: report["dependencies"][0]["vulns"].clear(),
            "knows nothing",
        ),
        ("control.json", lambda report: report.clear(), "no report"),
    ],
)
def test_what_was_not_audited_fails(
    folder: Path, name: str, to: Callable[[Report], object], says: str
) -> None:
    """A pin is missing, of another version or skipped; the service knows nothing."""
    change(folder, name, to)
    with pytest.raises(ValueError, match=says):
        judge(folder)


@pytest.mark.parametrize("text", [None, "", "not JSON", "[]", "null"])
def test_no_report_fails(folder: Path, text: str | None) -> None:
    """None at all, an empty one, one of something else."""
    report = folder / "round-1.json"
    report.unlink() if text is None else report.write_text(text)
    with pytest.raises(ValueError, match=r"round-1\.json: no report"):
        judge(folder)


def test_nothing_asked_fails(tmp_path: Path) -> None:
    """An empty plan is no clean bill."""
    with pytest.raises(ValueError, match="nothing was asked about"):
        judge(tmp_path)
    lock = tmp_path / "lock.txt"
    lock.write_text("")
    assert main(["plan", str(tmp_path), str(lock)]) == 2
