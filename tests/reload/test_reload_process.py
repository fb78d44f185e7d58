"""Reloads of the command as it runs: its signal, its management route, its workers."""

from __future__ import annotations

import os
import pty
import re
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import started
from reload.live_reload import CHAT, KEY, Live, base, live

pytestmark = [pytest.mark.servers, pytest.mark.slow]


def stream(url: str, into: list[str], begun: threading.Event) -> None:
    """Stream a slow answer, noting its lines."""
    said = [{"role": "user", "content": "one two three four " * 8}]
    body = {"model": "slow", "stream": True, "messages": said}
    with httpx.stream("POST", url + CHAT, json=body, headers=KEY, timeout=20) as answer:
        for line in answer.iter_lines():
            into += [line] if line else []
            begun.set()


def refused(gateway: Live, key: str) -> bool:
    return gateway.ask(**{"x-api-key": key}).status_code == 401


def test_a_signal_puts_the_file_in_force(tmp_path: Path) -> None:
    """The old key is refused from then on; a stream that began with it is whole; the audit has the
    difference and no secret; and the log is at its new level."""
    changed = base()
    changed["keys"] = [{"name": "caller", "secret": "key-of-the-caller-2"}]
    del changed["providers"]["slow"], changed["models"]["slow"]
    changed["telemetry"]["log_level"] = "error"
    with live(tmp_path, base()) as gateway:
        lines: list[str] = []
        begun = threading.Event()
        client = threading.Thread(target=stream, args=(gateway.url, lines, begun))
        client.start()
        assert begun.wait(10)
        gateway.write(changed)
        gateway.hang_up()
        gateway.until_generation(2)
        assert client.is_alive(), "the stream ended before the reload"
        assert refused(gateway, KEY["x-api-key"])
        assert gateway.ask(**{"x-api-key": "key-of-the-caller-2"}).status_code == 200
        assert gateway.shown()["loadedBy"] == "signal"
        (audited,) = gateway.until_logged("radgateway.config.reloaded")
        assert audited["by"] == "signal"
        paths = [change["path"] for change in audited["changes"]]
        assert paths == [
            "keys.caller.secret",
            "providers.slow",
            "models.slow",
            "telemetry.log_level",
        ]
        assert audited["changes"][0] == {"path": "keys.caller.secret", "changed": True}
        client.join(15)
        assert lines[-1] == "data: [DONE]"
        assert gateway.metric('rad_gateway_config_reloads_total{outcome="applied"}') == 1
        assert gateway.metric("rad_gateway_config_last_reload_successful") == 1
        assert gateway.process.end() == 0
        asked = gateway.logged("radgateway.request")
        # Those after the reload are below the level, the refused key excepted, which passes any.
        assert {line["status"] for line in asked} == {401}
    assert "key-of-the-caller" not in gateway.process.output


def test_what_is_not_valid_changes_nothing(tmp_path: Path) -> None:
    """The answer has the line of each problem, the signal leaves it in the log, all goes on."""
    with live(tmp_path, base()) as gateway:
        gateway.write("environment: local\nkeys: []\nmodles: {}\n")
        answer = gateway.order()
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "invalid_config"
        assert "gateway.yaml:3: modles: " in error["message"]
        assert "did you mean 'models'" in error["message"]
        gateway.hang_up()
        by = [line["by"] for line in gateway.until_logged("radgateway.config.reload_refused", 2)]
        assert by == ["ops", "signal"]
        assert gateway.ask().status_code == 200
        assert gateway.shown()["generation"] == 1
        assert gateway.metric("rad_gateway_config_last_reload_successful") == 0
        gateway.write(base())
        answer = gateway.order()
        assert (answer.status_code, answer.json()["status"]) == (200, "unchanged")
        assert gateway.metric("rad_gateway_config_last_reload_successful") == 1
        assert gateway.process.end() == 0


def test_what_needs_a_restart_is_refused_as_a_whole(tmp_path: Path) -> None:
    """Each such key is named, and what could have changed has not."""
    changed: dict[str, Any] = base()
    changed["storage"]["usage"] = "sqlite:///usage.db"
    changed["chaos"] = {"allow": True}
    changed["keys"] = []
    with live(tmp_path, base()) as gateway:
        gateway.write(changed)
        answer = gateway.order()
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "needs_restart"
        for path in ("storage.usage", "chaos.allow"):
            assert path in answer.json()["error"]["message"]
        assert gateway.ask(**{"x-api-key": "none"}).status_code == 401
        assert gateway.order(**KEY).status_code == 403
        assert gateway.process.end() == 0


def test_all_workers_reload(tmp_path: Path) -> None:
    """By the signal and by the route of any of them; a file that is not valid changes none."""
    with live(tmp_path, base(), workers=2) as gateway:
        for number in (2, 3):
            changed = base()
            changed["keys"] = [{"name": "caller", "secret": f"key-of-the-caller-{number}"}]
            if number == 3:
                del changed["providers"]["slow"], changed["models"]["slow"]
            gateway.write(changed)
            before = len(gateway.logged("radgateway.config.reloaded"))
            if number == 2:
                gateway.hang_up()
            else:
                answer = gateway.order()
                assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
            gateway.until_logged("radgateway.config.reloaded", before + 2)
            for _ in range(10):  # each over a connection of its own, so both workers get some
                assert (
                    gateway.ask(**{"x-api-key": f"key-of-the-caller-{number}"}).status_code == 200
                )
                assert refused(gateway, f"key-of-the-caller-{number - 1}")
        gateway.write("models: 1\n")
        assert gateway.order().status_code == 400
        gateway.hang_up()
        gateway.until_logged("radgateway.config.reload_refused", 3)
        for _ in range(6):
            assert gateway.ask(**{"x-api-key": "key-of-the-caller-3"}).status_code == 200
        # Shared files keep the series of a provider that is gone, so it must alarm nobody.
        assert gateway.metric('rad_gateway_provider_healthy{provider="slow"}') == 1
        assert gateway.metric('rad_gateway_circuit_breaker_open{provider="slow"}') == 0
        assert gateway.metric("rad_gateway_config_last_reload_successful") == 0
        assert gateway.logged("radgateway.config.leftover_not_closed") == []
        assert gateway.process.end() == 0
    served = re.findall(r"Started server process \[(\d+)\]", gateway.process.output)
    assert len(set(served)) == 2, "a worker was replaced"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_before_anybody_listens_ends_nothing(tmp_path: Path, workers: int) -> None:
    """A process that is still starting hears of it when it has started."""
    with live(tmp_path, base(), workers=workers, hang_up_at_once=True) as gateway:
        gateway.until_logged("radgateway.config.unchanged", workers)
        assert gateway.ask().status_code == 200
        assert gateway.process.end() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_terminal_that_closes_ends_it_gently(tmp_path: Path, workers: str) -> None:
    """It sends the same signal, and nobody could reach the process afterwards."""
    keyboard, terminal = pty.openpty()
    command = ["-m", "radgateway", "serve", "--port", "0", "--workers", workers]
    with started(command, tmp_path, stdin=terminal) as process:
        os.close(terminal)
        process.wait_for("Application startup complete")
        os.close(keyboard)
        assert process.end(signal.SIGHUP) == 0
        process.wait_for("radgateway.drain.drained")
