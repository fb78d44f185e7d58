"""The real Prometheus with the generated rules, scraping a real gateway."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import started
from slo_tools import tool, written

from radgateway.slo.alerts import alerts
from radgateway.slo.pack import artefacts
from radgateway.slo.rules import groups
from radgateway.slo.settings import Settings

pytestmark = [pytest.mark.servers, pytest.mark.slow]
LIMIT_S = 60.0
CHAT = "/v1/chat/completions"
STREAM = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Hello"}],
    "stream": True,
}


@contextlib.contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """It scrapes and evaluates every second; the rules and their windows are as generated."""
    rules = {
        name: re.sub(r"interval: \w+", "interval: 1s", text)
        for name, text in artefacts().items()
        if "/rules/" in name
    }
    with socket.create_server(("127.0.0.1", 0)) as free:
        own = f"127.0.0.1:{free.getsockname()[1]}"
    config = (
        "global: {scrape_interval: 1s}\nrule_files: [prometheus/rules/*.yml]\nscrape_configs:\n"
        f"  - {{job_name: rad-gateway, static_configs: [{{targets: ['{target}']}}]}}\n"
        f"  - {{job_name: prometheus, static_configs: [{{targets: ['{own}']}}]}}\n"
    )
    written({**rules, "prometheus.yml": config}, folder)
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [
            tool("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={own}",
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        yield f"http://{own}/api/v1"
    finally:
        process.kill()
        process.wait(LIMIT_S)
        log.close()


def until(ask: Callable[[], Any], folder: Path) -> Any:
    """What it answers, once it answers something."""
    end = time.monotonic() + LIMIT_S
    while True:
        with contextlib.suppress(httpx.TransportError, httpx.HTTPStatusError):
            if found := ask():
                return found
        assert time.monotonic() < end, (folder / "log").read_text()
        time.sleep(0.2)  # between two evaluations


def test_every_rule_is_evaluated_on_what_the_gateway_measures(tmp_path: Path) -> None:
    """No rule fails at run time, every ratio of a served request is there, and it alarms nobody."""
    (tmp_path / "gateway").mkdir()
    (tmp_path / "prometheus").mkdir()
    with started(["-m", "radgateway", "serve", "--port", "0"], tmp_path / "gateway") as process:
        url = process.wait_for(r" on (http://\S+)")[1]
        headers = {"x-api-key": process.wait_for(r"^API key: (\S+)$")[1]}
        process.wait_for("Application startup complete")
        with (
            prometheus(tmp_path / "prometheus", url.removeprefix("http://")) as api,
            httpx.Client(timeout=5) as client,
        ):

            def get(path: str, **query: str) -> Any:
                return client.get(api + path, params=query).raise_for_status().json()["data"]

            def value(query: str) -> Any:
                # Traffic for as long as anybody waits: a rate needs two scrapes.
                assert client.post(url + CHAT, json=STREAM, headers=headers).is_success
                return get("/query", query=query)["result"]

            records = [record for group in groups(Settings()) for record in group.records]
            for record in records:
                labels = ",".join(f'{name}="{text}"' for name, text in record.labels.items())
                query = f'{record.name}{{job="rad-gateway",{labels}}} >= 0'
                assert until(partial(value, query), tmp_path / "prometheus"), query

            def evaluated() -> Any:
                found = [rule for group in get("/rules")["groups"] for rule in group["rules"]]
                return found if all(rule["health"] != "unknown" for rule in found) else None

            rules = until(evaluated, tmp_path / "prometheus")
            assert [rule for rule in rules if rule["health"] != "ok"] == []
            assert len(rules) == len(records) + len(alerts(Settings()))
            firing = {alert["labels"]["alertname"] for alert in get("/alerts")["alerts"]}
            assert firing == {"Watchdog"}
