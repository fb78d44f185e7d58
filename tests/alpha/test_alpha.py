"""The alpha environment: unit and compose file fit each other, the configuration and the image."""

from __future__ import annotations

import configparser
import json
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
FAREWELL_S, WRITE_OUT_S = 6, 10
"""What a drain takes beyond its limits, as docs/how-to/drain.md has it."""


class _Settings(configparser.RawConfigParser):
    """A unit file: names keep their case, and one that is given again adds to the first."""

    def __init__(self) -> None:
        super().__init__(strict=False, interpolation=None, comment_prefixes="#", delimiters="=")

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def unit(section: str = "Service") -> dict[str, str]:
    """A section of the unit."""
    parser = _Settings()
    parser.read_string(UNIT_TEXT)
    return dict(parser[section])


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


_CLOSED = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 38, 65
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
libc.prctl(PR_SET_MDWE, 1, 0, 0, 0)  # kernels before 6.3 have no such thing
os.umask(0o077)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.servers
def test_the_units_command_serves_and_drains(config_file: Path, tmp_path: Path) -> None:
    """With the example's file, in a state directory, without memory that is both written and run:
    an answer, a row on disk, the management API behind its key, a stream whole after SIGTERM."""
    state = tmp_path / "state"
    state.mkdir(mode=int(unit()["StateDirectoryMode"], 8))
    command = shlex.split(
        unit()["ExecStart"].replace("/etc/radgateway/gateway.yaml", str(config_file))
    )
    assert command[0] == "/opt/radgateway/bin/radgateway"
    command = ["-c", _CLOSED, sys.executable, "-m", "radgateway", *command[1:], "--port", "0"]
    key = (tmp_path / "secrets" / "gateway_key").read_text()
    admin = (tmp_path / "secrets" / "gateway_admin_key").read_text()
    headers = {"authorization": f"Bearer {key}"}
    message = {"role": "user", "content": "these are the last words"}
    body = {"model": "demo", "messages": [message]}
    with started(command, state) as process:
        url = process.wait_for(r"^radgateway \S+ \(alpha, 1 worker\) on (http://127\S+)$")[1]
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
