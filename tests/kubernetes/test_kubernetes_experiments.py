"""The experiments for a cluster: what their charts know, aimed at what the manifests deploy.

The definitions of Litmus and Chaos Mesh are in no package that could be pinned, so keys and names
are held against the lists below, which were read from ChaosHub's faults (3.12 to 3.17) and from
Chaos Mesh's definitions. No experiment has run here; `radgateway chaos` runs the same hypotheses.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from slo_tools import ROOT

from radgateway.chaos.experiments import EXPERIMENTS
from radgateway.slo.promql import seconds
from radgateway.slo.rules import groups
from radgateway.slo.settings import Settings

CHAOS = ROOT / "examples" / "kubernetes" / "chaos"
LITMUS = sorted((CHAOS / "litmus").glob("*-*.yaml"))
MESH = sorted((CHAOS / "chaos-mesh").glob("*.yaml"))
_NETWORK = {
    *("TARGET_CONTAINER", "NETWORK_INTERFACE", "LIB_IMAGE", "TC_IMAGE", "TOTAL_CHAOS_DURATION"),
    *("RAMP_TIME", "PODS_AFFECTED_PERC", "TARGET_PODS", "CONTAINER_RUNTIME", "NODE_LABEL"),
    *("DEFAULT_HEALTH_CHECK", "DESTINATION_IPS", "DESTINATION_HOSTS", "SOCKET_PATH", "SEQUENCE"),
}
FAULTS = {
    "pod-network-latency": _NETWORK | {"NETWORK_LATENCY", "JITTER"},
    "pod-network-loss": _NETWORK | {"NETWORK_PACKET_LOSS_PERCENTAGE"},
    "pod-delete": {
        *("TOTAL_CHAOS_DURATION", "RAMP_TIME", "FORCE", "CHAOS_INTERVAL", "PODS_AFFECTED_PERC"),
        *("TARGET_CONTAINER", "TARGET_PODS", "DEFAULT_HEALTH_CHECK", "NODE_LABEL", "SEQUENCE"),
    },
    "pod-memory-hog": {
        *("TOTAL_CHAOS_DURATION", "MEMORY_CONSUMPTION", "NUMBER_OF_WORKERS", "RAMP_TIME"),
        *("PODS_AFFECTED_PERC", "LIB_IMAGE", "STRESS_IMAGE", "CONTAINER_RUNTIME", "SOCKET_PATH"),
        *("SEQUENCE", "DEFAULT_HEALTH_CHECK", "TARGET_CONTAINER", "TARGET_PODS", "NODE_LABEL"),
    },
}
"""Faults of ChaosHub, with the variables that each knows."""
_MESH_COMMON = {"mode", "value", "selector", "duration", "remoteCluster"}
MESH_KINDS = {
    "NetworkChaos": _MESH_COMMON
    | {"action", "direction", "target", "externalTargets", "delay", "loss", "device"},
    "TimeChaos": _MESH_COMMON | {"timeOffset", "clockIds", "containerNames"},
}
"""Kinds of Chaos Mesh, with the keys of their specification."""
WITHOUT_CLUSTER_FORM = {"retry-budget", "certificate-expiry"}


def _loaded(file: Any) -> Any:
    return yaml.safe_load(file.read_text())


def _deployment() -> Any:
    return yaml.safe_load((CHAOS.parent / "base/deployment.yaml").read_text())["spec"]["template"]


@pytest.mark.parametrize("file", LITMUS, ids=lambda file: file.stem)
def test_an_engine_is_of_litmus(file: Any) -> None:
    """A fault of the hub with variables that it knows, an account that may, and an end."""
    engine = _loaded(file)
    assert (engine["apiVersion"], engine["kind"]) == ("litmuschaos.io/v1alpha1", "ChaosEngine")
    spec = engine["spec"]
    assert spec.keys() == {
        *("engineState", "jobCleanUpPolicy", "appinfo", "chaosServiceAccount", "experiments"),
    }
    (experiment,) = spec["experiments"]
    variables = {each["name"]: each["value"] for each in experiment["spec"]["components"]["env"]}
    assert variables.keys() <= FAULTS[experiment["name"]]
    assert all(isinstance(value, str) for value in variables.values())
    assert 0 < int(variables["TOTAL_CHAOS_DURATION"]) <= 300
    accounts = [
        each["metadata"]
        for each in yaml.safe_load_all((CHAOS / "litmus/rbac.yaml").read_text())
        if each["kind"] == "ServiceAccount"
    ]
    place = engine["metadata"]["namespace"]
    assert {"name": spec["chaosServiceAccount"], "namespace": place} in accounts
    assert spec["appinfo"] == {
        "appns": place,
        "applabel": "app.kubernetes.io/name=rad-gateway",
        "appkind": "deployment",
    }


@pytest.mark.parametrize("file", LITMUS, ids=lambda file: file.stem)
def test_an_engine_stops_where_callers_suffer(file: Any) -> None:
    """Its probe asks for a ratio that is recorded, all the time, and ends the experiment."""
    (experiment,) = _loaded(file)["spec"]["experiments"]
    (probe,) = experiment["spec"]["probe"]
    assert (probe["type"], probe["mode"]) == ("promProbe", "Continuous")
    assert probe["runProperties"]["stopOnFailure"] is True
    recorded = {record.name for group in groups(Settings()) for record in group.records}
    (asked,) = re.findall(r"rad_gateway:[\w:]+", probe["promProbe/inputs"]["query"])
    assert asked in recorded


def test_memory_pressure_is_more_than_the_limit() -> None:
    """Else nothing would be ended by the kernel."""
    (experiment,) = _loaded(CHAOS / "litmus/memory-pressure.yaml")["spec"]["experiments"]
    (taken,) = (
        int(each["value"])
        for each in experiment["spec"]["components"]["env"]
        if each["name"] == "MEMORY_CONSUMPTION"
    )
    (gateway,) = _deployment()["spec"]["containers"]
    assert taken > int(gateway["resources"]["limits"]["memory"].removesuffix("Mi"))


def test_a_provider_is_late_beyond_the_strategys_five_seconds() -> None:
    """And only one of them, by its host."""
    (experiment,) = _loaded(CHAOS / "litmus/provider-latency.yaml")["spec"]["experiments"]
    values = {each["name"]: each["value"] for each in experiment["spec"]["components"]["env"]}
    assert int(values["NETWORK_LATENCY"]) > 5000
    assert values["DESTINATION_HOSTS"] == "api.openai.com"


@pytest.mark.parametrize("file", MESH, ids=lambda file: file.stem)
def test_an_experiment_is_of_chaos_mesh(file: Any) -> None:
    """Keys that its kind has, a selector that selects, and an end."""
    chaos = _loaded(file)
    assert chaos["apiVersion"] == "chaos-mesh.org/v1alpha1"
    spec = chaos["spec"]
    assert spec.keys() <= MESH_KINDS[chaos["kind"]]
    assert spec["mode"] in {"one", "all"}
    assert spec["selector"]["namespaces"] == [chaos["metadata"]["namespace"]]
    assert spec["selector"]["labelSelectors"]
    assert 0 < seconds(spec["duration"]) <= 600
    if chaos["kind"] == "NetworkChaos":
        assert ("target" in spec) != ("externalTargets" in spec)
        assert (spec["action"] == "delay") == ("delay" in spec)


def test_each_experiment_of_the_strategy_has_a_file() -> None:
    """One each, by the name of the experiment that runs without a cluster; two have no such form:
    the retry budget is the gateway's own, and no fault makes a certificate expire."""
    there = {file.stem for file in (*LITMUS, *MESH)}
    assert there.isdisjoint(WITHOUT_CLUSTER_FORM)
    assert len(there) + len(WITHOUT_CLUSTER_FORM) == 9
    assert there | WITHOUT_CLUSTER_FORM <= {each.name for each in EXPERIMENTS}
