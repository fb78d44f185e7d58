"""A gateway process with a file that the test rewrites, and what it says of its reloads."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml
from processes import LIMIT_S, Process, started

CHAT = "/v1/chat/completions"
ADMIN = {"x-api-key": "key-of-the-admin-1"}
KEY = {"x-api-key": "key-of-the-caller-1"}


def base() -> dict[str, Any]:
    """A configuration of mocks."""
    return {
        "environment": "local",
        "keys": [{"name": "caller", "secret": KEY["x-api-key"]}],
        "admin_keys": [{"name": "ops", "secret": ADMIN["x-api-key"]}],
        "providers": {
            "fast": {"kind": "mock"},
            "slow": {"kind": "mock", "tokens_per_s": 8},
        },
        "models": {
            "fast": {"candidates": [{"provider": "fast"}]},
            "slow": {"candidates": [{"provider": "slow"}]},
        },
        "storage": {"usage": "memory://"},
        "telemetry": {"metrics": True},
    }


class Live:
    """The process, its file, and its address."""

    def __init__(self, process: Process, file: Path, url: str) -> None:
        self.process = process
        self.file = file
        self.url = url

    def write(self, config: Any) -> None:
        """Put another configuration into the file, in one step."""
        beside = self.file.with_suffix(".new")
        beside.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
        beside.replace(self.file)

    def hang_up(self) -> None:
        """Send SIGHUP."""
        self.process.process.send_signal(signal.SIGHUP)

    def order(self, **headers: str) -> httpx.Response:
        """Ask the management API to reload."""
        route = self.url + "/v0/management/reload"
        return httpx.post(route, headers=headers or ADMIN, timeout=LIMIT_S)

    def shown(self) -> dict[str, Any]:
        """What the management API shows of the configuration."""
        answer = httpx.get(self.url + "/v0/management/config", headers=ADMIN, timeout=LIMIT_S)
        shown: dict[str, Any] = answer.json()
        return shown

    def until_generation(self, number: int) -> None:
        """Wait until a generation is in force."""
        until = time.monotonic() + LIMIT_S
        while self.shown()["generation"] < number:
            assert time.monotonic() < until, self.process.output
            time.sleep(0.02)

    def metric(self, name: str) -> float:
        """One sample of the metrics."""
        text = httpx.get(self.url + "/metrics", timeout=LIMIT_S).text
        (line,) = (line for line in text.splitlines() if line.startswith(name + " "))
        return float(line.rpartition(" ")[2])

    def logged(self, message: str) -> list[dict[str, Any]]:
        """The fields of all lines of a name."""
        lines = [json.loads(line) for line in self.process.lines if line.startswith("{")]
        return [line["fields"] for line in lines if line["message"] == message]

    def until_logged(self, message: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until there are so many lines of a name."""
        until = time.monotonic() + LIMIT_S
        while len(found := self.logged(message)) < count:
            assert time.monotonic() < until, self.process.output
            time.sleep(0.02)
        return found

    def ask(self, model: str = "fast", **headers: str) -> httpx.Response:
        """One request."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
        return httpx.post(self.url + CHAT, json=body, headers=headers or KEY, timeout=LIMIT_S)


@contextlib.contextmanager
def live(
    directory: Path, config: dict[str, Any], *, workers: int = 1, hang_up_at_once: bool = False
) -> Iterator[Live]:
    """Serve a configuration from a file; with SIGHUP sent before anything has started."""
    file = directory / "gateway.yaml"
    file.write_text(yaml.safe_dump(config))
    command = ["-m", "radgateway", "serve", "--config", "gateway.yaml", "--port", "0"]
    with started([*command, "--workers", str(workers)], directory) as process:
        gateway = Live(process, file, process.wait_for(r" on (http://\S+)")[1])
        if hang_up_at_once:
            gateway.hang_up()
        process.wait_until_ready(workers)
        yield gateway
