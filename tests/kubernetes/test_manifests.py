"""The manifests, as Kubernetes and the operators in a cluster would take them.

No cluster runs here. What an API server would refuse is found by its schemas, of several versions,
and by the definitions that the operators bring.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.crd_check import HERE, LOCK, check
from kubernetes.rendering import FOLDER, OVERLAYS, Manifest, manifests, rendered, the
from ops_tools import run_ops

pytestmark = pytest.mark.ops

VERSIONS = ("1.31", "1.34", "1.37")
CUSTOM = {
    "argoproj.io/v1alpha1",
    "external-secrets.io/v1",
    "gateway.networking.k8s.io/v1",
    "monitoring.coreos.com/v1",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every overlay as rendered."""
    folder = tmp_path_factory.mktemp("rendered")
    for overlay in OVERLAYS:
        (folder / f"{overlay}.yaml").write_text(rendered(overlay))
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_its_own_kinds(files: Path, version: str) -> None:
    """Each against the schema of the version, with no key that it does not know."""
    names = [files / f"{overlay}.yaml" for overlay in OVERLAYS]
    done = run_ops("kubernetes-validate", "--strict", "-k", version, *names)
    assert done.returncode == 0, done.stdout
    own = sum(
        each["apiVersion"] not in CUSTOM for overlay in OVERLAYS for each in manifests(overlay)
    )
    assert len(re.findall(r"^INFO .* passed ", done.stdout, re.MULTILINE)) == own


def test_a_wrong_key_would_be_found(tmp_path: Path) -> None:
    """The check above is worth something."""
    wrong = rendered("production").replace("minReplicas:", "minReplicaz:")
    (tmp_path / "wrong.yaml").write_text(wrong)
    done = run_ops("kubernetes-validate", "--strict", "-k", VERSIONS[-1], tmp_path / "wrong.yaml")
    assert done.returncode == 1
    assert "minReplicaz" in done.stdout


def _custom() -> dict[str, Manifest]:
    return {
        f"{overlay}-{each['kind']}-{each['metadata']['name']}": each
        for overlay in OVERLAYS
        for each in manifests(overlay)
        if each["apiVersion"] in CUSTOM
    }


def _spoilt() -> dict[str, Manifest]:
    """A resource with a mistake of each kind."""
    overlay = "production-canary"
    wrong: dict[str, Any] = {
        "key": copy.deepcopy(the(overlay, "Rollout")),
        "weight": copy.deepcopy(the(overlay, "Rollout")),
        "duration": copy.deepcopy(the(overlay, "HTTPRoute")),
        "for": copy.deepcopy(the(overlay, "PrometheusRule")),
        "secret": copy.deepcopy(the(overlay, "SecretStore", "infisical")),
        "kind": {"apiVersion": "example.com/v1", "kind": "Unheard", "metadata": {"name": "x"}},
    }
    wrong["key"]["spec"]["strategy"]["canary"]["canaryMetaData"] = {}
    wrong["weight"]["spec"]["strategy"]["canary"]["steps"][0]["setWeight"] = "10"
    wrong["duration"]["spec"]["rules"][0]["timeouts"]["request"] = "2 minutes"
    wrong["for"]["spec"]["groups"][-1]["rules"][0]["for"] = "soon"
    del wrong["secret"]["spec"]["provider"]["infisical"]["secretsScope"]["projectSlug"]
    return wrong


@pytest.fixture(scope="module")
def complaints() -> dict[str, list[str]]:
    """All that is asked, in one start of the compiler."""
    return check(_custom() | _spoilt())


def test_the_operators_take_their_kinds(complaints: dict[str, list[str]]) -> None:
    """Argo Rollouts, External Secrets, the Gateway API and the Prometheus operator."""
    names = _custom().keys()
    assert {complaint for name in names for complaint in complaints[name]} == set()
    assert {each["apiVersion"] for each in _custom().values()} == CUSTOM


@pytest.mark.parametrize("mistake", ["key", "weight", "duration", "for", "secret", "kind"])
def test_a_mistake_is_found(complaints: dict[str, list[str]], mistake: str) -> None:
    """The check is worth something: wrong values, keys too many and too few are refused."""
    assert complaints[mistake]


def test_the_definitions_are_pinned_without_an_address() -> None:
    """Each by its version and digest; wherever it is fetched from, it is the same."""
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    packages = json.loads(LOCK.read_text())["packages"]
    packages.pop("")
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
    assert "://" not in LOCK.read_text()


def test_hardened_as_checkov_asks(files: Path) -> None:
    """No check fails, of all overlays and the experiments; each that is left out says why."""
    for chaos in (FOLDER / "chaos").glob("*/*.yaml"):
        shutil.copy(chaos, files / f"{chaos.parent.name}-{chaos.name}")
    options = ("--skip-download", "--quiet", "--compact", "--output", "json")
    done = run_ops("checkov", *options, "--framework", "kubernetes", "--directory", files)
    found = json.loads(done.stdout)
    assert found["results"]["failed_checks"] == []
    assert found["summary"]["passed"] > 200
    assert found["summary"]["parsing_errors"] == 0
    annotations = the("production", "Deployment")["metadata"]["annotations"]
    skips = [text for name, text in annotations.items() if name.startswith("checkov.io/skip")]
    assert all(re.fullmatch(r"CKV_K8S_\d+=\w.{10,}", text) for text in skips)


def test_the_files_are_good_yaml() -> None:
    """No key twice, no trailing blanks, one indentation."""
    done = run_ops("yamllint", "--strict", "-c", FOLDER / ".yamllint", FOLDER)
    assert done.returncode == 0, done.stdout


def test_no_file_is_left_out() -> None:
    """Each file of base and components is a resource of its kustomization."""
    for kustomization in FOLDER.glob("[bc]*/**/kustomization.yaml"):
        listed = set(yaml.safe_load(kustomization.read_text())["resources"])
        there = {file.name for file in kustomization.parent.glob("*.yaml")}
        assert listed == there - {"kustomization.yaml"}
