"""`radgateway slo` as a person types it, and the files it has written into this repository."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from slo_tools import PACK, ROOT

from radgateway.cli import main
from radgateway.slo.pack import artefacts
from radgateway.slo.stack import GENERATED


def test_the_committed_files_are_those_it_makes(capsys: pytest.CaptureFixture[str]) -> None:
    """`radgateway slo generate --check` says nothing here; what differs would show as a diff."""
    assert main(["slo", "generate", "--out", str(PACK), "--check"]) == 0, capsys.readouterr().out


def test_every_file_says_where_it_comes_from() -> None:
    """At its beginning, with the command; `--check` goes by it."""
    for name, text in artefacts().items():
        assert GENERATED in text[:300], name


def test_the_same_settings_make_the_same_bytes(tmp_path: Path) -> None:
    """Written, checked, and written again: nothing differs."""
    out = str(tmp_path / "new" / "folder")
    assert main(["slo", "generate", "--out", out]) == 0
    assert main(["slo", "generate", "--out", out, "--check"]) == 0
    found = {
        str(file.relative_to(out)): file.read_text()
        for file in Path(out).rglob("*")
        if file.is_file()
    }
    assert found == dict(artefacts())


def test_the_order_of_a_set_is_in_no_file() -> None:
    """Byte by byte, whatever the order of a set in this process."""
    program = "from radgateway.slo.pack import artefacts; print(repr(dict(artefacts())))"
    made = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert made == {repr(dict(artefacts())) + "\n"}


def test_a_check_shows_what_differs_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file edited by hand and one that is missing: exit 1, and the diff for each."""
    assert main(["slo", "generate", "--out", str(tmp_path)]) == 0
    edited = tmp_path / "prometheus/rules/radgateway.alerts.yml"
    edited.write_text(edited.read_text().replace("> 0.02\n", "> 0.5\n"))
    missing = tmp_path / "alertmanager/alertmanager.yml"
    missing.unlink()
    capsys.readouterr()
    assert main(["slo", "generate", "--out", str(tmp_path), "--check"]) == 1
    shown = capsys.readouterr().out
    assert "-          rad_gateway:error_ratio:rate5m > 0.5\n" in shown
    assert "+          rad_gateway:error_ratio:rate5m > 0.02\n" in shown
    assert "+  receiver: team_echo_chat\n" in shown
    assert not missing.exists()
    assert "> 0.5\n" in edited.read_text()


def test_a_check_finds_what_is_no_longer_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of an earlier version is named, to be removed; what others wrote is theirs."""
    assert main(["slo", "generate", "--out", str(tmp_path)]) == 0
    kept = tmp_path / "prometheus/rules/ours.rules.yml"
    kept.write_text("groups: []\n")
    (tmp_path / "secrets").mkdir()
    assert main(["slo", "generate", "--out", str(tmp_path), "--check"]) == 0
    old = tmp_path / "grafana/dashboards/old.json"
    old.write_text((tmp_path / "grafana/dashboards/slo.json").read_text())
    capsys.readouterr()
    assert main(["slo", "generate", "--out", str(tmp_path), "--check"]) == 1
    assert capsys.readouterr().out == f"{old} is no longer made: remove it\n"
    assert old.exists()


def test_objectives_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the file says replaces the strategy's; what it leaves out stays."""
    file = tmp_path / "my.yaml"
    file.write_text(
        "job: gateway-eu\n"
        "objectives:\n"
        "  availability: {target: 0.999, window_days: 30}\n"
        "  first_token_p95: {target: 0.95, below_s: 5, window_days: 7}\n"
        "  first_token_p99: {target: 0.99, below_s: 10, window_days: 7}\n"
        "  overhead_p99: {target: 0.98}\n"
        "contacts: {team_echo_channel: '#gateway'}\n"
    )
    out = tmp_path / "out"
    assert main(["slo", "generate", "--out", str(out), "--objectives", str(file)]) == 0
    alerting = (out / "prometheus/rules/radgateway.alerts.yml").read_text()
    assert "rate1h > 14.4 * 0.001\n" in alerting
    assert "time_to_first_token_seconds:p95_rate5m > 7.5\n" in alerting
    assert "overhead_seconds:p95_rate5m > 1.2\n" in alerting
    assert 'absent(up{job="gateway-eu"})' in alerting
    assert 'channel: "#gateway"' in (out / "alertmanager/alertmanager.yml").read_text()
    capsys.readouterr()
    assert main(["slo", "show", "--objectives", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "43.2 " in shown
    assert re.search(r"^overhead_p99 .* within 2 s +98 % +7 d +2 %$", shown, re.MULTILINE)


def test_objectives_of_a_gateway(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that `/v0/management/slo` reports on, without its secrets; the rest is the file's."""
    gateway = tmp_path / "gateway.yaml"
    gateway.write_text(
        "keys: [{name: k, secret: env:NOT_SET_HERE}]\n"
        "providers: {mock: {kind: mock}}\n"
        "models: {m: {candidates: [{provider: mock}]}}\n"
        "slo: {availability: {target: 0.998}}\n"
    )
    mine = tmp_path / "my.yaml"
    mine.write_text("job: mine\n")
    out = tmp_path / "out"
    generate = ["slo", "generate", "--out", str(out), "--objectives", str(mine)]
    assert main([*generate, "--config", str(gateway)]) == 0
    alerts = (out / "prometheus/rules/radgateway.alerts.yml").read_text()
    assert "rate1h > 14.4 * 0.002\n" in alerts
    assert 'absent(up{job="mine"})' in alerts
    capsys.readouterr()
    assert main(["slo", "show", "--config", str(gateway)]) == 0
    assert "99.8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("objectives: {availabilty: {}}", "availabilty: unknown key; did you mean 'availability'?"),
        (
            "objectives:\n  availability: {target: 99.5, window_days: 30}",
            ":2: objectives.availability.target: must be at least 0.5 and at most 0.99999, not",
        ),
        (
            "objectives:\n  overhead_p95: {below_s: null}",
            ":2: objectives.overhead_p95: must say below_s, in seconds",
        ),
        ("least_bad: 0", ":1: least_bad: must be 1 to 1000, not 0"),
        ("job: 'a\"b'", ":1: job: must be letters"),
        ("docs_url: docs", "docs_url: must be an http:// or https:// URL"),
        (
            "contacts: {watchdog_url: 'https://me:pw@example.invalid'}",
            "contacts.watchdog_url: must not carry a user or a password",
        ),
        ('contacts: {smtp_from: "a\\nb"}', "contacts.smtp_from: must be printable ASCII"),
        ("contacts: {secrets_dir: secrets}", "contacts.secrets_dir: must be an absolute path"),
        ("- a", "must be a mapping of job, least_bad"),
    ],
)
def test_objectives_that_can_not_be_used(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, and the line, the key and what would do; nothing is written."""
    file = tmp_path / "my.yaml"
    file.write_text(text)
    out = tmp_path / "out"
    assert main(["slo", "generate", "--out", str(out), "--objectives", str(file)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "pw" not in said
    assert not out.exists()


def test_a_folder_that_can_not_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 and the reason."""
    file = tmp_path / "file"
    file.write_text("")
    assert main(["slo", "generate", "--out", str(file)]) == 2
    assert str(file) in capsys.readouterr().err


def test_the_tables_show_the_strategys_numbers_rightly(capsys: pytest.CaptureFixture[str]) -> None:
    """64.8 and 129.6 minutes, 14.4 times, and who is told of what."""
    assert main(["slo", "show"]) == 0
    shown = capsys.readouterr().out
    for text in ("12960", "64.8", "129.6", "14.4x", "0.643 %", "4.3 min", "platform_team_oncall"):
        assert text in shown
    assert main(["slo", "show", "--markdown"]) == 0
    assert "| ErrorBudgetBurn, in 7 d | 30 % | 3888 | 64.8 |" in capsys.readouterr().out
