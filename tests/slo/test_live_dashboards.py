"""Every query of the dashboards, asked of a real Prometheus that scrapes a real gateway."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import started
from slo.asked_series import VARIABLES, Asked, asked, plain

from radgateway.slo.dashboards import boards
from radgateway.slo.dashboards.promql import FOREIGN, RECORDED
from radgateway.slo.stack import JOB

pytestmark = [pytest.mark.servers, pytest.mark.slow]

RULES = Path(__file__).resolve().parents[2] / "examples/observability/prometheus/rules"
LIMIT_S = 30.0
KEYS = {"RAD_KEY": "the-key-of-a-caller", "RAD_ADMIN_KEY": "the-key-of-an-admin"}
GATEWAY = """\
environment: local
keys: [{name: demo, secret: env:RAD_KEY}]
providers:
  steady: {kind: mock, latency_ms: 2, tokens_per_s: 5000, max_concurrency: 20}
  shaky: {kind: mock, latency_ms: 2, tokens_per_s: 5000, error_ratio: 0.5, breaker: null}
models:
  demo:
    strategy: weighted
    candidates:
      - {provider: steady, model: demo, weight: 50, price: {input: 0.15, output: 0.60}}
      - {provider: shaky, model: demo, weight: 50, price: {input: 0.10, output: 0.40}}
storage: {usage: "sqlite:///usage.db"}
telemetry: {metrics: true, key_names_in_metrics: true}
"""
QUIET = {
    "Alerts firing": "nothing is that wrong yet",
    "Breakers set by hand or held": "nobody sets one",
    "Budget lasts, at this pace": "failover leaves no error to the caller",
    "Database connections": "SQLite has no pool",
    "Faults injected on purpose": "nobody injects any",
    "Refused by the provider's quota": "the mock has none",
    "Retries": "another candidate takes over first",
}
"""Panels that are empty while that does not happen, which is what their `nothing` says."""


@contextlib.contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Callable[[str], Any]]:
    """A Prometheus that scrapes `target` every half second; gives a way to ask it."""
    program = shutil.which("prometheus")
    assert program is not None, "install Debian's package prometheus, or Prometheus itself"
    rules = []
    for file in sorted(RULES.glob("*.yml")) if RULES.exists() else ():
        # A test has no time for groups that are evaluated every two minutes.
        text = re.sub(r"(?m)^(\s*interval:).*$", r"\1 1s", file.read_text())
        (folder / file.name).write_text(text)
        rules.append(file.name)
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 500ms, evaluation_interval: 1s, scrape_timeout: 500ms}\n"
        f"rule_files: {rules}\n"
        f'scrape_configs: [{{job_name: {JOB}, static_configs: [{{targets: ["{target}"]}}]}}]\n'
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    log = (folder / "prometheus.log").open("w")
    process = subprocess.Popen(
        [
            program,
            "--config.file=prometheus.yml",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={address}",
            "--enable-feature=exemplar-storage",
        ],
        cwd=folder,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        with httpx.Client(base_url=f"http://{address}", timeout=10) as client:

            def ask(query: str) -> Any:
                answer = client.get("/api/v1/query", params={"query": query})
                assert answer.status_code == 200, f"{query}: {answer.text}"
                return answer.json()["data"]["result"]

            until = time.monotonic() + LIMIT_S
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/-/ready").status_code == 200:
                        break
                assert process.poll() is None, (folder / "prometheus.log").read_text()
                assert time.monotonic() < until
                time.sleep(0.1)
            yield ask
    finally:
        process.terminate()
        process.wait(LIMIT_S)
        log.close()


def traffic(url: str, seconds: float) -> None:
    """What callers do, good and bad: plain and streamed requests, wrong keys, unknown models."""
    until = time.monotonic() + seconds
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
    with httpx.Client(base_url=url, timeout=10) as client:
        while time.monotonic() < until:
            for model, stream, key in (
                ("demo", False, KEYS["RAD_KEY"]),
                ("demo", True, KEYS["RAD_KEY"]),
                ("unheard-of", False, KEYS["RAD_KEY"]),
                ("demo", False, "a-wrong-key"),
            ):
                client.post(
                    "/v1/chat/completions",
                    json={**body, "model": model, "stream": stream},
                    headers={"Authorization": f"Bearer {key}"},
                )
            time.sleep(0.05)


def test_every_query_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is refused, and each has data where the gateway shows what it asks for."""
    monkeypatch.setitem(VARIABLES, "$__rate_interval", "10s")
    monkeypatch.setitem(VARIABLES, "$__range", "1m")
    (tmp_path / "gateway.yaml").write_text(GATEWAY)
    serve = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
    with started(serve, tmp_path, KEYS) as gateway:
        url = gateway.wait_for(r"(http://127\.0\.0\.1:\d+)")[1]
        with prometheus(tmp_path, url.removeprefix("http://")) as ask:
            traffic(url, 12)
            shown = set(re.findall(r"(?m)^(\w+)[{ ]", httpx.get(f"{url}/metrics").text))

            def known(series: Asked) -> bool:
                if series.name in RECORDED:
                    return RULES.exists()
                return series.name in FOREIGN or series.name in shown

            empty = {
                panel.title: query.expr
                for board in boards()
                for panel in board.panels
                for query in panel.queries
                if not query.logql and not ask(plain(query.expr))
                if panel.title not in QUIET
                if all(known(series) for series in asked(query.expr))
            }
    assert empty == {}
    assert QUIET.keys() <= {panel.title for board in boards() for panel in board.panels}
    assert len(shown) > 50
