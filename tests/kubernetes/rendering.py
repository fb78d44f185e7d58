"""The manifests of examples/kubernetes as kubectl renders them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ops_tools import ROOT, run_ops

from radgateway.config.load import load_config
from radgateway.config.schema import GatewayConfig

FOLDER = ROOT / "examples" / "kubernetes"
OVERLAYS = ("staging", "production", "production-canary")
ENVIRONMENTS = ("staging", "production")
"""Those overlays that have a gateway.yaml of their own."""
Manifest = dict[str, Any]


@cache
def rendered(overlay: str) -> str:
    """The text that `kubectl apply -k` would apply."""
    done = run_ops("kubectl", "kustomize", FOLDER / "overlays" / overlay)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


@cache
def manifests(overlay: str) -> tuple[Manifest, ...]:
    """The same as objects."""
    return tuple(yaml.safe_load_all(rendered(overlay)))


def all_of(overlay: str, kind: str) -> dict[str, Manifest]:
    """Those of a kind, by name."""
    return {each["metadata"]["name"]: each for each in manifests(overlay) if each["kind"] == kind}


def the(overlay: str, kind: str, name: str = "rad-gateway") -> Manifest:
    """The one of a kind and name."""
    return all_of(overlay, kind)[name]


def pod(overlay: str) -> Manifest:
    """The specification of the gateway's pods."""
    spec: Manifest = the(overlay, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(overlay: str) -> Manifest:
    """The gateway's container."""
    (only,) = pod(overlay)["containers"]
    assert isinstance(only, dict)
    return only


def config_text(overlay: str) -> str:
    """The gateway's YAML in the ConfigMap that the pods mount."""
    (volume,) = (each for each in pod(overlay)["volumes"] if each["name"] == "config")
    text = the(overlay, "ConfigMap", volume["configMap"]["name"])["data"]["gateway.yaml"]
    assert isinstance(text, str)
    return text


def config(overlay: str, folder: Path) -> GatewayConfig:
    """What the gateway itself makes of it; a folder to put the file in."""
    file = folder / "gateway.yaml"
    file.write_text(config_text(overlay))
    return load_config(file, environ={}, resolve=False)
