"""A real Prometheus with the generated rules, and a way to ask it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from slo.server_process import free_address, running
from slo_tools import tool, written

from radgateway.slo.settings import Settings

ENVIRONMENT = "production"
SCRAPED_EVERY = "500ms"


class Prometheus:
    """One that runs."""

    def __init__(self, client: httpx.Client) -> None:
        self.url = str(client.base_url)
        self._client = client
        self.url = str(client.base_url)

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer of its API. Raises `httpx.HTTPStatusError`."""
        answer = self._client.get(f"/api/v1/{path}", params=query)
        return answer.raise_for_status().json()["data"]

    def query(self, expression: str) -> Any:
        """The series that an expression has now."""
        return self.get("query", query=expression)["result"]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {
            alert["labels"]["alertname"]
            for alert in self.get("alerts")["alerts"]
            if alert["state"] == "firing"
        }


@contextlib.contextmanager
def prometheus(
    folder: Path, target: str, rules: Mapping[str, str], alertmanager: str | None = None
) -> Iterator[Prometheus]:
    """It scrapes a gateway and itself, and tells an Alertmanager, if there is one.

    `rules` are files of the pack, `target` and `alertmanager` are hosts and ports.
    """
    with prometheus_of(folder, f"[{{targets: ['{target}']}}]", rules, alertmanager) as watcher:
        yield watcher


@contextlib.contextmanager
def prometheus_of(
    folder: Path, gateways: str, rules: Mapping[str, str], alertmanager: str | None = None
) -> Iterator[Prometheus]:
    """The same for several gateways, which are told as `static_configs`."""
    own = free_address()
    managers = (
        "[]" if alertmanager is None else f"[{{static_configs: [{{targets: [{alertmanager}]}}]}}]"
    )
    config = (
        f"global: {{scrape_interval: {SCRAPED_EVERY}, scrape_timeout: {SCRAPED_EVERY}, "
        f"external_labels: {{environment: {ENVIRONMENT}}}}}\n"
        "rule_files: [prometheus/rules/*.yml]\n"
        f"alerting: {{alertmanagers: {managers}}}\n"
        "scrape_configs:\n"
        f"  - {{job_name: {Settings().job}, static_configs: {gateways}}}\n"
        f"  - {{job_name: prometheus, static_configs: [{{targets: ['{own}']}}]}}\n"
    )
    written({**rules, "prometheus.yml": config}, folder)
    command = [
        tool("prometheus"),
        "--config.file=prometheus.yml",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={own}",
        "--enable-feature=exemplar-storage",
        # What it sends in the seconds before it has discovered whom to tell is lost.
        "--rules.alert.resend-delay=5s",
    ]
    with (
        running(command, folder, f"http://{own}/-/ready"),
        httpx.Client(base_url=f"http://{own}", timeout=10) as client,
    ):
        yield Prometheus(client)
