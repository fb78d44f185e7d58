"""A real gateway that is worth watching, and callers who do all that callers do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from processes import Process, started

KEYS = {"RAD_KEY": "the-key-of-a-caller", "RAD_ADMIN_KEY": "the-key-of-an-admin"}
ADMIN = {"x-api-key": KEYS["RAD_ADMIN_KEY"]}
CONFIG = """\
environment: local
keys: [{name: demo, secret: env:RAD_KEY}]
admin_keys: [{name: ops, secret: env:RAD_ADMIN_KEY}]
providers:
  steady: {kind: mock, latency_ms: 2, tokens_per_s: 5000, max_concurrency: 20}
  shaky: {kind: mock, latency_ms: 2, tokens_per_s: 5000, error_ratio: 0.5, breaker: null}
  broken: {kind: mock, latency_ms: 2, error_ratio: 1.0}
  broken_too: {kind: mock, latency_ms: 2, error_ratio: 1.0}
models:
  demo:
    strategy: weighted
    candidates:
      - {provider: steady, model: demo, weight: 80, price: {input: 0.15, output: 0.60}}
      - {provider: shaky, model: demo, weight: 20, price: {input: 0.10, output: 0.40}}
  broken:
    candidates: [{provider: broken, model: broken}, {provider: broken_too, model: broken}]
storage: {usage: "USAGE"}
telemetry:
  metrics: true
  key_names_in_metrics: true
"""
ROUND = (
    *(("demo", stream, KEYS["RAD_KEY"]) for stream in (False, True) * 9),
    ("unheard-of", False, KEYS["RAD_KEY"]),
    ("demo", False, "a-wrong-key"),
)
"""Twenty requests: model, whether a stream is asked for, and with which key."""


class Callers:
    """They go on until told to stop; `one_in_20_fails` makes the first of each round fail."""

    def __init__(self, url: str) -> None:
        self.one_in_20_fails = False
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._call)

    def _call(self) -> None:
        with httpx.Client(base_url=self._url, timeout=20) as client:
            while not self._stop.is_set():
                for number, (model, stream, key) in enumerate(ROUND):
                    fails = number == 0 and self.one_in_20_fails
                    body: dict[str, Any] = {
                        "model": "broken" if fails else model,
                        "stream": stream,
                        "messages": [{"role": "user", "content": "Hello"}],
                    }
                    headers = {"x-api-key": key}
                    client.post("/v1/chat/completions", json=body, headers=headers)
                    self._stop.wait(0.005)  # leaves the machine to the others

    def __enter__(self) -> Callers:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()


def use_up_a_quota(url: str) -> None:
    """As an admin may, on purpose: one provider answers 429, and the callers notice nothing."""
    quota = {"provider": "shaky", "faults": {"error_ratio": 1, "error_status": 429}, "for_s": 600}
    faults = f"{url}/v0/management/faults"
    httpx.post(faults, json=quota, headers=ADMIN).raise_for_status()


def set_a_breaker_by_hand(url: str) -> None:
    """As an admin may: one breaker only reports from now on."""
    breaker = f"{url}/v0/management/providers/steady/breaker"
    httpx.post(breaker, json={"mode": "metrics_only"}, headers=ADMIN).raise_for_status()


@contextlib.contextmanager
def live_gateway(
    folder: Path, more: str = "", usage: str = "sqlite:///usage.db"
) -> Iterator[tuple[Process, str]]:
    """The gateway's process and its URL; `more` goes to the end of its configuration."""
    (folder / "gateway.yaml").write_text(CONFIG.replace("USAGE", usage) + more)
    serve = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
    with started(serve, folder, KEYS) as process:
        yield process, process.wait_for(r"(http://127\.0\.0\.1:\d+)")[1]
