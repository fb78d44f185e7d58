"""As much of a cluster's API, on loopback, as the real kubectl asks for in a rollback.

It has one Deployment and the ReplicaSets of its revisions. A rollout ends at once, or never.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

NAME = "rad-gateway"
LABELS = {"app.kubernetes.io/name": NAME}
_REVISION = "deployment.kubernetes.io/revision"
_ROLLOUT_REVISION = "rollout.argoproj.io/revision"
_ALL_SENT = "k8s.io/initial-events-end"
_GROUPS = {
    "apps/v1": {"deployments": "Deployment", "replicasets": "ReplicaSet"},
    "argoproj.io/v1alpha1": {"rollouts": "Rollout"},
}


@dataclass
class Cluster:
    """What there is, and what was changed."""

    good: set[int] = field(default_factory=set)
    """Revisions that are marked as good."""
    revisions: int = 3
    """The newest is the current one."""
    ends: bool = True
    """Whether a rollout ends."""
    stable: int = 3
    """The revision that a Rollout of the same name has as its stable version."""
    changes: list[tuple[str, Any]] = field(default_factory=list)
    """Paths of objects, and the patch that each got."""

    def replica_sets(self) -> list[dict[str, Any]]:
        """One for each revision, oldest first."""
        return [self._replica_set(revision) for revision in range(1, self.revisions + 1)]

    def _replica_set(self, revision: int) -> dict[str, Any]:
        marked = {"rad-gateway/verified": "true"} if revision in self.good else {}
        return {
            "metadata": {
                "name": f"{NAME}-{revision}",
                "namespace": "shop",
                "uid": f"set-{revision}",
                "labels": {**LABELS, **marked, "pod-template-hash": str(revision)},
                "annotations": {_REVISION: str(revision), _ROLLOUT_REVISION: str(revision)},
                "ownerReferences": [
                    {
                        "apiVersion": "apps/v1",
                        "kind": "Deployment",
                        "name": NAME,
                        "uid": "deployment",
                        "controller": True,
                    }
                ],
            },
            "spec": {
                "replicas": 2 if revision == self.revisions else 0,
                "selector": {"matchLabels": {**LABELS, "pod-template-hash": str(revision)}},
                "template": _template(revision, {"pod-template-hash": str(revision)}),
            },
        }

    def deployment(self) -> dict[str, Any]:
        """The one."""
        rolled = 2 if self.ends else 1
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": NAME,
                "namespace": "shop",
                "uid": "deployment",
                "generation": 4,
                "resourceVersion": "9",
                "labels": LABELS,
                "annotations": {_REVISION: str(self.revisions)},
            },
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": LABELS},
                "template": _template(self.revisions, {}),
            },
            "status": {
                "observedGeneration": 4,
                "replicas": 2,
                "updatedReplicas": rolled,
                "readyReplicas": 2,
                "availableReplicas": rolled,
            },
        }


def _template(revision: int, more: dict[str, str]) -> dict[str, Any]:
    image = f"registry.example/radgateway:1.{revision}.0"
    return {
        "metadata": {"labels": {**LABELS, **more}},
        "spec": {"containers": [{"name": "gateway", "image": image}]},
    }


@contextlib.contextmanager
def serving_api(cluster: Cluster, folder: Path) -> Iterator[Path]:
    """A kubeconfig that leads to it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if "watch" in parse_qs(parts.query):
                self._watch()
            else:
                self._reply(*_got(cluster, parts.path))

        def do_PATCH(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            cluster.changes.append((self.path.partition("?")[0], json.loads(body)))
            self._reply(*_got(cluster, self.path.partition("?")[0]))

        def _watch(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("connection", "close")
            self.end_headers()
            # All there is, then the mark that this was all; then nothing more happens.
            there = cluster.deployment()
            mark = {"metadata": {"resourceVersion": "9", "annotations": {_ALL_SENT: "true"}}}
            for kind, found in (("ADDED", there), ("BOOKMARK", {**there, **mark})):
                self.wfile.write(json.dumps({"type": kind, "object": found}).encode() + b"\n")
            self.wfile.flush()
            ended.wait(20)

        def _reply(self, status: int, payload: Any) -> None:
            data = json.dumps(payload).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Quiet."""

    ended = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    file = folder / "kubeconfig"
    address = f"http://127.0.0.1:{server.server_port}"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": address}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    file.write_text(json.dumps(config))
    try:
        yield file
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _got(cluster: Cluster, path: str) -> tuple[int, Any]:
    base = "/apis/apps/v1/namespaces/shop"
    if path == "/api":
        return 200, {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/api/v1":
        return 200, {"kind": "APIResourceList", "groupVersion": "v1", "resources": []}
    if path == "/apis":
        return 200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": [*map(_group, _GROUPS)]}
    if (group := path.removeprefix("/apis/")) in _GROUPS:
        resources = [
            {"name": name, "kind": kind, "namespaced": True, "verbs": ["get", "list", "patch"]}
            for name, kind in _GROUPS[group].items()
        ]
        return 200, {"kind": "APIResourceList", "groupVersion": group, "resources": resources}
    if path == f"/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/{NAME}":
        metadata = {"name": NAME, "namespace": "shop"}
        rollout = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": metadata}
        return 200, {**rollout, "status": {"stableRS": str(cluster.stable)}}
    if path == f"{base}/replicasets":
        return 200, _list("ReplicaSet", cluster.replica_sets())
    if path == f"{base}/deployments":
        return 200, _list("Deployment", [cluster.deployment()])
    if path == f"{base}/deployments/{NAME}":
        return 200, cluster.deployment()
    for each in cluster.replica_sets():
        if path == f"{base}/replicasets/{each['metadata']['name']}":
            return 200, {"apiVersion": "apps/v1", "kind": "ReplicaSet", **each}
    failure = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound"}
    return 404, {**failure, "code": 404, "message": f"{path} not found"}


def _group(version: str) -> dict[str, Any]:
    name, _, number = version.partition("/")
    preferred = {"groupVersion": version, "version": number}
    return {"name": name, "versions": [preferred], "preferredVersion": preferred}


def _list(kind: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": f"{kind}List",
        "metadata": {"resourceVersion": "9"},
        "items": items,
    }
