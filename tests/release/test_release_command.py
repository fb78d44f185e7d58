"""`radgateway release` as a person or a pipeline types it."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from release.release_evidence import attested, filled_in
from release.release_servers import matrix, replying, serving, vector

from radgateway.cli import main
from radgateway.config import ConfigError
from radgateway.release.evidence import Evidence, load_evidence
from radgateway.release.evidence_form import FORM
from radgateway.release.thresholds import Thresholds, load_thresholds
from radgateway.release.types import TYPES

DOCS = Path(__file__).resolve().parents[2] / "docs"
COMMANDS = (
    "gate",
    "go-no-go",
    "canary",
    "rollback-check",
    "exit-criteria",
    "window",
    "evidence",
)
AT = "2026-11-25T10:00:00Z"
"""When the form's examples are fresh."""


@pytest.fixture
def evidence(tmp_path: Path) -> str:
    file = tmp_path / "evidence.yaml"
    file.write_text(filled_in())
    return str(file)


def staging(handler: BaseHTTPRequestHandler, path: str, query: dict[str, str]) -> None:
    """A Prometheus that answers every question, well."""
    asked = query["query"]
    value = "30" if "build_info" in asked else "0.999" if asked.startswith("1 - (") else "0"
    if path.endswith("query_range"):
        start, end, step = (float(query[name]) for name in ("start", "end", "step"))
        moments = range(round((end - start) / step) + 1)
        replying(matrix(*((start + step * at, value) for at in moments)))(handler, path, query)
        return
    replying(vector(value))(handler, path, query)


def test_the_form_has_every_entry_and_can_be_used(
    evidence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Filled in it is valid, and there is nothing that it does not show."""
    assert main(["release", "evidence"]) == 0
    assert capsys.readouterr().out == FORM
    assert main(["release", "evidence", evidence]) == 0
    found = load_evidence(Path(evidence))
    missing = [name for name in Evidence.__slots__ if not getattr(found, name)]
    assert missing == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("smoke_tests:", "smoke_test:", "smoke_test: unknown key; did you mean 'smoke_tests'"),
        ("type: minor", "type: big", "type: must be one of hotfix, patch, minor, major"),
        ("by: grace", 'by: " "', "code_review.by: must say who"),
        ("at: 2026-10-01", "at: 7d", "penetration_test.at: must be RFC 3339"),
        ("at: 2026-10-01", "at: 2026-02-30", "penetration_test.at: is no time"),
        ("critical: 0", "critical: -1", "scan.critical: must be 0 or more"),
        ("false_positives: 1", "false_positives: 42", "p1_review.false_positives: must be 0 to"),
        ("role: product", "role: intern", r"approvals\[1\].role: must be one of"),
        ("tests: {result: passed", "tests: {result: not_applicable", "tests: must be passed or"),
    ],
)
def test_a_mistake_in_the_evidence_is_found(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    """With its place: an entry that is misspelt would be one that is not there."""
    file = tmp_path / "evidence.yaml"
    text = filled_in()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        load_evidence(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("go_no_go: {p95_ms: 800}", "p95_ms: unknown key"),
        ("go_no_go: {window: 1w}", "go_no_go.window: is wrong"),
        ("go_no_go: {error_ratio: 0.02}", "error_ratio_conditional must not be under error_ratio"),
        ("gates: {staging_rollback_s: 0}", "gates.staging_rollback_s: must be over 0"),
        ("rollback: {availability: 95}", "rollback.availability: must be between 0 and 1"),
        ("rollback: {p95_s: 0}", "rollback.p95_s: must be over 0"),
        ("go_no_go: {soak_h: 200}", "go_no_go.soak_h: must be 0 or more and fit"),
        ("exit: {availability: 2}", "exit.availability: must be over 0 and at most 1"),
        ("job: 'a\"b'", "job: must be letters"),
        ("evidence_max_age_h: 0", "evidence_max_age_h: must be 1 to 8784"),
        ("windows: {zone: Atlantis}", "windows.zone: must be a name"),
    ],
)
def test_a_mistake_in_the_thresholds_is_found(tmp_path: Path, text: str, message: str) -> None:
    """With its place, and nothing is judged."""
    file = tmp_path / "thresholds.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_thresholds(file)


def test_thresholds_are_the_strategys_until_a_file_differs(tmp_path: Path) -> None:
    """Only what the file says is other."""
    file = tmp_path / "thresholds.yaml"
    file.write_text("go_no_go: {p95_s: 0.5}\nwindows: {zone: Europe/Berlin}\n")
    found = load_thresholds(file)
    assert str(found.go_no_go.p95_s) == "0.5"
    assert found.go_no_go.soak_h == Thresholds().go_no_go.soak_h == 24
    assert found.windows.days == ("tue", "wed", "thu")


@pytest.mark.parametrize(
    "arguments",
    [
        ["gate", "local", "alpha"],
        ["gate", "alpha", "staging"],
        ["go-no-go"],
        ["exit-criteria"],
    ],
)
def test_a_good_release_goes(
    evidence: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 0 and a table that ends in the decision; and without Prometheus where that is needed,
    exit 2."""
    command = ["release", *arguments, "--evidence", evidence, "--at", AT]
    with serving(staging) as url:
        assert main([*command, "--prometheus", url]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("\nGO\n")
    assert "unmeasurable" not in shown
    alone = main(command)
    assert alone == (0 if arguments[0] == "gate" else 2)


def test_production_is_shut_in_a_freeze(evidence: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The day of the form is in the week of Black Friday; a week earlier in the year it is open."""
    command = ["release", "gate", "staging", "production", "--evidence", evidence]
    with serving(staging) as url:
        assert main([*command, "--prometheus", url, "--at", AT]) == 1
    shown = capsys.readouterr().out
    assert "frozen: Black Friday, 2026-11-23 to 2026-11-30; opens Tue 2026-12-01T09:00" in shown
    assert shown.endswith("\nNO-GO\n")


def test_the_rollback_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It stays while all is well; a SEV-1 ends it, and so does a limit of one's own."""
    strict = tmp_path / "strict.yaml"
    strict.write_text("rollback: {availability: 0.9995}\n")
    with serving(staging) as url:
        command = ["release", "rollback-check", "--prometheus", url, "--track", "canary"]
        assert main(command) == 0
        assert "give --incidents URL" in capsys.readouterr().out
        assert main([*command, "--thresholds", str(strict)]) == 1
        assert ">= 99.95 %" in capsys.readouterr().out
        with serving(replying({"data": [{"severity": "SEV-1", "title": "all down"}]})) as app:
            assert main([*command, "--incidents", app]) == 1
    assert "all down" in capsys.readouterr().out
    assert main(["release", "rollback-check"]) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 1, "CLOSED"),
        (["staging"], 0, "OPEN"),
        (["production", "--at", "2026-11-11T10:00:00Z"], 0, "open until Wed 2026-11-11T16:00"),
    ],
)
def test_windows(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Production has one, staging is always open."""
    at = [] if "--at" in arguments else ["--at", AT]
    assert main(["release", "window", *arguments, *at]) == code
    assert words in capsys.readouterr().out


def test_a_hotfix_opens_every_window_with_its_approvals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And without one of them it does not."""
    file = tmp_path / "hotfix.yaml"
    role = "- {role: %s, by: %s, at: 2026-11-25T09:00:00Z}\n"
    text = "version: 1.4.1\ntype: hotfix\nreason: CVE-2026-0001\napprovals:\n"
    file.write_text(text + role % ("release_manager", "ada"))
    command = ["release", "window", "--evidence", str(file), "--at", AT]
    assert main(command) == 2
    file.write_text(
        text + role % ("release_manager", "ada") + role % ("sre_lead", "grace"),
    )
    assert main(command) == 0
    assert capsys.readouterr().out.endswith("\nOPEN\n")


def test_programs_get_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The same decision."""
    assert main(["release", "window", "--json", "--at", AT]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert (shown["decision"], shown["exitCode"]) == ("CLOSED", 1)


def test_a_canary_says_how_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Progress to standard error, and the verdict to standard output."""
    template = tmp_path / "template.yaml"
    template.write_text(
        "apiVersion: argoproj.io/v1alpha1\nkind: AnalysisTemplate\nmetadata: {name: trial}\n"
        "spec: {metrics: [{name: errors, interval: 10ms, count: 3, provider: {prometheus: "
        '{query: up}}, successCondition: "result[0] < 1"}]}\n'
    )
    command = ["release", "canary", "--template", str(template)]
    assert main(command) == 2
    assert "give --prometheus URL" in capsys.readouterr().err
    for value, code, word in (("0", 0, "PROMOTE"), ("1", 1, "ABORT")):
        with serving(replying(vector(value))) as url:
            assert main([*command, "--prometheus", url]) == code
        shown = capsys.readouterr()
        assert word in shown.out
        assert f"errors = {value}" in shown.err
    with serving(replying(vector())) as url:
        assert main([*command, "--prometheus", url]) == 2
    assert "no result[0]" in capsys.readouterr().out
    with serving(replying({"status": "error", "error": "\x1b[2J"}, 400)) as url:
        assert main([*command, "--prometheus", url]) == 2
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gate", "alpha", "production"], "there are: local alpha"),
        (["gate", "local", "alpha", "--version", "1.3.9"], "is of version 1.4.0, not of 1.3.9"),
        (["gate", "local", "alpha", "--at", "noon"], "--at is no time"),
        (["go-no-go", "--prometheus", "prometheus:9090"], "must be an http:// or https://"),
    ],
)
def test_arguments_that_can_not_be_meant(
    evidence: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, and what to do."""
    assert main(["release", *arguments, "--evidence", evidence]) == 2
    assert message in capsys.readouterr().err


def test_files_that_can_not_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, and which."""
    assert main(["release", "go-no-go", "--evidence", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: can't be read" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An example that can be copied, and what the exit codes mean."""
    with pytest.raises(SystemExit) as caught:
        main(["release", command, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert f"  radgateway release {command}" in shown
    assert "exit codes: 0" in shown


def test_the_page_has_the_types_of_releases() -> None:
    """As they are asked for."""
    page = (DOCS / "how-to/release.md").read_text()
    for name, kind in TYPES.items():
        approvals = ", ".join(f"`{role}`" for role in kind.approvals)
        assert f"| `{name}` | {kind.cadence} | {kind.criteria} | {approvals} |" in page


def test_the_pages_files_can_be_used(tmp_path: Path) -> None:
    """Its evidence, and its thresholds, which show every key that there is."""
    page = (DOCS / "how-to/release.md").read_text()
    evidence, thresholds = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    file = tmp_path / "example.yaml"
    file.write_text(evidence)
    assert load_evidence(file).version == "1.4.0"
    file.write_text(thresholds)
    found = load_thresholds(file)
    assert found.windows.zone == "Europe/Berlin"
    sections = (found, found.gates, found.go_no_go, found.rollback, found.exit, found.windows)
    names = {field.name for section in sections for field in fields(section)}
    assert [name for name in sorted(names) if f"{name}:" not in thresholds] == []


def test_every_command_is_documented() -> None:
    """In the reference, each with its own heading."""
    page = (DOCS / "reference/cli.md").read_text()
    for command in COMMANDS:
        assert f"## `radgateway release {command}" in page


def test_the_tests_evidence_is_whole() -> None:
    """What the other tests take as good has every entry that there is."""
    said = attested().evidence
    assert [name for name in Evidence.__slots__ if getattr(said, name) is None] == []
