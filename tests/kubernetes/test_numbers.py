"""The numbers and names of the manifests, held together with the gateway's own."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import promql_parser
import pytest
import yaml
from kubernetes.rendering import (
    ENVIRONMENTS,
    FOLDER,
    OVERLAYS,
    all_of,
    config,
    config_text,
    container,
    manifests,
    pod,
    the,
)
from ops_tools import ROOT

from radgateway.slo.alerts import alerts
from radgateway.slo.settings import Settings
from radgateway.telemetry.declared import METRICS

pytestmark = pytest.mark.ops

MIB = 1024**2
FIRST_ROW_B = 107_000_000
"""Resident memory once PostgreSQL's driver has written a row; measured (issue 5)."""
REQUEST_B = MIB // 2
"""What a request in flight may take on the mean: a prompt of 256 KiB, read and encoded."""
SECRETS = re.compile(r"file:/run/secrets/radgateway/(\w+)")
_DRAIN = (ROOT / "docs/how-to/drain.md").read_text()


def _bytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * {"Mi": MIB, "Gi": 1024 * MIB}[unit]


def _container_port(overlay: str) -> int:
    (port,) = container(overlay)["ports"]
    assert port["name"] == "http"
    number = port["containerPort"]
    assert isinstance(number, int)
    return number


def _egress(overlay: str) -> dict[str, set[int]]:
    """Where pods may go, and to which TCP ports; by namespace, or `internet`."""
    found: dict[str, set[int]] = {}
    for rule in the(overlay, "NetworkPolicy", "rad-gateway-egress")["spec"]["egress"]:
        (to,) = rule["to"]
        place = (
            to["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
            if "namespaceSelector" in to
            else "internet"
        )
        ports = {each["port"] for each in rule["ports"] if each["protocol"] == "TCP"}
        found[place] = found.get(place, set()) | ports
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_configuration_is_one(overlay: str, tmp_path: Path) -> None:
    """The gateway takes the ConfigMap's YAML without a notice; the environment is the overlay's."""
    loaded = config(overlay, tmp_path)
    assert loaded.notices == ()
    assert loaded.environment == overlay.removesuffix("-canary")
    assert loaded.server.host == "0.0.0.0"
    assert loaded.keys
    assert loaded.admin_keys


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_grace_period_has_room_for_all_of_a_drain(overlay: str, tmp_path: Path) -> None:
    """preStop, the delay, the longer of the two limits, last words, and what is written out."""
    words, writing = re.search(r"(\d+) s for last words, and (\d+) s to write out", _DRAIN).groups()  # type: ignore[union-attr]
    server = config(overlay, tmp_path).server
    drain = server.drain_delay_s + max(server.drain_timeout_s, server.stream_drain_timeout_s)
    sleep = container(overlay)["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = sleep + drain + int(words) + int(writing)
    grace = pod(overlay)["terminationGracePeriodSeconds"]
    assert needed <= grace <= needed + 15


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everyone_uses_the_port_that_the_gateway_listens_on(overlay: str, tmp_path: Path) -> None:
    """The container, the services by its name, and who may come in."""
    port = config(overlay, tmp_path).server.port
    assert _container_port(overlay) == port
    for service in all_of(overlay, "Service").values():
        (only,) = service["spec"]["ports"]
        assert only["targetPort"] == "http", service["metadata"]["name"]
    ingress = the(overlay, "NetworkPolicy", "rad-gateway-ingress")["spec"]["ingress"]
    assert {each["port"] for rule in ingress for each in rule["ports"]} == {port}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_services_find_the_pods(overlay: str) -> None:
    """Each selector is a part of the pods' labels; so are those of budget and policies."""
    labels = the(overlay, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    budgets = all_of(overlay, "PodDisruptionBudget").values()
    policies = [
        the(overlay, "NetworkPolicy", f"rad-gateway-{way}") for way in ("ingress", "egress")
    ]
    selectors = [
        *(each["spec"]["selector"] for each in all_of(overlay, "Service").values()),
        the(overlay, "Deployment")["spec"]["selector"]["matchLabels"],
        *(each["spec"]["selector"]["matchLabels"] for each in budgets),
        *(each["spec"]["podSelector"]["matchLabels"] for each in policies),
    ]
    for selector in selectors:
        assert selector.items() <= labels


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_not_listed_is_denied(overlay: str) -> None:
    """One policy selects every pod and allows nothing, in and out; the others add to it."""
    spec = the(overlay, "NetworkPolicy", "default-deny")["spec"]
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_that_are_used_are_those_that_are_made(overlay: str) -> None:
    """No file that the Secret has no key for, and no key that nobody reads."""
    secret = the(overlay, "ExternalSecret")["spec"]
    (volume,) = (each for each in pod(overlay)["volumes"] if each["name"] == "secrets")
    assert volume["secret"]["secretName"] == secret["target"]["name"]
    mounted = {each["mountPath"] for each in container(overlay)["volumeMounts"]}
    assert "/run/secrets/radgateway" in mounted
    template = secret["target"]["template"]["data"]
    assert set(SECRETS.findall(config_text(overlay))) == template.keys()
    fetched = {each["secretKey"] for each in secret["data"]}
    assert set(re.findall(r"\{\{ \.(\w+)", " ".join(template.values()))) == fetched
    environment = the(overlay, "SecretStore", "infisical")["spec"]["provider"]["infisical"]
    slug = environment["secretsScope"]["environmentSlug"]
    assert slug == overlay.removesuffix("-canary")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_ways_out_are_those_that_are_used(overlay: str, tmp_path: Path) -> None:
    """Databases, providers and the collector at the ports that they have, and nothing beyond."""
    loaded = config(overlay, tmp_path)
    template = the(overlay, "ExternalSecret")["spec"]["target"]["template"]["data"]
    used: dict[str, set[int]] = {"kube-system": {53}}
    for name in ("database_url", "redis_url"):
        url = urlsplit(re.sub(r"\{\{.*?\}\}", "x", template[name]))
        assert url.hostname is not None
        used.setdefault(url.hostname.split(".")[1], set()).add(url.port or 0)
    host, _, port = loaded.telemetry.tracing.otlp_endpoint.partition(":")
    used[host.split(".")[1]] = {int(port)}
    for provider in loaded.providers.values():
        address = urlsplit(provider.base_url or "https://vendor.example.com")
        assert address.scheme == "https"
        used.setdefault("internet", set()).add(address.port or 443)
    assert _egress(overlay) == used


def test_the_journal_is_on_a_volume(tmp_path: Path) -> None:
    """All that the gateway writes outlives the container; the rest of its file system is locked."""
    for overlay in ENVIRONMENTS:
        journal = config(overlay, tmp_path).storage.journal
        assert journal is not None
        writable = {
            each["mountPath"]
            for each in container(overlay)["volumeMounts"]
            if not each.get("readOnly", False)
        }
        assert writable == {"/data", "/tmp"}
        assert journal.startswith("/data/")
        assert container(overlay)["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_memory_has_room_for_what_is_in_flight(overlay: str, tmp_path: Path) -> None:
    """Asked for: half as much again as is used with nothing to do. The limit: all requests that
    are admitted, before the alert on memory fires."""
    admission = config(overlay, tmp_path).admission
    assert admission is not None
    resources = container(overlay)["resources"]
    assert _bytes(resources["requests"]["memory"]) >= 1.5 * FIRST_ROW_B
    (alert,) = (each for each in alerts(Settings()) if each.name == "HighMemoryUsage")
    share = float(alert.expr.rpartition(">")[2])
    full = FIRST_ROW_B + admission.max_concurrency * REQUEST_B
    assert full <= share * _bytes(resources["limits"]["memory"])


@pytest.mark.parametrize("overlay", ["production", "production-canary"])
def test_the_autoscaler_scales_before_anybody_waits(overlay: str, tmp_path: Path) -> None:
    """2 to 10; one of two replicas can take both's requests; down is slower than up."""
    spec = the(overlay, "HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 10)
    loaded = config(overlay, tmp_path)
    assert loaded.admission is not None
    pods, cpu = (
        next(each for each in spec["metrics"] if each["type"] == kind)
        for kind in ("Pods", "Resource")
    )
    assert pods["pods"]["metric"]["name"] in {metric.name for metric in METRICS.values()}
    target = int(pods["pods"]["target"]["averageValue"])
    assert target * spec["minReplicas"] <= loaded.admission.max_concurrency
    assert cpu["resource"]["target"]["averageUtilization"] == 70
    assert container(overlay)["resources"]["requests"]["cpu"] == "1"
    down = spec["behavior"]["scaleDown"]
    grace = pod(overlay)["terminationGracePeriodSeconds"]
    assert down["stabilizationWindowSeconds"] >= 300
    assert all(policy["value"] == 1 for policy in down["policies"])
    assert all(policy["periodSeconds"] >= grace for policy in down["policies"])
    assert loaded.limits.replicas == spec["maxReplicas"]


def test_the_adapter_serves_the_autoscalers_metric() -> None:
    """Its query is PromQL once the adapter has filled it, and names what the autoscaler asks."""
    (rule,) = yaml.safe_load((FOLDER / "adapter/prometheus-adapter.yaml").read_text())["rules"][
        "custom"
    ]
    name = rule["name"]["as"]
    assert name == "rad_gateway_active_connections"
    assert re.fullmatch(rule["name"]["matches"], name)
    promql_parser.parse(rule["seriesQuery"])
    assert rule["seriesQuery"].startswith(f"{name}{{")
    query = rule["metricsQuery"]
    for placeholder, text in (("Series", name), ("LabelMatchers", 'pod="a"'), ("GroupBy", "pod")):
        query = query.replace(f"<<.{placeholder}>>", text)
    promql_parser.parse(query)


def test_staging_is_one_replica_that_a_node_can_lose() -> None:
    """No autoscaler and no disruption budget: with one pod a budget would block every node."""
    assert the("staging", "Deployment")["spec"]["replicas"] == 1
    assert not all_of("staging", "HorizontalPodAutoscaler")
    assert not all_of("staging", "PodDisruptionBudget")


@pytest.mark.parametrize("overlay", ["production", "production-canary"])
def test_production_leaves_the_number_of_replicas_to_the_autoscaler(overlay: str) -> None:
    """A number in the manifest would undo it at each apply; one pod at most is away on purpose."""
    assert "replicas" not in the(overlay, "Deployment")["spec"]
    assert the(overlay, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    scaled = the(overlay, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert scaled["name"] in all_of(overlay, scaled["kind"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_stream_outlives_neither_the_route_nor_the_affinity(overlay: str, tmp_path: Path) -> None:
    """The way in waits longer than the gateway may take: all attempts, and the queue before."""
    loaded = config(overlay, tmp_path)
    assert loaded.admission is not None
    longest = max(provider.timeouts.total_s for provider in loaded.providers.values())
    whole = loaded.retry_budget.max_attempts * longest + loaded.admission.max_wait_s
    (rule,) = the(overlay, "HTTPRoute")["spec"]["rules"]
    for limit in rule["timeouts"].values():
        assert int(limit.removesuffix("s")) >= whole
    for service in all_of(overlay, "Service").values():
        if service["spec"].get("clusterIP") == "None":
            continue
        assert service["spec"]["sessionAffinity"] == "ClientIP"
        affinity = service["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
        assert affinity >= whole


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_the_data_plane_is_reachable_from_outside(overlay: str) -> None:
    """Neither metrics, health nor management; plain HTTP is sent on to TLS, and serves nothing."""
    for name, route in all_of(overlay, "HTTPRoute").items():
        for rule in route["spec"]["rules"]:
            paths = {match["path"]["value"] for match in rule.get("matches", [])}
            if name == "rad-gateway":
                assert paths == {"/v1", "/v1beta"}
            else:
                assert "backendRefs" not in rule
                assert rule["filters"][0]["requestRedirect"]["scheme"] == "https"
    listeners = {each["name"]: each for each in the(overlay, "Gateway")["spec"]["listeners"]}
    assert listeners["https"]["tls"]["mode"] == "Terminate"
    hosts = {each["hostname"] for each in listeners.values()}
    for route in all_of(overlay, "HTTPRoute").values():
        assert set(route["spec"]["hostnames"]) == hosts


def test_a_monitor_finds_each_pod_once() -> None:
    """One service has the labels it selects; the job is the rules', `track` the analysis'."""
    overlay = "production-canary"
    monitor = the(overlay, "ServiceMonitor")["spec"]
    selector = monitor["selector"]["matchLabels"].items()
    found = [
        each
        for each in all_of(overlay, "Service").values()
        if selector <= each["metadata"]["labels"].items()
    ]
    (service,) = found
    assert service["metadata"]["labels"][monitor["jobLabel"]] == Settings().job
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    rollout = the(overlay, "Rollout")["spec"]["strategy"]["canary"]
    tracks = [rollout[f"{name}Metadata"]["labels"] for name in ("canary", "stable")]
    assert tracks == [{"track": "canary"}, {"track": "stable"}]
    assert "track" in monitor["podTargetLabels"]


def test_a_canary_gets_a_tenth_by_its_route() -> None:
    """Weights of a route that exists, between services that exist, judged by what exists."""
    overlay = "production-canary"
    rollout = the(overlay, "Rollout")
    canary = rollout["spec"]["strategy"]["canary"]
    plugin = canary["trafficRouting"]["plugins"]["argoproj-labs/gatewayAPI"]
    assert plugin["namespace"] == rollout["metadata"]["namespace"]
    (rule,) = the(overlay, "HTTPRoute", plugin["httpRoute"])["spec"]["rules"]
    weights = {each["name"]: each["weight"] for each in rule["backendRefs"]}
    assert weights == {canary["stableService"]: 100, canary["canaryService"]: 0}
    assert weights.keys() <= all_of(overlay, "Service").keys()
    weight, analysis = canary["steps"]
    assert weight == {"setWeight": 10}
    judged_by = {each["templateName"] for each in analysis["analysis"]["templates"]}
    assert judged_by == all_of(overlay, "AnalysisTemplate").keys()
    workload = rollout["spec"]["workloadRef"]
    assert workload["name"] in all_of(overlay, workload["kind"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_is_in_the_overlays_namespace(overlay: str) -> None:
    """Which keeps the strictest of the Pod Security Standards."""
    (name,) = all_of(overlay, "Namespace")
    assert name == f"rad-gateway-{overlay.removesuffix('-canary')}"
    for each in manifests(overlay):
        if each["kind"] != "Namespace":
            assert each["metadata"]["namespace"] == name, each["kind"]
    labels: dict[str, Any] = the(overlay, "Namespace", name)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_image_is_pinned(overlay: str) -> None:
    """By a version of its own, never `latest`."""
    image = container(overlay)["image"]
    assert re.fullmatch(r"[\w.]+\.example\.com/radgateway/radgateway:v\d+\.\d+\.\d+", image)
    assert Decimal(str(container(overlay)["resources"]["limits"]["cpu"])) > 1
