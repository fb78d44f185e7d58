"""`radgateway usage migrate`: what it says, does and answers."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from radgateway.chaos.postgres import PostgresServer
from radgateway.cli import main
from radgateway.usage.migrations import HEAD, VERSION_TABLE

CONFIG = """
keys: [{name: k, secret: env:NOT_SET_HERE}]
providers: {p: {kind: mock}}
models: {m: {candidates: [{provider: p}]}}
"""


def written(folder: Path, usage: str) -> list[str]:
    """The option for a configuration with this ledger."""
    file = folder / "gateway.yaml"
    file.write_text(f'{CONFIG}storage: {{usage: "{usage}"}}\n')
    return ["--config", str(file)]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code, and what was said."""
    code = main(["usage", "migrate", *arguments])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_a_ledger_is_made_and_then_is_current(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A look makes no file; no secret but the ledger's address is needed."""
    file = tmp_path / "u.db"
    config = written(tmp_path, f"sqlite:///{file}")
    code, said = run(capsys, *config, "--check")
    assert (code, said) == (1, f"the schema is not there yet; {HEAD} is current\n")
    assert not file.exists()
    assert run(capsys, *config) == (0, f"the schema was not there and is {HEAD} now\n")
    for more in ([], ["--check"]):
        assert run(capsys, *config, *more) == (0, f"the schema is {HEAD}, which is current\n")


def test_a_newer_one_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With exit 2, for the check as well."""
    config = written(tmp_path, f"sqlite:///{tmp_path}/u.db")
    run(capsys, *config)
    with closing(sqlite3.connect(tmp_path / "u.db")) as connection, connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    for more in ([], ["--check"]):
        code, said = run(capsys, *config, *more)
        assert code == 2
        assert "schema is 9999" in said


@pytest.mark.parametrize(
    ("usage", "message"),
    [
        ("memory://", "keeps usage in memory"),
        ("env:RADGATEWAY_TEST_NO_SUCH", "storage.usage: "),
        ("sqlite:////no/such/folder/u.db", "unable to open"),
        ("postgresql://u:hunter22@127.0.0.1:1/d", "connection failed"),
    ],
)
def test_what_can_not_be_done_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], usage: str, message: str
) -> None:
    """With exit 2, and no password."""
    code, said = run(capsys, *written(tmp_path, usage))
    assert code == 2
    assert message in said
    assert "hunter22" not in said


@pytest.mark.servers
def test_postgresql_by_a_reference(
    server: PostgresServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it stands in a deployment."""
    monkeypatch.setenv("DATABASE_URL", server.dsn)
    config = written(tmp_path, "env:DATABASE_URL")
    assert [run(capsys, *config, *more)[0] for more in (["--check"], [], ["--check"])] == [1, 0, 0]


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """What it is for, an example, and the exit codes."""
    with pytest.raises(SystemExit) as ended:
        main(["usage", "migrate", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "--check" in said
    assert "exit codes" in said
