"""`rollback.sh` by the real kubectl, and `smoke.sh` against a real gateway.

The cluster is its API alone, on loopback; Argo's plugin is a script that writes down what it is
asked to do.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from ops_tools import ROOT, ops_tool, run_ops
from processes import Process, started
from release.kube_api import Cluster, serving_api

pytestmark = [pytest.mark.ops, pytest.mark.servers]

SCRIPTS = ROOT / "examples" / "release"
KEYS = {"RAD_KEY": "the-key-of-a-caller", "RAD_ADMIN_KEY": "the-key-of-an-admin"}
CONFIG = """\
environment: local
keys: [{name: smoke, secret: env:RAD_KEY}]
admin_keys: [{name: ops, secret: env:RAD_ADMIN_KEY}]
providers:
  mock: {kind: mock}
  broken: {kind: mock, error_ratio: 1.0, breaker: null}
models:
  demo: {candidates: [{provider: mock, model: demo}]}
  broken: {candidates: [{provider: broken, model: broken}]}
storage: {usage: "sqlite:///usage.db"}
"""
CURL = """\
#!/bin/sh
printf '%s\\n' "$@" >> "$CURL_LOG"
exec {curl} "$@"
"""
PLUGIN = """\
#!/bin/sh
echo "$@" >> "$PLUGIN_LOG"
if [ "$1" = "$PLUGIN_FAILS" ]; then echo "$1 failed" >&2; exit 1; fi
"""


class Place:
    """A folder with keys in files, a gateway, and what of the environment the scripts get."""

    def __init__(self, folder: Path, gateway: Process, url: str) -> None:
        self.folder = folder
        self.gateway = gateway
        self.url = url
        for name, key in KEYS.items():
            (folder / name).write_text(f"{key}\n")
        bin_ = folder / "bin"
        bin_.mkdir()
        (bin_ / "kubectl").symlink_to(ops_tool("kubectl"))
        plugin = bin_ / "kubectl-argo-rollouts"
        plugin.write_text(PLUGIN)
        plugin.chmod(0o755)
        curl = bin_ / "curl"
        curl.write_text(CURL.format(curl=ops_tool("curl")))
        curl.chmod(0o755)
        self.curl_log = folder / "curl.log"
        self.log = folder / "plugin.log"
        self.environ = {"PATH": f"{bin_}:{os.environ['PATH']}", "HOME": str(folder)}

    def run(
        self, script: str, *arguments: str, environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return run_ops(
            "bash",
            SCRIPTS / script,
            *arguments,
            env={
                **self.environ,
                "PLUGIN_LOG": str(self.log),
                "CURL_LOG": str(self.curl_log),
                **(environ or {}),
            },
        )

    @property
    def smoke(self) -> list[str]:
        """What `smoke.sh` needs, and `rollback.sh` for it."""
        key, admin = (str(self.folder / name) for name in KEYS)
        return [
            *("--url", self.url, "--key-file", key, "--model", "demo"),
            *("--admin-key-file", admin),
        ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "gateway.yaml").write_text(CONFIG)
    serve = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
    with started(serve, folder, KEYS) as process:
        url = process.wait_for(r"(http://127\.0\.0\.1:\d+)")[1]
        yield Place(folder, process, url)


def back(
    place: Place, cluster: Cluster, *arguments: str, fails: str = ""
) -> subprocess.CompletedProcess[str]:
    """`rollback.sh` with all it needs, in this cluster."""
    place.log.write_text("")
    with serving_api(cluster, place.folder) as kubeconfig:
        environ = {"KUBECONFIG": str(kubeconfig), "PLUGIN_FAILS": fails}
        return place.run(
            "rollback.sh", "--namespace", "shop", *place.smoke, *arguments, environ=environ
        )


def template_of(cluster: Cluster) -> str:
    """The image that the Deployment was told to have."""
    ((path, patch),) = cluster.changes
    assert path.endswith("/deployments/rad-gateway")
    template = next(each["value"] for each in patch if each["path"] == "/spec/template")
    image: str = template["spec"]["containers"][0]["image"]
    return image


# the smoke test


def test_a_gateway_that_is_well_passes(place: Place) -> None:
    """All of it, to the rows in the ledger; and no key is printed, logged or an argument."""
    done = place.run("smoke.sh", *place.smoke)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^ok +(\w+)", done.stdout, re.MULTILINE) == [
        "health",
        "readiness",
        "models",
        "a",
        "a",
        "usage",
    ]
    asked = place.curl_log.read_text()
    assert "/v0/management/usage" in asked
    for key in KEYS.values():
        assert key not in done.stdout + done.stderr + place.gateway.output + asked


def test_without_an_admins_key_the_usage_is_left_out(place: Place) -> None:
    """And it says so."""
    done = place.run("smoke.sh", *place.smoke[:-2])
    assert done.returncode == 0, done.stderr
    assert "skipped usage" in done.stdout


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"--model": "unheard-of"}, 1, 'models: no "id":"unheard-of" in the answer'),
        ({"--model": "broken"}, 1, "completion: status 5"),
        ({"--url": "http://127.0.0.1:1"}, 1, "FAILED  health"),
        ({"--url": "127.0.0.1"}, 2, "--url must be"),
        ({"--model": 'x", "n": 9'}, 2, "--model must be"),
        ({"--key-file": "/nowhere"}, 2, "can't be read: /nowhere"),
        ({"--timeout": "0"}, 2, "--timeout must be"),
        ({"--key": "secret"}, 2, "unknown argument --key"),
    ],
)
def test_what_is_not_well_fails(
    place: Place, changes: dict[str, str], code: int, words: str
) -> None:
    """Exit 1 with what was asked and answered, 2 for arguments that can't be meant."""
    done = place.run("smoke.sh", *place.smoke, *(each for pair in changes.items() for each in pair))
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize("text", ["a\nb", 'a"b', "a b", ""])
def test_a_file_that_holds_no_key_is_refused(place: Place, text: str) -> None:
    """It could end curl's line and begin another."""
    file = place.folder / "odd"
    file.write_text(text)
    done = place.run("smoke.sh", *place.smoke, "--key-file", str(file))
    assert (done.returncode, "holds no key" in done.stderr) == (2, True)


def test_a_key_that_is_refused_is_not_well(place: Place) -> None:
    """401 from the list of models on."""
    file = place.folder / "wrong"
    file.write_text("another-key")
    done = place.run("smoke.sh", *place.smoke, "--key-file", str(file))
    assert done.returncode == 1
    assert "models: status 401" in done.stderr
    assert "another-key" not in done.stderr


def test_a_gateway_that_hangs_is_given_up(place: Place) -> None:
    """After the time that was given."""
    process = place.gateway.process
    process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        done = place.run("smoke.sh", *place.smoke, "--timeout", "1")
    finally:
        process.send_signal(signal.SIGCONT)
    assert (done.returncode, "timed out" in done.stderr) == (1, True), done.stderr
    assert time.monotonic() - began < 15


# the way back


def test_it_goes_back_to_what_is_marked_as_good(place: Place) -> None:
    """Over one that nobody has marked; then it waits, tries it, and says what to tell."""
    cluster = Cluster(good={1, 3})
    done = back(place, cluster)
    assert done.returncode == 0, done.stderr
    assert template_of(cluster) == "registry.example/radgateway:1.1.0"
    assert (
        "revision 1 (registry.example/radgateway:1.1.0): the newest that is marked" in done.stdout
    )
    assert "successfully rolled out" in done.stdout
    assert "ok      usage" in done.stdout
    assert "#incidents: rad-gateway was rolled back" in done.stdout
    for key in KEYS.values():
        assert key not in done.stdout + done.stderr


def test_where_none_is_marked_it_says_so(place: Place) -> None:
    """The one before, which may be as bad."""
    cluster = Cluster()
    done = back(place, cluster)
    assert done.returncode == 0, done.stderr
    assert template_of(cluster) == "registry.example/radgateway:1.2.0"
    assert "NOBODY HAS MARKED IT AS GOOD" in done.stdout


def test_a_person_knows_better(place: Place) -> None:
    """The revision that was asked for, if it is there and not the current one."""
    cluster = Cluster(good={2})
    assert back(place, cluster, "--to-revision", "1").returncode == 0
    assert template_of(cluster) == "registry.example/radgateway:1.1.0"
    for wanted, words in (("7", "no revision 7"), ("3", "is the current one")):
        cluster = Cluster()
        done = back(place, cluster, "--to-revision", wanted)
        assert (done.returncode, words in done.stderr, cluster.changes) == (2, True, [])


@pytest.mark.parametrize(
    ("cluster", "arguments", "code", "words"),
    [
        (Cluster(revisions=1), [], 2, "nothing to go back to"),
        (Cluster(revisions=0), [], 2, "has no revisions"),
        (Cluster(), ["--dry-run"], 0, ""),
        (Cluster(), ["--key-file", "/nowhere"], 2, "can't be read: /nowhere"),
        (Cluster(), ["--kind", "pod"], 2, "--kind must be"),
    ],
)
def test_nothing_is_changed(
    place: Place, cluster: Cluster, arguments: list[str], code: int, words: str
) -> None:
    """Where there is nothing to go back to, where it would not be verified, and in a dry run."""
    done = back(place, cluster, *arguments)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert cluster.changes == []


@pytest.mark.parametrize(
    ("cluster", "arguments", "words"),
    [
        (Cluster(ends=False), ["--timeout", "1"], "it has not ended within 1 s"),
        (Cluster(), ["--model", "broken"], "it is back, and the smoke test fails"),
    ],
)
def test_a_rollback_that_is_not_well_is_no_success(
    place: Place, cluster: Cluster, arguments: list[str], words: str
) -> None:
    """Exit 1, and what to tell at once."""
    done = back(place, cluster, *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "tell #incidents now" in done.stderr
    assert "rolled back, and well" not in done.stdout


def test_a_good_release_is_marked(place: Place) -> None:
    """On its ReplicaSet, where a later rollback does not copy it from."""
    cluster = Cluster()
    done = back(place, cluster, "--mark-good")
    assert done.returncode == 0, done.stderr
    ((path, patch),) = cluster.changes
    assert path.endswith("/replicasets/rad-gateway-3")
    assert patch == {"metadata": {"labels": {"rad-gateway/verified": "true"}}}


def test_a_canary_under_way_is_aborted_first(place: Place) -> None:
    """Then it is back to the stable version, whatever is marked; the plugin knows where."""
    done = back(place, Cluster(stable=2, good={1}), "--kind", "rollout")
    assert done.returncode == 0, done.stderr
    assert place.log.read_text().splitlines() == [
        "abort rad-gateway --namespace shop",
        "undo rad-gateway --namespace shop --to-revision=2",
        "status rad-gateway --namespace shop --timeout 300s",
    ]
    assert "the stable version beside the canary" in done.stdout


def test_a_rollout_without_a_canary_goes_back_as_a_deployment_does(place: Place) -> None:
    """To what is marked as good; there is nothing to abort."""
    done = back(place, Cluster(stable=3, good={1}), "--kind", "rollout")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in place.log.read_text().splitlines()] == ["undo", "status"]


@pytest.mark.parametrize("fails", ["abort", "undo", "status"])
def test_each_step_of_a_rollout_can_fail(place: Place, fails: str) -> None:
    """And none is passed over."""
    done = back(place, Cluster(stable=2), "--kind", "rollout", fails=fails)
    assert done.returncode == 1
    assert place.log.read_text().splitlines()[-1].startswith(fails)
    assert "tell #incidents now" in done.stderr


def test_a_canary_is_not_marked_as_good(place: Place) -> None:
    """Not before it is what is stable."""
    done = back(place, Cluster(stable=2), "--kind", "rollout", "--mark-good")
    assert (done.returncode, "is a canary" in done.stderr) == (2, True)


@pytest.mark.parametrize("script", ["rollback.sh", "smoke.sh"])
def test_the_scripts_are_clean_and_teach(place: Place, script: str) -> None:
    """shellcheck has nothing to say, and `--help` has an example and the exit codes."""
    checked = run_ops("shellcheck", SCRIPTS / script)
    assert checked.returncode == 0, checked.stdout
    shown = place.run(script, "--help")
    assert shown.returncode == 0
    assert f"  {script} --" in shown.stdout
    assert "exit codes: 0" in shown.stdout
    assert os.access(SCRIPTS / script, os.X_OK)
