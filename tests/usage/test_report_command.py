"""`radgateway usage report` as a person types it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import serving
from usage_rows import LEDGERS, stored, usage_row

from radgateway import create_gateway
from radgateway.assembly import usage as assembly
from radgateway.cli import main
from radgateway.usage.ledger import Ledger, LedgerUnavailable, MemoryLedger
from radgateway.usage.query import SUMS_MAX, GroupBy, Sums, UsageFilter

CONFIG: dict[str, Any] = {
    "keys": [{"name": "alice", "secret": "key-1"}],
    "admin_keys": [{"name": "ops", "secret": "key-admin"}],
    "providers": {"mock": {"kind": "mock"}},
    "models": {
        "m": {"candidates": [{"provider": "mock", "price": {"input": "0.15", "output": "0.60"}}]}
    },
    "storage": {"usage": "memory://"},
}
FILE = """
keys: [{name: k, secret: env:NOT_SET_HERE}]
providers: {mock: {kind: mock}}
models: {m: {candidates: [{provider: mock}]}}
storage: {usage: env:USAGE_DSN}
"""


@pytest.fixture(params=LEDGERS)
def ledger(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Ledger:
    """Each kind of ledger, with three requests of the last days, as the configured one."""
    made = LEDGERS[request.param](tmp_path)
    now = time.time()
    stored(
        made,
        [
            usage_row(now - 3600, cost_usd="0.5"),
            usage_row(now - 2 * 86_400, api_key_name="bob", selected_model="m-2", cost_usd=None),
            usage_row(now - 9 * 86_400),
        ],
    )
    monkeypatch.setattr(assembly, "ledger_of", lambda config: made)
    return made


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with a secret that is not to be had here, and a ledger that is."""
    (tmp_path / "u.db").touch()
    (tmp_path / "gateway.yaml").write_text(FILE)
    monkeypatch.setenv("USAGE_DSN", f"sqlite:///{tmp_path / 'u.db'}")
    return tmp_path / "gateway.yaml"


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What a report says: on standard output, or on standard error where it failed."""
    assert main(["usage", "report", *arguments]) == code
    out, err = capsys.readouterr()
    assert bool(out) != bool(err)
    return out or err


def test_a_ledger_is_read_directly(
    ledger: Ledger, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last seven days by model; no other secret of the configuration is needed."""
    text = told(capsys, "--config", str(file))
    lines = text.splitlines()
    assert lines[0].startswith("Usage from 20")
    assert {line.split()[0] for line in lines[4:6]} == {"m-1", "m-2"}
    assert lines[7].split() == ["TOTAL", "2", "0", "24", "36", "60", "0.5000+"]
    assert text.endswith("+ at least, ? unknown: the cost of 1 request.\n")


def test_it_groups_and_filters(
    ledger: Ledger, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the management API does, by the same names."""
    config = ("--config", str(file))
    text = told(capsys, *config, "--since", "30d", "--by", "key,model", "--key", "alice")
    assert text.splitlines()[0].endswith("only key 'alice'")
    assert text.splitlines()[4].split()[:3] == ["alice", "m-1", "2"]
    text = told(capsys, *config, "--outcome", "upstream_error")
    assert "No requests." in text
    text = told(capsys, *config, "--since", "30d", "--until", "1d", "--format", "json")
    assert json.loads(text)["sum"]["requests"] == 2
    text = told(capsys, *config, "--format", "csv")
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    assert {(each["model"], each["costUsd"]) for each in found} == {("m-1", "0.5"), ("m-2", "")}


class Crowded(MemoryLedger):
    """A ledger of more groups than are given."""

    def sums(self, wanted: UsageFilter, by: tuple[GroupBy, ...] = ()) -> list[Sums]:
        """One request for each of the groups that are given, and one more in all."""
        if not by:
            return [Sums(requests=SUMS_MAX + 1)]
        return [Sums(group=(f"m{at}",), requests=1) for at in range(SUMS_MAX)]


def test_a_csv_report_that_would_be_cut_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a file looks whole; a table says what it has not."""
    monkeypatch.setattr(assembly, "ledger_of", lambda config: Crowded())
    config = ("--config", str(file))
    refused = told(capsys, *config, "--format", "csv", code=2)
    assert f"more groups than the {SUMS_MAX}" in refused
    assert "The total has 1 request more" in told(capsys, *config)


class Gone(MemoryLedger):
    """A ledger that is away."""

    def sums(self, *asked: Any) -> Any:
        """Fail."""
        raise LedgerUnavailable("the server is down")


def test_a_ledger_that_does_not_answer_is_exit_1(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason, and nothing that looks like a report."""
    monkeypatch.setattr(assembly, "ledger_of", lambda config: Gone())
    assert "the usage ledger does not answer: the server is down" in told(
        capsys, "--config", str(file), code=1
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--by", "modle"], "did you mean 'model'?"),
        (["--by", ""], "`group_by` has no ''"),
        (["--since", "yesterday"], "`since` is no time; write RFC 3339"),
        (["--since", "1d", "--until", "2d"], "`until` must be later than `since`"),
        (["--outcome", "sucess"], "did you mean 'success'?"),
        (["--admin-key", "env:X"], "give --url"),
        (["--url", "gateway", "--admin-key", "env:X"], "--url must be an http://"),
        (["--url", "http://127.0.0.1:1"], "--url needs --admin-key"),
        (["--url", "http://127.0.0.1:1", "--admin-key", "secret"], "not the key itself"),
        (["--url", "http://127.0.0.1:1", "--admin-key", "env:NO_SUCH"], "NO_SUCH is not set"),
        (["--url", "http://127.0.0.1:1", "--config", "x"], "give one of them"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_can_not_be_meant_is_exit_2(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With what to write instead; a key on the command line is not repeated."""
    monkeypatch.chdir(tmp_path)
    said = told(capsys, *arguments, code=2)
    assert words in said
    assert "secret" not in said


def test_no_ledger_is_made_by_looking_for_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is none yet, that is said; an empty one would say that nothing was used."""
    monkeypatch.chdir(tmp_path)
    assert "there is no usage ledger at radgateway.db" in told(capsys, code=2)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("RADGATEWAY_STORAGE__USAGE", "memory://")
    assert "ask that, with --url" in told(capsys, code=2)
    (tmp_path / "gateway.yaml").write_text(FILE)
    monkeypatch.delenv("RADGATEWAY_STORAGE__USAGE")
    monkeypatch.setenv("RADGATEWAY_CONFIG", "gateway.yaml")
    assert "storage.usage: the environment variable USAGE_DSN is not set" in told(capsys, code=2)


@pytest.fixture
def running() -> Iterator[str]:
    """The address of a gateway that has served two requests."""
    address: list[str] = []
    up, down = threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving(create_gateway(CONFIG)) as url, httpx.AsyncClient() as client:
            for _ in range(2):
                answer = await client.post(
                    f"{url}/v1/chat/completions",
                    json={"model": "m", "messages": []},
                    headers={"x-api-key": "key-1"},
                )
                assert answer.status_code == 200
            admin = {"x-api-key": "key-admin"}
            usage = f"{url}/v0/management/usage"
            while (await client.get(usage, headers=admin)).json()["total"] < 2:
                await asyncio.sleep(0.01)
            address.append(url)
            up.set()
            await asyncio.to_thread(down.wait, 30)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert up.wait(20)
    yield address[0]
    down.set()
    thread.join(20)


@pytest.mark.servers
def test_a_running_gateway_is_asked(
    running: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its address and an admin's key: the same tables as from a ledger."""
    monkeypatch.setenv("ADMIN", "key-admin")
    monkeypatch.setenv("CALLER", "key-1")
    gateway = ("--url", running, "--admin-key", "env:ADMIN")
    lines = told(capsys, *gateway, "--by", "key,provider").splitlines()
    assert lines[4].split() == ["alice", "mock", "2", "0", "24", "36", "60", "0.0000252"]
    answer = json.loads(told(capsys, *gateway, "--format", "json"))
    assert answer["sum"]["costUsd"] == "0.0000252"
    assert "did you mean 'model'?" in told(capsys, *gateway, "--by", "modle", code=2)
    refused = told(capsys, "--url", running, "--admin-key", "env:CALLER", code=2)
    assert "the gateway refuses" in refused


def test_who_does_not_answer_is_exit_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody there, or somebody else."""
    monkeypatch.setenv("ADMIN", "key-admin")
    asked = ("--url", "http://127.0.0.1:1", "--admin-key", "env:ADMIN")
    assert "the gateway does not answer" in told(capsys, *asked, code=1)
    for status, body in ((200, b"<html>"), (200, b'{"data":[]}'), (200, b"[]"), (502, b"")):
        answer = httpx.Response(status, content=body)
        monkeypatch.setattr(httpx, "get", lambda *_, answer=answer, **__: answer)
        assert f"it answers {status}, in no form" in told(capsys, *asked, code=1)
    away = httpx.Response(503, json={"error": {"message": "The usage ledger does not answer."}})
    monkeypatch.setattr(httpx, "get", lambda *_, **__: away)
    assert "does not tell: The usage ledger does not answer." in told(capsys, *asked, code=1)
    closed = httpx.Response(404, json={"error": {"message": "Nothing is served here."}})
    monkeypatch.setattr(httpx, "get", lambda *_, **__: closed)
    assert "its configuration names no admin_keys" in told(capsys, *asked, code=1)


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """From the group to the report, its times, its marks and its exit codes."""
    for arguments, taught in (
        (["usage", "--help"], ["usage report", "--since 30d --by day,key"]),
        (
            ["usage", "report", "--help"],
            ["hour, day, key, model", "env:NAME", "RFC 3339", "exit codes: 0", "a ?"],
        ),
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        said = capsys.readouterr().out
        assert [text for text in taught if text not in said] == []
