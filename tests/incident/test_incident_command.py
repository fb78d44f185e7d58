"""The command line: what it says without an app, and what it shows of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from incident.stories import BEGAN, alert, incident

from radgateway.cli import main
from radgateway.incident import lifecycle, tables
from radgateway.incident.forms import in_full, summary
from radgateway.incident.public_words import drafted
from radgateway.incident.review import as_json, review

COMMANDS = (
    "serve",
    "list",
    "show",
    "report",
    "acknowledge",
    "severity",
    "respond",
    "note",
    "resolve",
    "verdict",
    "close",
    "publish",
    "postmortem",
    "review",
    "deploy",
)


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No app, but a key for one."""
    monkeypatch.setenv("RAD_INCIDENT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("RAD_INCIDENT_KEY", "key")


def run(*arguments: str) -> int:
    try:
        return main(["incident", *arguments])
    except SystemExit as exit_:
        return int(exit_.code or 0)


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """Every command is there, with a way to begin."""
    assert run("--help") == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n    {command}" in shown, command
    assert "radgateway incident acknowledge INC-17" in shown
    assert run("serve", "--help") == 0
    assert "/v0/incidents/alertmanager" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["list"], ["resolve", "INC-1"], ["deploy", "end", "d1"]])
def test_an_app_that_is_away_is_said_to_be(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it was looked for, and why in vain."""
    assert run(*arguments) == 1
    assert "the incident app does not answer at http://127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "--key", "my-secret-key"], "must be env:NAME or file:PATH"),
        (["list", "--key", "env:NOBODY_HAS_SET"], "NOBODY_HAS_SET is not set"),
        (["list", "--url", "incidents.internal"], "must be an http:// or https:// address"),
        (["publish", "INC-1", "--cause", "x"], "need --status"),
        (["severity", "INC-1", "SEV-9"], "invalid choice"),
        (["deploy", "begin", "1.0", "--environment", "x", "--for", "soon"], "write a time as 90s"),
        (["serve", "--config", "/nowhere.yaml"], "can't be read"),
    ],
)
def test_wrong_arguments_are_told(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With 2, and never with the key itself."""
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "my-secret-key" not in said


def test_a_store_that_is_none_is_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is served."""
    (tmp_path / "incidents.db").write_text("this is no database" * 100)
    file = tmp_path / "incident.yaml"
    file.write_text(
        f"store: {tmp_path}/incidents.db\nserver: {{port: 0}}\n"
        "responders: [{name: alice, secret: alice-secret}]\n"
    )
    assert run("serve", "--config", str(file)) == 1
    assert "can't use the store" in capsys.readouterr().err


def shown() -> dict[str, Any]:
    record = drafted(None, incident(alert(ratio=0.05)), BEGAN + 60)
    return in_full(lifecycle.noted(record, BEGAN + 90, "alice", "note", "red \x1b[31m"))


def test_one_is_shown_with_the_draft_that_waits() -> None:
    """Alerts, timeline, draft; and nothing that a terminal would obey."""
    text = tables.incident(shown())
    assert text.startswith("INC-7 SEV-2 detected: HighErrorRate in production")
    assert "2026-11-25T10:01:30.000Z  alice  note: red \N{REPLACEMENT CHARACTER}[31m" in text
    assert "Draft 1 for the status page waits (draft):\n  [Investigating] RAD Gateway" in text


def test_a_list_is_a_table() -> None:
    """Or says that there is none."""
    head, line = tables.incidents([summary(incident())]).splitlines()
    assert head.split() == ["ID", "SEVERITY", "STATE", "STARTED", "FIRING", "TITLE"]
    assert line.startswith("INC-7  SEV-2     detected  2026-11-25 10:00  1       HighErrorRate")
    assert tables.incidents([]) == "No incidents.\n"


def test_a_review_says_what_is_left_to_do() -> None:
    """What is not marked is a question mark."""
    found = {"since": "a", "until": "b", **as_json(review([incident()]))}
    text = tables.review(found)
    assert "P1             1          0      1         ?" in text
    assert "False positives of P1 under 5 %: unmeasurable\nMark the others" in text
