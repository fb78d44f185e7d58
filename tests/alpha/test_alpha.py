"""The alpha environment: unit and compose file fit each other, the configuration and the image."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from host_process import content_of
from ops_tools import ROOT, run_ops
from processes import started

from radgateway.config import GatewayConfig, load_config

FOLDER = ROOT / "examples" / "alpha"
UNIT_TEXT = (FOLDER / "radgateway.service").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
GATEWAY: dict[str, Any] = COMPOSE["services"]["gateway"]
CREDENTIALS = "/run/credentials/radgateway.service"
SECRETS = {"gateway_key", "gateway_admin_key"}
FENCED = Path(__file__).with_name("fenced.py")
FAREWELL_S, WRITE_OUT_S = 6, 10
"""What a drain takes beyond its limits, as docs/how-to/drain.md has it."""


def unit() -> dict[str, str]:
    """What the unit sets, by names that it gives once."""
    return dict(re.findall(r"^(\w+)=(.*)$", UNIT_TEXT, re.MULTILINE))


def all_of(name: str) -> list[str]:
    """All that the unit gives for a name that may be given more than once."""
    return re.findall(rf"^{name}=(.*)$", UNIT_TEXT, re.MULTILINE)


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """The example's configuration and secrets of its script, where this test may put them."""
    secrets = tmp_path / "secrets"
    made = subprocess.run(
        ["sh", FOLDER / "make-secrets.sh", secrets], capture_output=True, text=True, check=True
    )
    assert str(secrets) in made.stdout
    file = tmp_path / "gateway.yaml"
    file.write_text((FOLDER / "gateway.yaml").read_text().replace(CREDENTIALS, str(secrets)))
    return file


@pytest.fixture
def config(config_file: Path) -> GatewayConfig:
    return load_config(config_file, {})


def test_both_wait_for_as_long_as_a_drain_may_take(config: GatewayConfig) -> None:
    """Delay, the longer of the two limits, last words and writing out; then a kill is due."""
    server = config.server
    longest = max(server.drain_timeout_s, server.stream_drain_timeout_s)
    needed = server.drain_delay_s + longest + FAREWELL_S + WRITE_OUT_S
    assert int(unit()["TimeoutStopSec"]) >= needed
    assert int(GATEWAY["stop_grace_period"].removesuffix("s")) >= needed
    drain = (ROOT / "docs/how-to/drain.md").read_text()
    assert f"{FAREWELL_S} s for last words, and {WRITE_OUT_S} s to write out" in drain


def test_it_is_the_alpha_environment(config: GatewayConfig) -> None:
    """The strategy's row for it, with usage on disk, and limits for every key."""
    assert config.environment == "alpha"
    assert config.telemetry.log_level == "info"
    assert config.telemetry.metrics
    assert not config.telemetry.tracing.enabled
    assert (config.storage.usage.scheme, config.storage.limits.scheme) == ("sqlite", "memory")
    assert all(key.limits and key.token_limits and key.max_concurrency for key in config.keys)
    assert config.admin_keys


def test_secrets_are_where_the_configuration_looks() -> None:
    """The unit's, the compose file's and the script's names are those of the references."""
    text = (FOLDER / "gateway.yaml").read_text()
    assert set(re.findall(rf"file:{CREDENTIALS}/(\w+)", text)) == SECRETS
    loaded = dict(each.split(":", 1) for each in all_of("LoadCredential"))
    assert loaded == {name: f"/etc/radgateway/secrets/{name}" for name in SECRETS}
    assert GATEWAY["secrets"] == [
        {"source": name, "target": f"{CREDENTIALS}/{name}"} for name in sorted(SECRETS)[::-1]
    ]
    assert COMPOSE["secrets"] == {name: {"file": f"./secrets/{name}"} for name in SECRETS}
    assert (FOLDER / ".gitignore").read_text().split() == ["secrets/"]


def test_ports_and_paths_are_the_same_everywhere(config: GatewayConfig) -> None:
    """Of the configuration, the image, the compose file and the unit."""
    (exposed,) = re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)
    assert int(exposed) == config.server.port
    assert GATEWAY["ports"] == [f"127.0.0.1:{exposed}:{exposed}"]
    file = "/etc/radgateway/gateway.yaml"
    assert GATEWAY["command"] == ["serve", "--config", file]
    assert shlex.split(unit()["ExecStart"])[1:] == GATEWAY["command"]
    assert f"./gateway.yaml:{file}:ro" in GATEWAY["volumes"]
    (data,) = re.findall(r'^VOLUME \["(\S+)"\]$', DOCKERFILE, re.MULTILINE)
    assert f"data:{data}" in GATEWAY["volumes"]
    assert f"WORKDIR {data}\n" in DOCKERFILE
    assert config.storage.usage.path == "radgateway.db"
    assert unit()["WorkingDirectory"] == f"/var/lib/{unit()['StateDirectory']}"


def test_the_container_is_as_closed_as_it_can_be() -> None:
    """And its health check is the image's command."""
    assert GATEWAY["read_only"]
    assert GATEWAY["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in GATEWAY["security_opt"]
    assert not {"privileged", "cap_add", "user", "network_mode", "pid"} & GATEWAY.keys()
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)
    assert GATEWAY["healthcheck"]["test"] == ["CMD", *json.loads(entry), "health", "--ready"]
    assert (FOLDER / GATEWAY["build"]["context"]).resolve() == ROOT
    assert GATEWAY["ulimits"]["nofile"] == int(unit()["LimitNOFILE"])
    assert GATEWAY["mem_limit"].upper() == unit()["MemoryMax"]


def test_the_environment_opens_the_door_of_the_container(config_file: Path) -> None:
    """The file says this machine alone, as systemd needs it; the image's environment says all."""
    (host,) = re.findall(r"^    (RADGATEWAY_SERVER__HOST)=0\.0\.0\.0$", DOCKERFILE, re.MULTILINE)
    assert load_config(config_file, {}).server.host == "127.0.0.1"
    assert load_config(config_file, {host: "0.0.0.0"}).server.host == "0.0.0.0"


def test_a_configuration_that_can_not_be_used_is_not_tried_again(tmp_path: Path) -> None:
    """serve ends with the code that the unit does not restart for."""
    (tmp_path / "bad.yaml").write_text("servr: {}\n")
    with started(["-m", "radgateway", "serve", "--config", "bad.yaml"], tmp_path) as process:
        assert process.process.wait(20) == int(unit()["RestartPreventExitStatus"])


@pytest.mark.servers
def test_the_units_command_serves_and_drains(config_file: Path, tmp_path: Path) -> None:
    """With the example's file, without memory that is both written and run."""
    check_the_units_command(config_file, tmp_path, frozenset())


@pytest.mark.ops
@pytest.mark.servers
def test_it_does_so_with_the_units_system_calls_alone(config_file: Path, tmp_path: Path) -> None:
    """The kernel kills it, as under systemd, at the first call that the unit's filter denies."""
    allowed: set[str] = set()
    for line in all_of("SystemCallFilter"):
        named = {call for group in line.removeprefix("~").split() for call in system_calls(group)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    assert {"openat", "epoll_wait", "futex"} <= allowed
    assert not {"mount", "setuid", "ptrace", "bpf"} & allowed
    if os.geteuid() == 0:
        allowed.add("fchown")  # SQLite gives what it makes to the database's owner, if it may
    check_the_units_command(config_file, tmp_path, frozenset(allowed))


def system_calls(group: str) -> set[str]:
    """What a group of systemd's stands for."""
    listed = run_ops("systemd-analyze", "syscall-filter", group).stdout.splitlines()
    calls: set[str] = set()
    for name in (line.strip() for line in listed[1:]):
        if name.startswith("@"):
            calls |= system_calls(name)
        elif name and not name.startswith("#"):
            calls.add(name)
    return calls


def check_the_units_command(config_file: Path, tmp_path: Path, calls: frozenset[str]) -> None:
    """An answer, a row on disk, management behind its key, a stream whole after SIGTERM, code 0."""
    state = tmp_path / "state"
    state.mkdir(mode=int(unit()["StateDirectoryMode"], 8))
    program, *arguments = shlex.split(unit()["ExecStart"])
    assert program == "/opt/radgateway/bin/radgateway"
    arguments = [str(config_file) if each.startswith("/etc/") else each for each in arguments]
    command = [sys.executable, "-m", "radgateway", *arguments, "--port", "0"]
    key = (tmp_path / "secrets" / "gateway_key").read_text()
    admin = (tmp_path / "secrets" / "gateway_admin_key").read_text()
    message = {"role": "user", "content": "these are the last words"}
    body = {"model": "demo", "messages": [message]}
    with started([str(FENCED), " ".join(sorted(calls)), *command], state) as process:
        url = process.wait_for(r"^radgateway \S+ \(alpha, 1 worker\) on (http://127\S+)$")[1]
        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=20) as client:
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.json()["choices"][0]["message"]["content"].endswith("the last words")
            assert client.get("/v0/management/config").status_code == 403
            opened = client.get(
                "/v0/management/config", headers={"authorization": f"Bearer {admin}"}
            )
            assert opened.json()["environment"] == "alpha"
            with client.stream(
                "POST", "/v1/chat/completions", json={**body, "stream": True}
            ) as response:
                lines = response.iter_lines()
                text = content_of(next(line for line in lines if content_of(line)))
                process.process.send_signal(signal.SIGTERM)
                rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert (text + "".join(map(content_of, rest))).endswith("the last words")
        assert process.process.wait(20) == 0, process.output
    with closing(sqlite3.connect(state / "radgateway.db")) as ledger:
        assert ledger.execute("SELECT count(*) FROM radgateway_requests").fetchone() == (2,)
    assert stat.S_IMODE((state / "radgateway.db").stat().st_mode) == 0o600
    assert key not in process.output
    assert admin not in process.output


@pytest.mark.ops
def test_the_fence_is_one(tmp_path: Path) -> None:
    """A call that is not allowed ends the process by SIGSYS, so the test above can fail."""
    calls = " ".join(sorted(system_calls("@system-service") - {"getpriority"}))
    asking = "import os; os.getpriority(os.PRIO_PROCESS, 0)"
    with started([str(FENCED), calls, sys.executable, "-c", asking], tmp_path) as process:
        assert process.process.wait(20) == -signal.SIGSYS


def test_the_script_makes_keys_once(tmp_path: Path) -> None:
    """Random ones for the folder's owner alone; those that are there stay; and it says how."""
    folder = tmp_path / "etc" / "secrets"
    for _ in range(2):
        subprocess.run(
            ["sh", FOLDER / "make-secrets.sh", folder], capture_output=True, timeout=20, check=True
        )
        found = {file.name: file.read_text() for file in folder.iterdir()}
        assert found.keys() == SECRETS
        assert all(re.fullmatch(r"[0-9a-f]{48}", text) for text in found.values())
        assert len(set(found.values())) == 2
        (folder / "gateway_key").chmod(0o644)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    wrong = subprocess.run(
        ["sh", FOLDER / "make-secrets.sh"], capture_output=True, text=True, timeout=20, check=False
    )
    assert wrong.returncode == 2
    assert "sh make-secrets.sh secrets" in wrong.stderr


@pytest.mark.ops
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Without a warning, and with an exposure of at most 1.5 of 10."""
    program = tmp_path / "radgateway"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / "radgateway.service"
    copy.write_text(UNIT_TEXT.replace("/opt/radgateway/bin/radgateway", str(program)))
    verified = run_ops("systemd-analyze", "verify", copy)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    spoilt = tmp_path / "spoilt.service"
    spoilt.write_text(copy.read_text().replace("ProtectSystem=", "ProtectSytem="))
    assert "ProtectSytem" in run_ops("systemd-analyze", "verify", spoilt).stderr
    scored = run_ops("systemd-analyze", "security", "--offline=true", "--threshold=15", copy)
    assert scored.returncode == 0, scored.stdout
    score = re.search(r"exposure level for radgateway\.service: ([\d.]+) ", scored.stdout)
    assert score is not None
    page = (ROOT / "docs/how-to/deploy-container.md").read_text()
    assert f"exposure level of {score[1]}" in page


@pytest.mark.ops
def test_the_files_are_clean(tmp_path: Path) -> None:
    """By the Compose Specification's schema, yamllint and shellcheck."""
    compose = FOLDER / "compose.yaml"
    schema = ("--builtin-schema", "vendor.compose-spec")
    assert run_ops("check-jsonschema", *schema, compose).returncode == 0
    spoilt = tmp_path / "compose.yaml"
    spoilt.write_text(compose.read_text().replace("healthcheck:", "healthchek:"))
    assert run_ops("check-jsonschema", *schema, spoilt).returncode == 1
    rules = "{extends: relaxed, rules: {line-length: {max: 100}}}"
    linted = run_ops("yamllint", "--strict", "-d", rules, FOLDER, ROOT / ".ci/structure-test.yaml")
    assert (linted.returncode, linted.stdout) == (0, "")
    assert run_ops("shellcheck", FOLDER / "make-secrets.sh").stdout == ""
