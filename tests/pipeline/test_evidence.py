"""The evidence and the gates: what each job adds, what people add, and that a gap stays shut."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml
from pipeline.scripts import RUN, Programs, run
from release.release_servers import reply, serving, vector
from steps.evidence import main, merged, said, type_of

from radgateway import __version__

NOW = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
CI = {"result": "failed", **said(RUN, NOW)}
TODAY = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


class Release:
    """A run of the pipeline that gathers evidence."""

    def __init__(self, programs: Programs) -> None:
        self.file = programs.folder.parent / "evidence.yaml"
        self.environ = {**programs.environ, **RUN, "EVIDENCE": str(self.file)}
        self.say("start")

    def say(self, verb: str, *words: str | Path) -> None:
        assert main([verb, str(self.file), *map(str, words)]) == 0

    def people(self, text: str) -> None:
        self.environ["RELEASE_EVIDENCE"] = text

    def gate(self, *ways: str) -> tuple[int, str]:
        done = run("gate", *ways, env=self.environ)
        return done.returncode, done.stdout + done.stderr

    @property
    def content(self) -> dict[str, Any]:
        read: dict[str, Any] = yaml.safe_load(self.file.read_text())
        return read


@pytest.fixture
def release(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> Release:
    for name, value in RUN.items():
        monkeypatch.setenv(name, value)
    return Release(programs)


@pytest.mark.parametrize(
    ("version", "kind"),
    [("1.0.0", "major"), ("1.4.0", "minor"), ("1.4.2", "patch"), ("2.0.1", "patch")],
)
def test_the_number_says_the_type(version: str, kind: str) -> None:
    """A hotfix has a patch's number; people say that it is one."""
    assert type_of(version) == kind


def test_each_word_says_whose_it_is() -> None:
    """The run with its address in CI; a local run is called one."""
    assert said(RUN, NOW) == {
        "by": "CI run 4711, job verify",
        "at": "2026-11-25T10:00:00Z",
        "link": "https://github.example/example/radgateway/actions/runs/4711",
    }
    assert said({}, NOW) == {"by": "a local run", "at": "2026-11-25T10:00:00Z"}


def test_people_add_what_ci_cannot_know() -> None:
    """They may call it a hotfix; approvals of both are kept."""
    own = {"version": "1.4.2", "type": "patch", "tests": CI, "approvals": ["ada"]}
    people = {"version": "1.4.2", "type": "hotfix", "reason": "CVE", "approvals": ["grace"]}
    assert merged(own, people) == {
        "version": "1.4.2",
        "type": "hotfix",
        "reason": "CVE",
        "tests": CI,
        "approvals": ["ada", "grace"],
    }


def test_people_may_say_at_the_next_gate_what_they_have_said_at_the_last() -> None:
    """One variable may serve both environments; a later word takes the earlier one's place."""
    people = {"version": "1.4.2", "type": "patch", "rollback": {"by": "ada"}, "approvals": ["ada"]}
    once = merged({"version": "1.4.2", "type": "patch"}, people)
    assert merged(once, people) == once
    later = {**people, "rollback": {"by": "grace"}}
    assert merged(once, later)["rollback"] == {"by": "grace"}


@pytest.mark.parametrize(
    ("people", "says"),
    [
        ({"version": "1.4.1", "type": "patch"}, "people attest 1.4.1, but this is 1.4.2"),
        (
            {"version": "1.4.2", "type": "patch", "tests": {"by": "eve"}},
            "tests is CI's to attest",
        ),
        ({"version": "1.4.2", "type": "patch", "revision": "0a1b"}, "the revision 0a1b, which"),
    ],
)
def test_people_cannot_stand_in_for_ci(people: dict[str, Any], says: str) -> None:
    """Nor is what they said of the last version good for this one."""
    with pytest.raises(ValueError, match=says):
        merged({"version": "1.4.2", "revision": "3bbd", "type": "patch", "tests": CI}, people)


def test_evidence_is_of_one_build(release: Release) -> None:
    """The commit that `.ci/image` has the gateway tell; people keep it by saying nothing of it."""
    assert release.content["revision"] == RUN["GITHUB_SHA"]
    people = {"version": __version__, "type": "patch"}
    assert merged(release.content, people)["revision"] == RUN["GITHUB_SHA"]


def test_the_first_gate_opens_by_the_tests(release: Release) -> None:
    """Closed before, as nobody has attested them; no-go when they failed."""
    assert release.gate("local", "alpha")[0] == 2
    release.say("add", "tests", "failed")
    assert release.gate("local", "alpha")[0] == 1
    release.say("add", "tests", "passed")
    code, said_ = release.gate("local", "alpha")
    assert code == 0
    assert "CI run 4711, job verify" in said_


@pytest.mark.parametrize("missing", ["image_build", "code_review", "rollback", ""])
def test_the_second_gate_needs_each_of_its_words(release: Release, missing: str) -> None:
    """Image, scan, review and a rollback that was tried: one left out, and it stays shut."""
    scan = release.file.with_name("scan.json")
    scan.write_text(json.dumps({"critical": 0, "high": 3}))
    words: dict[str, tuple[str, str, *tuple[str, ...]]] = {
        "image_build": ("add", "image_build", "passed"),
        "scan": ("scan", str(scan)),
        "code_review": ("add", "code_review", "passed"),
        "rollback": ("drill", "passed", "95"),
    }
    for name, word in words.items():
        if name != missing:
            release.say(*word)
    assert release.gate("alpha", "staging")[0] == (2 if missing else 0)


def test_a_critical_finding_or_a_slow_rollback_shuts_it(release: Release) -> None:
    """The number in the evidence is what is judged."""
    scan = release.file.with_name("scan.json")
    scan.write_text(json.dumps({"critical": 1, "high": 0}))
    release.say("scan", scan)
    release.say("drill", "passed", "901")
    code, said_ = release.gate("alpha", "staging")
    assert code == 1
    assert len(re.findall(r"\bfail\b", said_)) == 2


def staging(handler: BaseHTTPRequestHandler, path: str, query: dict[str, str]) -> None:
    """A staging that is well: a week of this version, few errors, and fast."""
    asked = query["query"]
    if "count_over_time" in asked:
        value = "168"
    elif "histogram_quantile" in asked:
        value = "0.05"
    else:
        value = "1" if "build_info" in asked else "0.001"
    reply(handler, 200, json.dumps(vector(value)).encode())


def test_a_hotfix_goes_the_whole_way(release: Release) -> None:
    """Evidence of each job, of people, and a staging that is well: then it goes, at any hour."""
    scan = release.file.with_name("scan.json")
    scan.write_text(json.dumps({"critical": 0, "high": 0}))
    release.say("add", "tests", "passed")
    for entry in ("image_build", "code_review", "smoke_tests", "integration_tests", "ci_checks"):
        release.say("add", entry, "passed")
    release.say("scan", str(scan))
    release.say("drill", "passed", "95")
    release.say("approve", "release_manager", "ada")
    word = f"by: grace, at: {TODAY}"
    release.people(
        f"version: {__version__}\ntype: hotfix\nreason: CVE-2026-1\n"
        f"approvals: [{{role: sre_lead, {word}}}]\n"
        f"on_call_notified: {{result: passed, {word}}}\n"
        f"migration: {{result: not_applicable, {word}}}\n"
        f"feature_flags: {{result: not_applicable, {word}}}\n"
    )
    with serving(staging) as url:
        release.environ["PROMETHEUS_URL"] = url
        code, said_ = release.gate("staging", "production")
        assert code == 0, said_
        # Thresholds of one's own count: this staging has had 168 hours.
        strict = release.file.with_name("thresholds.yaml")
        strict.write_text("go_no_go: {soak_h: 169, soak_window: 8d}\n")
        release.environ["THRESHOLDS"] = str(strict)
        assert release.gate("staging", "production")[0] == 1
        release.environ.pop("THRESHOLDS")
        release.environ.pop("RELEASE_EVIDENCE")
        # The person who approved as release manager is no second person.
        release.file.write_text(release.file.read_text().replace("grace", "ada"))
        assert release.gate("staging", "production")[0] != 0


def test_the_last_gate_shows_all_that_is_missing_at_once(release: Release) -> None:
    """Gate and checklist are both asked, though no Prometheus answers; nothing of it is a pass."""
    release.environ["PROMETHEUS_URL"] = "http://127.0.0.1:9"
    release.people(
        f"version: {__version__}\ntype: hotfix\nreason: CVE-2026-1\n"
        f"on_call_notified: {{result: passed, by: ada, at: {TODAY}}}\n"
    )
    code, said_ = release.gate("staging", "production")
    assert code in (1, 2)
    assert f"Promote {__version__} (hotfix) from staging to production" in said_
    assert f"Go or no-go for {__version__} (hotfix)" in said_
    assert "On-call engineer notified" in said_
    assert release.content["on_call_notified"]["at"] == TODAY


@pytest.mark.parametrize(
    "text",
    [
        "version: 9.9.9\ntype: patch\n",
        f"version: {__version__}\ntype: patch\ntests: {{result: passed, by: eve, at: {TODAY}}}\n",
        f"version: {__version__}\ntype: patch\ntset: 1\n",
        "not evidence",
    ],
    ids=["another-version", "a-machine's-word", "unknown", "no-mapping"],  # without the time of day
)
def test_people_s_part_that_cannot_be_used_shuts_a_gate(release: Release, text: str) -> None:
    """Of another version, of CI's entries, misspelt, no evidence: what CI said stays as it was."""
    release.say("add", "tests", "passed")
    before = release.file.read_text()
    release.people(text)
    assert release.gate("local", "alpha")[0] == 2
    assert release.file.read_text() == before


@pytest.mark.parametrize(
    "words", [("add", "tset", "passed"), ("add", "tests", "maybe"), ("drill", "passed", "soon")]
)
def test_a_word_that_means_nothing_is_not_written(
    release: Release, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """The file stays as it was."""
    before = release.file.read_text()
    verb, *rest = words
    assert main([verb, str(release.file), *rest]) == 2
    assert capsys.readouterr().err.startswith("evidence: ")
    assert release.file.read_text() == before


def test_the_script_says_the_same(release: Release) -> None:
    """`.ci/evidence` is how the pipeline says it; what it does not know it does not write."""
    done = run("evidence", "add", "tests", "passed", env=release.environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert release.content["tests"]["result"] == "passed"
    assert run("evidence", "add", "tests", env=release.environ).returncode == 2


@pytest.mark.parametrize("ways", [(), ("local",), ("local", "production"), ("alpha", "local")])
def test_there_is_no_other_gate(release: Release, ways: tuple[str, ...]) -> None:
    """None from local to production, and none backwards."""
    assert release.gate(*ways)[0] == 2
