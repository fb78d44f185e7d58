"""`.ci/scan-image` on reports of grype's shape: critical fails, and so does what is not known."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pipeline.scripts import Programs, run

Report = dict[str, Any]


def match(severity: str, package: str = "libssl3", id_: str = "CVE-2026-0001") -> Report:
    return {
        "vulnerability": {
            "id": id_,
            "severity": severity,
            "fix": {"versions": ["3.5.9"], "state": "fixed"},
        },
        "relatedVulnerabilities": [{"id": "CVE-2026-9999"}],
        "artifact": {"name": package, "version": "3.5.1", "type": "deb"},
    }


def report(*matches: Report, age: timedelta = timedelta(hours=20)) -> Report:
    built = datetime.now(UTC) - age
    return {
        "matches": list(matches),
        "source": {"type": "image", "target": {"userInput": "/scanned/image.tar"}},
        "descriptor": {
            "name": "grype",
            "version": "0.119.0",
            "db": {"status": {"built": f"{built:%Y-%m-%dT%H:%M:%SZ}", "valid": True}},
        },
    }


SBOM: Report = {
    "bomFormat": "CycloneDX",
    "metadata": {"component": {"name": "radgateway"}},
    "components": [{"name": name} for name in ("httpx", "msgspec", "uvicorn", "libssl3")],
}


class Scan:
    """A folder as `.ci/image` leaves it, and the script over it."""

    def __init__(self, folder: Path, programs: Programs) -> None:
        self.folder = folder
        self.programs = programs
        self.accepted = folder / "accepted.toml"
        self.accepted.write_text("")
        self.sbom(SBOM)

    def sbom(self, content: Report) -> None:
        (self.folder / "sbom.cdx.json").write_text(json.dumps(content))

    def __call__(self, content: Report | str) -> tuple[int, str]:
        file = self.folder / "report.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        given: list[str | Path] = [
            "--image-dir",
            self.folder,
            "--accepted",
            self.accepted,
            "--report",
            file,
        ]
        done = run("scan-image", *given, env=self.programs.environ)
        return done.returncode, done.stdout + done.stderr

    @property
    def summary(self) -> Report | None:
        file = self.folder / "scan.json"
        return json.loads(file.read_text()) if file.exists() else None


@pytest.fixture
def scan(tmp_path: Path, programs: Programs) -> Scan:
    return Scan(tmp_path, programs)


def test_a_clean_image_passes(scan: Scan) -> None:
    """And says so to the evidence."""
    code, said = scan(report())
    assert (code, said) == (0, "4 components: none; 0 accepted\n")
    assert scan.summary == {"critical": 0, "high": 0}


def test_a_critical_vulnerability_fails(scan: Scan) -> None:
    """It is named with its package, its version and its fix, before all else."""
    code, said = scan(report(match("High", id_="CVE-2026-0002"), match("Critical")))
    assert code == 1
    first = said.splitlines()[0]
    assert first == "libssl3 3.5.1: CVE-2026-0001 CVE-2026-9999 (critical, fixed in 3.5.9)"
    assert scan.summary == {"critical": 1, "high": 1}


def test_a_high_one_is_for_the_checklist(scan: Scan) -> None:
    """The image is built; the evidence has the number, by which the checklist says no-go."""
    code, _ = scan(report(match("High"), match("Medium"), match("Negligible")))
    assert code == 0
    assert scan.summary == {"critical": 0, "high": 1}


def test_an_accepted_one_counts_no_more(scan: Scan) -> None:
    """Until it is over: then nothing is known, and there is no number for the evidence."""
    until = datetime.now(UTC).date() + timedelta(days=9)
    entry = '[[accepted]]\nid = "CVE-2026-9999"\npackage = "libssl3"\nreason = "why"\nuntil = '
    scan.accepted.write_text(f"{entry}{until}\n")
    assert scan(report(match("Critical")))[0] == 0
    assert scan.summary == {"critical": 0, "high": 0}
    scan.accepted.write_text(f"{entry}{until - timedelta(days=11)}\n")
    code, said = scan(report(match("Critical")))
    assert code == 2
    assert "mend it now" in said
    assert scan.summary is None


def without(name: str) -> Report:
    content = report()
    del content[name]
    return content


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "scan-image: "),
        ("{}", "without what it must have"),
        ("[]", "without what it must have"),
        (without("matches"), "without what it must have: 'matches'"),
        (report(age=timedelta(days=6)), "the database is 6 days old"),
        (report(age=timedelta(days=-3)), "the database is -3 days old"),
        ({**report(), "source": {"type": "directory"}}, "not on an image"),
        ({**report(), "descriptor": {"name": "other"}}, "not of grype"),
        ({**report(), "ignoredMatches": [match("Critical")]}, "was told to ignore"),
    ],
)
def test_a_report_that_cannot_be_believed_fails(
    scan: Scan, content: Report | str, says: str
) -> None:
    """Empty, cut, of another tool or thing, by an old database, or with something left out."""
    code, said = scan(content)
    assert code == 2
    assert says in said
    assert scan.summary is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"components": []}, "does not have httpx, msgspec, uvicorn"),
        ({"bomFormat": "SPDX"}, "not CycloneDX"),
        ({"metadata": {"component": {"name": "nginx"}}}, "is of something else"),
        ({"metadata": None}, "without what it must have"),
    ],
)
def test_a_bill_of_materials_that_is_not_ours_fails(scan: Scan, change: Report, says: str) -> None:
    """Empty, of another form, of another image: then the scan saw nothing either."""
    scan.sbom({**SBOM, **change})
    code, said = scan(report())
    assert code == 2
    assert says in said


def test_no_bill_of_materials_fails(scan: Scan) -> None:
    """It is part of what is delivered."""
    (scan.folder / "sbom.cdx.json").unlink()
    assert scan(report())[0] == 2


def test_the_scanner_is_pinned_and_sees_only_the_image(scan: Scan) -> None:
    """By digest, with a fresh database or none, and without docker's socket."""
    (scan.folder / "image.tar").write_text("an image")
    scan.programs.add("docker", f"cat {scan.folder}/grype.json")
    (scan.folder / "grype.json").write_text(json.dumps(report(match("Critical"))))
    done = run(
        "scan-image", "--image-dir", scan.folder, "--accepted", scan.accepted,
        env=scan.programs.environ,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (call,) = scan.programs.calls
    assert f"--volume {scan.folder}:/scanned:ro" in call
    assert "GRYPE_DB_REQUIRE_UPDATE_CHECK=true" in call
    assert "docker.sock" not in call
    assert "anchore/grype:v0.119.0@sha256:" in call


@pytest.mark.parametrize("has_image", [True, False])
def test_a_scanner_that_does_not_end_well_fails(scan: Scan, has_image: bool) -> None:
    """An old report is not taken in its place, nor is there a scan of nothing."""
    (scan.folder / "vulnerabilities.json").write_text(json.dumps(report()))
    if has_image:
        (scan.folder / "image.tar").write_text("an image")
    scan.programs.add("docker", "exit 125")
    done = run("scan-image", "--image-dir", scan.folder, env=scan.programs.environ)
    assert done.returncode == 2
    assert len(scan.programs.calls) == has_image


def test_it_explains_itself(programs: Programs) -> None:
    """And takes no argument that it does not know."""
    assert run("scan-image", "--help", env=programs.environ).returncode == 0
    assert run("scan-image", "--hepl", env=programs.environ).returncode == 2
