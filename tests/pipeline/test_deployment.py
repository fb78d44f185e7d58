"""Deploy, canary, drill: real Kustomize, a real gateway, a kubectl that notes what it changes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ops_tools import ROOT, ops_tool
from pipeline.scripts import IMAGE, Programs, run
from processes import started

pytestmark = [pytest.mark.ops, pytest.mark.servers]

KEY = "the-key-of-a-caller"
CONFIG = """\
environment: local
keys: [{name: smoke, secret: env:RAD_KEY}]
providers: {mock: {kind: mock}}
models: {demo: {candidates: [{provider: mock, model: demo}]}}
storage: {usage: "sqlite:///usage.db"}
"""
KUBECTL = """\
case "$*" in
  *kustomize*) exec "$REAL_KUBECTL" "$@" ;;
  *"apply --filename"*) cp "${@: -1}" "$APPLIED" ;;
  *"get replicasets"*) printf "$REVISIONS" ;;
  *"get rollouts.argoproj.io/"*) printf "$STABLE" ;;
  *"rollout status"*) exit "${ROLLOUT_STATUS:-0}" ;;
  *"argo rollouts"*status*) exit "${ARGO_STATUS:-0}" ;;
esac
"""
PYTHON = """\
#!/bin/bash
case "$*" in *"release canary"*) echo "judge $*" >> "$CALLS"; exit "${VERDICT:-0}" ;; esac
exec "$REAL_PYTHON" "$@"
"""
NOBODY = "http://127.0.0.1:9"
"""Where no gateway answers."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One that serves, for the smoke tests."""
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "gateway.yaml").write_text(CONFIG)
    serve = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
    with started(serve, folder, {"RAD_KEY": KEY}) as process:
        yield process.wait_for(r"(http://127\.0\.0\.1:\d+)")[1]


class Cluster:
    """The scripts in a tree whose tools are the test's, and what they changed in the cluster."""

    def __init__(self, folder: Path, programs: Programs, gateway: str) -> None:
        self.programs = programs
        self.asked = ("--url", gateway, "--model", "demo")
        self.evidence = folder / "evidence.yaml"
        self.applied = folder / "applied.yaml"
        self.tree = folder / "tree"
        (self.tree / ".venv" / "bin").mkdir(parents=True)
        python = self.tree / ".venv" / "bin" / "python"
        python.write_text(PYTHON)
        python.chmod(0o755)
        for name in (".ci", "examples", "radgateway"):
            (self.tree / name).symlink_to(ROOT / name)
        (folder / "key").write_text(KEY)
        programs.add("kubectl", KUBECTL)
        programs.add("kubectl-argo-rollouts")
        self.environ = {
            **programs.environ,
            "CALLS": str(programs.log),
            "REAL_KUBECTL": ops_tool("kubectl"),
            "REAL_PYTHON": sys.executable,
            "APPLIED": str(self.applied),
            "REVISIONS": r"3||rad-gateway-c|new\n2|true|rad-gateway-b|old\n",
            "STABLE": "c",
            "KEY_FILE": str(folder / "key"),
            "EVIDENCE": str(self.evidence),
        }

    def run(self, script: str, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.tree / ".ci" / script, *words],
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def changes(self) -> list[str]:
        """What was changed, or judged, in order."""
        words = ("apply", "undo", "abort", "label", "judge")
        found = (next((w for w in words if w in call.split()), "") for call in self.programs.calls)
        return [word for word in found if word]


@pytest.fixture
def cluster(tmp_path: Path, programs: Programs, gateway: str) -> Cluster:
    return Cluster(tmp_path, programs, gateway)


def images(text: str) -> list[str]:
    objects: list[dict[str, Any]] = [each for each in yaml.safe_load_all(text) if each]
    return [
        container["image"]
        for each in objects
        if each["kind"] == "Deployment"
        for container in each["spec"]["template"]["spec"]["containers"]
    ]


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_the_manifests_run_the_digest(cluster: Cluster, environment: str) -> None:
    """Ours alone, by digest and without a tag, in its own namespace; to print changes nothing."""
    done = cluster.run("deploy", environment, "--image", IMAGE, "--render")
    assert done.returncode == 0, done.stderr
    assert images(done.stdout) == [IMAGE]
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert {each["metadata"].get("namespace") for each in objects} - {None} == {
        f"rad-gateway-{environment}"
    }
    assert ("Rollout" in {each["kind"] for each in objects}) is (environment == "production")
    assert cluster.changes == []


@pytest.mark.parametrize("image", ["ghcr.io/example/radgateway:1.0", "radgateway", "x@sha256:1"])
def test_a_tag_is_not_deployed(cluster: Cluster, image: str) -> None:
    """It may have been moved since it was scanned."""
    done = cluster.run("deploy", "staging", "--image", image, *cluster.asked)
    assert done.returncode == 2
    assert "NAME@sha256:DIGEST" in done.stderr
    assert cluster.programs.calls == []


def test_staging_is_deployed_tried_and_marked(cluster: Cluster) -> None:
    """By the digest; the revision is marked as good when the smoke test has passed."""
    done = cluster.run("deploy", "staging", "--image", IMAGE, *cluster.asked)
    assert done.returncode == 0, done.stderr
    assert images(cluster.applied.read_text()) == [IMAGE]
    assert cluster.changes == ["apply", "label"]
    assert "a chat completion, streamed to its end" in done.stdout
    assert KEY not in done.stdout + done.stderr + cluster.programs.log.read_text()
    assert list((cluster.tree / "dist").iterdir()) == []


@pytest.mark.parametrize("fails", ["rollout", "smoke"])
def test_a_deployment_that_is_not_well_fails(cluster: Cluster, fails: str) -> None:
    """And its revision is not marked as one to go back to."""
    if fails == "smoke":
        cluster.asked = ("--url", NOBODY, "--model", "demo")
    status = "1" if fails == "rollout" else "0"
    done = cluster.run("deploy", "staging", "--image", IMAGE, *cluster.asked, ROLLOUT_STATUS=status)
    assert done.returncode == 1
    assert cluster.changes == ["apply"]


def test_production_begins_with_a_canary(cluster: Cluster) -> None:
    """Applied and no more: nothing is promoted before it is judged."""
    done = cluster.run("deploy", "production", "--image", IMAGE, *cluster.asked)
    assert done.returncode == 0, done.stderr
    assert cluster.changes == ["apply"]


def test_production_is_not_begun_without_the_way_back(cluster: Cluster) -> None:
    """Without the plugin, or without what the gateway is tried by, a rollback could not be done."""
    assert cluster.run("deploy", "production", "--image", IMAGE).returncode == 2
    (cluster.programs.folder / "kubectl-argo-rollouts").unlink()
    done = cluster.run("deploy", "production", "--image", IMAGE, *cluster.asked)
    assert done.returncode == 2
    assert "kubectl-argo-rollouts is missing" in done.stderr
    assert cluster.changes == []


def canary(cluster: Cluster, **environ: str) -> int:
    prometheus = ("--prometheus", "http://prometheus.example")
    return cluster.run("canary", *prometheus, *cluster.asked, **environ).returncode


def test_a_good_canary_takes_over(cluster: Cluster) -> None:
    """It is judged, the rollout is waited for, and then it is one to go back to."""
    assert canary(cluster) == 0
    assert cluster.changes == ["judge", "label"]
    (judged,) = (call for call in cluster.programs.calls if call.startswith("judge"))
    assert "--template examples/kubernetes/components/canary/analysistemplates.yaml" in judged


@pytest.mark.parametrize("verdict", ["1", "2"])
def test_a_canary_that_is_bad_or_unknown_is_undone(cluster: Cluster, verdict: str) -> None:
    """Traffic off it first, then back to the stable version."""
    assert canary(cluster, STABLE="b", VERDICT=verdict) == 1
    assert cluster.changes == ["judge", "abort", "undo"]


def test_a_canary_that_nobody_can_judge_is_undone(cluster: Cluster) -> None:
    """Begun already, and no Prometheus to ask: it does not stay because of that."""
    done = cluster.run("canary", "--prometheus", "", *cluster.asked, STABLE="b")
    assert done.returncode == 1
    assert cluster.changes == ["abort", "undo"]


def test_a_rollout_that_does_not_end_is_undone(cluster: Cluster) -> None:
    """Though the canary was good; here the way back doesn't end either, so somebody has to look."""
    assert canary(cluster, STABLE="b", ARGO_STATUS="1") == 3
    assert cluster.changes == ["judge", "abort", "undo"]


def test_a_rollback_that_fails_is_told_apart(cluster: Cluster) -> None:
    """Somebody has to look at once: the exit code is another."""
    cluster.asked = ("--url", NOBODY, "--model", "demo")
    assert canary(cluster, VERDICT="1", STABLE="b") == 3


def drill(cluster: Cluster) -> tuple[int, dict[str, Any]]:
    cluster.run("evidence", "start")
    done = cluster.run("rollback-drill", *cluster.asked)
    return done.returncode, yaml.safe_load(cluster.evidence.read_text())


def test_a_drill_is_timed_and_attested(cluster: Cluster) -> None:
    """Back with its smoke test, then forward again."""
    code, evidence = drill(cluster)
    assert code == 0
    assert evidence["rollback"]["result"] == "passed"
    assert 0 <= evidence["rollback"]["took_s"] < 60
    assert cluster.changes == ["undo", "undo"]


def test_a_drill_that_fails_is_attested_too(cluster: Cluster) -> None:
    """The gate says no by it, and staging is forward again."""
    cluster.asked = ("--url", NOBODY, "--model", "demo")
    code, evidence = drill(cluster)
    assert code == 1
    assert evidence["rollback"]["result"] == "failed"
    assert cluster.changes == ["undo", "undo"]


def test_the_integration_tests_ask_the_gateway_they_are_given(cluster: Cluster) -> None:
    """By its address and the key in the file; one that does not answer fails them."""
    environ = {"KEY_FILE": cluster.environ["KEY_FILE"]}
    done = run("integration-test", *cluster.asked, env={**cluster.programs.environ, **environ})
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    (cluster.tree.parent / "key").write_text("another")
    done = run("integration-test", *cluster.asked, env={**cluster.programs.environ, **environ})
    assert done.returncode == 1


def test_nothing_to_go_back_to_attests_nothing(cluster: Cluster) -> None:
    """The first deployment has no rollback; the gate wants somebody's word for it."""
    cluster.environ["REVISIONS"] = r"1||rad-gateway-a|only\n"
    code, evidence = drill(cluster)
    assert code == 0
    assert "rollback" not in evidence
    assert cluster.changes == []
