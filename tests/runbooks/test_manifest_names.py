"""What the runbooks ask a cluster for is what the manifests of production put there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from kubernetes.rendering import all_of, manifests
from runbooks.pages import PAGES, Command, commands, of

pytestmark = pytest.mark.ops
BY_ITSELF = {"pod", "replicaset", "endpointslice", "event"}
"""Kinds that a cluster makes of others."""
VERBS = {"get", "describe", "delete", "patch", "label", "annotate"}


def calls() -> Iterator[Command]:
    for page in PAGES:
        for script in of(page, "sh"):
            yield from (found for found in commands(script) if found.program == "kubectl")


def singular(resource: str) -> str:
    return re.sub("ies$", "y", resource).removesuffix("s")


def resources(call: Command) -> list[str]:
    """The kinds that a call is about, as it names them, and names with a slash."""
    words = [word for word in call.arguments if word != "--namespace"]
    if "--namespace" in call.arguments:
        words.remove(call.arguments[call.arguments.index("--namespace") + 1])
    verb, *rest = words
    named = [word for word in rest if re.fullmatch(r"[a-z]+/[a-z-]+", word)]
    kinds = [singular(kind) for kind in rest[0].split(",")] if verb in VERBS else []
    return named or kinds


def test_kinds_and_names_are_those_of_the_manifests() -> None:
    """A misspelt kind or another name would be found out at 3 am."""
    there = {each["kind"].lower() for each in manifests("production")} | BY_ITSELF | {"secret"}
    asked = [resource for call in calls() for resource in resources(call)]
    assert len(asked) > 15
    for resource in asked:
        kind, _, name = resource.partition("/")
        assert kind in there, resource
        if name:
            named = [m["metadata"]["name"] for m in manifests("production")
                     if m["kind"].lower() == kind]  # fmt: skip
            assert name in named, resource


def test_the_namespace_and_the_selector_find_the_pods() -> None:
    """Every page sets the namespace of production, and selects by a label of its pods."""
    (namespace,) = all_of("production", "Namespace")
    deployment = all_of("production", "Deployment")["rad-gateway"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for page in PAGES:
        for script in of(page, "sh"):
            assert set(re.findall(r"^NAMESPACE=(\S+)", script, re.MULTILINE)) <= {namespace}
    selectors = {
        call.arguments[call.arguments.index("--selector") + 1]
        for call in calls()
        if "--selector" in call.arguments
    }
    assert selectors == {
        "app.kubernetes.io/name=rad-gateway",
        "kubernetes.io/service-name=rad-gateway",
    }
    assert labels["app.kubernetes.io/name"] == "rad-gateway"
    assert "rad-gateway" in all_of("production", "Service")
