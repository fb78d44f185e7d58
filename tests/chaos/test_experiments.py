"""Every experiment for real, at a small scale: processes, sockets, signals, locks, certificates.

A verdict is worth something only if it can be the other one: where the gateway's protection is
taken away, or more is asked than it does, the same experiment refutes its hypothesis.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import Process, started

import radgateway
from radgateway.chaos import postgres
from radgateway.chaos.experiment import Report
from radgateway.chaos.experiments import EXPERIMENTS, find
from radgateway.chaos.experiments.memory_pressure import request_ids, rows_missing
from radgateway.chaos.lab import Lab, Options
from radgateway.chaos.load import Call
from radgateway.chaos.memory_cage import memory_cage
from radgateway.chaos.runner import run
from radgateway.chaos.sandbox import Sandbox
from radgateway.exchange import Exchange
from radgateway.usage.ledger import SQLiteLedger
from radgateway.usage.row import row_of

pytestmark = [pytest.mark.servers, pytest.mark.slow]

# What runs here is this tree, wherever the tests are started.
ENVIRON = {"PYTHONPATH": str(Path(radgateway.__file__).parents[1])}
SMALL = Options(scale=0.05, rate_per_s=40)
RUNNABLE = [each.name for each in EXPERIMENTS if each.obstacle() is None]


def report_of(name: str, **options: Any) -> Report:
    """Run an experiment by its name, small."""
    experiment = find(name)
    assert experiment is not None
    chosen = Options(**{"scale": SMALL.scale, "rate_per_s": SMALL.rate_per_s, **options})
    report = asyncio.run(run(experiment, chosen))
    assert report.verdict in ("held", "refuted"), report.reason
    return report


def failing(report: Report) -> list[str]:
    """The findings that are not as the hypothesis says."""
    return [found.name for found in report.findings if not found.holds]


@pytest.mark.parametrize("name", [name for name in RUNNABLE if name != "memory-pressure"])
def test_the_hypothesis_holds(name: str) -> None:
    """Against this gateway, with every figure measured; and steady again at the end."""
    report = report_of(name)
    assert (failing(report), report.exit_code) == ([], 0)
    assert len(report.findings) >= 5
    assert {"before", "after"} <= set(report.figures)


def test_a_gateway_killed_for_want_of_memory_has_lost_no_row() -> None:
    """The kernel's own killer ends it, under load, and every answer has its row afterwards."""
    report = report_of("memory-pressure")
    found = {each.name: each for each in report.findings}
    assert found["answered before the kill"].measured > 300
    assert found["answered requests without a usage row"].measured == 0
    assert (failing(report), report.exit_code) == ([], 0)
    assert any("OOM killer" in note for note in report.notes)


def test_a_gateway_that_trusts_what_it_knows_too_briefly_fails_without_its_store() -> None:
    """Where the last known secrets expire during the outage, requests are refused, and found."""
    short = {"secrets.infisical.max_stale_s": "2"}
    report = report_of("secrets-store", settings=short)
    assert report.exit_code == 1
    assert {"answered, refusing", "/health/ready says stale, refusing"} <= set(failing(report))
    assert "secrets_expired" in report.figures["store refusing"].failures


def test_an_answer_without_a_row_is_found(tmp_path: Path) -> None:
    """The experiment's own measure can be another than 0."""
    ledger = SQLiteLedger(tmp_path / "usage.db")
    ledger.write([row_of(Exchange(name)) for name in ("a", "c")])
    ledger.close()
    calls = [
        Call(due=0.0, ended=0.0, first_byte_s=0.0, status=200, failure="", request_id=name)
        for name in "abc"
    ]
    experiment = find("memory-pressure")
    assert experiment is not None
    report = Report(experiment=experiment, where="", scale=1, started_at="")

    async def measured() -> list[Call]:
        async with Lab(report, SMALL, lambda line: None) as lab:
            return await rows_missing(lab, calls, tmp_path / "usage.db")

    assert [call.request_id for call in asyncio.run(measured())] == ["b"]


def test_without_a_breaker_provider_failure_is_refuted(tmp_path: Path) -> None:
    """By the command: exit 1, and the report says which finding failed."""
    arguments = ["-m", "radgateway", "chaos", "run", "provider-failure", "--scale", "0.05"]
    arguments += ["--rate", "40", "--set", "providers.first.breaker=null", "--report", "r.md"]
    with started(arguments, tmp_path, ENVIRON) as process:
        assert process.process.wait(60) == 1
        process.wait_for("NOT AS EXPECTED")
    text = (tmp_path / "r.md").read_text()
    assert "**Verdict: refuted.**" in text
    assert "| seconds until its breaker opened | inf s |" in text


def test_without_a_clock_provider_latency_is_refuted() -> None:
    """A gateway that waits for the late provider serves everybody late."""
    patient = {"providers.first.timeouts.first_byte_s": "30"}
    report = report_of("provider-latency", settings=patient)
    assert report.exit_code == 1
    assert {"answered by others", "requests that failed over"} <= set(failing(report))


def test_with_a_budget_without_end_retry_budget_is_refuted() -> None:
    """Twice the load at the providers, and nobody refused."""
    report = report_of("retry-budget", settings={"retry_budget.min_per_s": "100000"})
    assert "requests refused for the budget" in failing(report)
    assert "attempts in all, at most" in failing(report)


def test_rows_that_go_elsewhere_are_missed_in_postgresql() -> None:
    """Requests are answered all the same, so only the rows can tell."""
    elsewhere = {"storage.usage": "memory://"}
    # How fast they are answered is another finding, and a busy machine's.
    limits = {"caught_up_s": 0.1, "slower_ms": 60_000}
    report = report_of("database-postgres", settings=elsewhere, limits=limits)
    missed = [f"answered requests without a row, {when}" for when in ("hung", "down")]
    assert failing(report) == missed
    assert report.exit_code == 1


def test_postgresql_can_be_tried_here() -> None:
    """Else the test of its hypothesis would not be there at all."""
    assert "database-postgres" in RUNNABLE


def test_programs_behind_a_closed_door_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is not root can't get at what lies in root's home, and root can't run the server."""
    programs = postgres.binaries()
    assert programs is not None
    package = programs.parents[1]
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    for each in package.parent.glob(f"{package.name}*"):
        (home / each.name).symlink_to(each)
    behind = home / programs.relative_to(package.parent)
    monkeypatch.setattr(postgres, "binaries", lambda: behind)
    with postgres.postgres_server() as server:
        assert server.dsn.startswith("postgresql://")


def test_with_another_leeway_clock_skew_is_refuted() -> None:
    """What was within the leeway is refused, by the code that says why."""
    report = report_of("clock-skew", settings={"jwt.leeway_s": "5"})
    assert [name for name in failing(report) if "within the leeway" in name] == failing(report)
    assert len(failing(report)) == 2
    assert any("token_expired" in note for note in report.notes)


LIVE = """
keys: [{name: caller, secret: key-1}]
admin_keys: [{name: ops, secret: key-admin}]
providers:
  one: {kind: mock, timeouts: {first_byte_s: 0.25}, breaker: {window_s: 1, open_s: 0.3}}
  two: {kind: mock}
models:
  pair: {candidates: [{provider: one, weight: 200}, {provider: two}]}
  single: {candidates: [{provider: one}]}
storage: {usage: "memory://"}
"""


def live(process: Process) -> list[str]:
    """The arguments that lead to a gateway which runs."""
    url = process.wait_for(r" on (http://\S+)")[1]
    process.wait_for("Application startup complete")
    keys = ["--key", "env:CALLER", "--admin-key", "env:OPS"]
    return ["--url", url, "--scale", "0.05", "--rate", "40", *keys]


def test_against_a_gateway_that_runs(tmp_path: Path) -> None:
    """Faults are armed over its API, audited, gone at the end; and a bad gateway is refuted."""
    (tmp_path / "gateway.yaml").write_text(LIVE)
    serve = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
    environ = {**ENVIRON, "CALLER": "key-1", "OPS": "key-admin"}
    with started(serve, tmp_path, ENVIRON) as gateway:
        options = live(gateway)
        command = ["-m", "radgateway", "chaos", "run", "provider-failure", *options]
        with started([*command, "--model", "pair"], tmp_path, environ) as experiment:
            assert experiment.process.wait(60) == 0, experiment.output
            experiment.wait_for("at one, for")
        assert gateway.output.count("radgateway.faults.armed") == 1
        assert gateway.output.count("radgateway.faults.disarmed") == 1

        # Nobody to fall back on: callers suffer, and it is ended before its time.
        with started([*command, "--model", "single"], tmp_path, environ) as experiment:
            assert experiment.process.wait(60) == 2
            experiment.wait_for("ABORTED")
        assert gateway.output.count("radgateway.faults.armed") == 2
        gone = ("radgateway.faults.disarmed", "radgateway.faults.aborted")
        assert sum(gateway.output.count(line) for line in gone) == 2

        command = ["-m", "radgateway", "chaos", "run", "replica-kill", *options, "--model", "pair"]
        with started(command, tmp_path, environ) as experiment:
            assert experiment.process.wait(60) == 2
            experiment.wait_for("sandbox only")


@pytest.mark.parametrize(
    ("environment", "armed", "why"),
    [
        ("production", [], r"chaos: \{allow: true\}"),
        ("staging", ["two"], "another experiment is under way at .*: two by ops"),
    ],
)
def test_a_gateway_that_arms_nothing_now_gets_no_load(
    tmp_path: Path, environment: str, armed: list[str], why: str
) -> None:
    """Production that does not allow it, and one where somebody else's faults are armed, which
    stay: exit 2, the reason, and no request that a provider would be paid for."""
    text = LIVE.replace("key-1", "env:CALLER").replace("key-admin", "env:OPS")
    (tmp_path / "gateway.yaml").write_text(text)
    serve = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
    environ = {**ENVIRON, "CALLER": "key-1", "OPS": "key-admin"}
    chosen = {"RADGATEWAY_ENVIRONMENT": environment, "RADGATEWAY_TELEMETRY__LOG_LEVEL": "info"}
    with started(serve, tmp_path, environ | chosen) as gateway:
        options = live(gateway)
        headers = {"x-api-key": "key-admin"}
        with httpx.Client(base_url=f"{options[1]}/v0/management", headers=headers) as admin:
            for provider in armed:
                order = {"provider": provider, "faults": {"latency_ms": 1}, "for_s": 60}
                assert admin.post("/faults", json=order).status_code == 200
            command = ["-m", "radgateway", "chaos", "run", "provider-failure", *options]
            with started([*command, "--model", "pair"], tmp_path, environ) as experiment:
                assert experiment.process.wait(60) == 2
                experiment.wait_for(f"NOT RUN: .*{why}")
            still = admin.get("/faults").json()["armed"]
            assert [each["provider"] for each in still] == armed
            assert admin.get("/usage").json()["total"] == 0


def test_sigterm_leaves_nothing_behind(tmp_path: Path) -> None:
    """The gateway of the sandbox ends with the experiment, however that ends."""
    command = ["-m", "radgateway", "chaos", "run", "provider-failure", "--scale", "1"]
    with started(command, tmp_path, {**ENVIRON, "TMPDIR": str(tmp_path)}) as process:
        process.wait_for("arming|steady state")
        children = _children(process.process.pid)
        assert len(children) == 1
        assert process.end(signal.SIGTERM) == 2
        process.wait_for("interrupted")
    for child in children:
        assert not _alive(child)
    assert not list(tmp_path.glob("radgateway-chaos-*"))


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_sandbox_says_why_a_process_did_not_start() -> None:
    """The last lines of its output, and no waiting for the time limit."""

    async def story() -> None:
        with Sandbox({"providers.first.breakr": "null"}) as sandbox:
            config = {
                "providers": {"first": {"kind": "mock"}},
                "models": {"m": {"candidates": [{"provider": "first"}]}},
            }
            with pytest.raises(Exception, match="breakr"):
                await sandbox.gateway(config)

    began = time.monotonic()
    asyncio.run(story())
    assert time.monotonic() - began < 15


def test_the_rows_of_a_ledger_are_read_beside_its_writer(tmp_path: Path) -> None:
    """Read only; a lock of another process does not keep us out."""
    file = tmp_path / "usage.db"
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE radgateway_requests (request_id TEXT)")
    writer.execute("INSERT INTO radgateway_requests VALUES ('r-1')")
    writer.execute("BEGIN EXCLUSIVE")
    assert request_ids(file) == {"r-1"}
    writer.close()


def test_a_cage_leaves_no_control_group_behind() -> None:
    """Where one can be made it is gone afterwards; where not, there is none."""
    with memory_cage() as cage:
        if cage is not None:
            assert cage.kills() == 0
    with memory_cage() as second:
        assert (second is None) == (cage is None)


def test_a_lab_in_a_sandbox_has_a_folder_until_it_ends() -> None:
    """And what was started there is killed."""
    seen: list[Any] = []

    async def story() -> None:
        experiment = find("provider-latency")
        assert experiment is not None
        report = Report(experiment=experiment, where="", scale=1, started_at="")
        async with Lab(report, SMALL, lambda line: None) as lab:
            sandbox = lab.sandbox()
            process = sandbox.start("sleeper", ["sleep", "60"])
            assert process.running
            seen.extend([sandbox.folder, process])

    asyncio.run(story())
    folder, process = seen
    assert not folder.exists()
    assert not process.running
