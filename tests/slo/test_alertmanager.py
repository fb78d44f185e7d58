"""The real Alertmanager with the generated configuration: what it sends, mutes and is silent on."""

from __future__ import annotations

import contextlib
import http.server
import json
import queue
import re
import shlex
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from slo_tools import ROOT, run, tool, written

from radgateway.slo.alerts import alerts
from radgateway.slo.pack import artefacts
from radgateway.slo.settings import Contacts, Settings

pytestmark = pytest.mark.servers
LIMIT_S = 30.0
RULES = {alert.name: alert for alert in alerts(Settings())}


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes what PagerDuty, Slack and the watchdog's service would."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.put((self.path, json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(202 if self.path == "/pagerduty" else 200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the test tells what it got."""


class Mailbox(socketserver.StreamRequestHandler):
    """The least of SMTP that a message needs (RFC 5321)."""

    def handle(self) -> None:
        say = self.wfile.write
        say(b"220 here\r\n")
        while line := self.rfile.readline().strip().upper():
            if line.startswith(b"EHLO"):
                say(b"250-here\r\n250 AUTH PLAIN\r\n")
            elif line.startswith(b"AUTH"):
                say(b"235 yes\r\n")
            elif line == b"DATA":
                say(b"354 go on\r\n")
                message = b""
                while not message.endswith(b"\r\n.\r\n"):
                    message += self.rfile.readline()
                self.server.got.put(("mail", message.decode()))  # type: ignore[attr-defined]
                say(b"250 taken\r\n")
            elif line == b"QUIT":
                say(b"221 bye\r\n")
                return
            else:
                say(b"250 ok\r\n")


class Running:
    """An Alertmanager and those it tells."""

    def __init__(self, url: str, got: queue.Queue[tuple[str, Any]]) -> None:
        self.url = url
        self.got = got
        self.api = httpx.Client(base_url=f"{url}/api/v2", timeout=5)

    def fire(self, *names: str, ended: bool = False, **labels: str) -> None:
        """Send alerts as Prometheus does."""
        now = datetime.now(UTC)
        until = now - timedelta(seconds=1) if ended else now + timedelta(minutes=5)
        body = [
            {
                "labels": {"alertname": name, **RULES[name].labels, "job": "rad-gateway", **labels},
                "annotations": RULES[name].annotations(Settings()),
                "startsAt": (now - timedelta(minutes=1)).isoformat(),
                "endsAt": until.isoformat(),
            }
            for name in names
        ]
        self.api.post("/alerts", json=body).raise_for_status()

    def states(self, environment: str) -> dict[str, str]:
        """What becomes of each alert of an environment: active, muted by another, or silenced."""
        found = {}
        wanted = {"filter": f'environment="{environment}"'}
        for alert in self.api.get("/alerts", params=wanted).raise_for_status().json():
            status = alert["status"]
            state = "muted" if status["inhibitedBy"] else status["state"]
            found[alert["labels"]["alertname"]] = "silenced" if status["silencedBy"] else state
        return found

    def settles(self, environment: str, **expected: str) -> None:
        """It comes to some states, and to no others; muting takes a moment."""
        until = time.monotonic() + LIMIT_S
        while (found := self.states(environment)) != expected:
            assert time.monotonic() < until, found
            time.sleep(0.02)  # Alertmanager says nothing when it has made up its mind

    def next(self, *paths: str) -> dict[str, Any]:
        """The next message to each of some addresses."""
        found: dict[str, Any] = {}
        until = time.monotonic() + LIMIT_S
        while set(paths) - set(found):
            path, body = self.got.get(timeout=max(0.01, until - time.monotonic()))
            if path in paths:
                found.setdefault(path, body)
        return found


@contextlib.contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[int]:
    port: int = server.socket.getsockname()[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The generated configuration, its waits shortened, everybody it tells on this machine."""
    folder = tmp_path_factory.mktemp("alertmanager")
    got: queue.Queue[tuple[str, Any]] = queue.Queue()
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    mail = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox)
    web.got = mail.got = got  # type: ignore[attr-defined]
    with serving(web) as web_port, serving(mail) as mail_port, contextlib.ExitStack() as stack:
        here = f"http://127.0.0.1:{web_port}"
        contacts = replace(
            Contacts(),
            pagerduty_url=f"{here}/pagerduty",
            watchdog_url=f"{here}/watchdog",
            smtp_smarthost=f"127.0.0.1:{mail_port}",
            secrets_dir=str(folder / "secrets"),
        )
        files = dict(artefacts(Settings(contacts=contacts)))
        config = files["alertmanager/alertmanager.yml"]
        # What takes minutes in earnest takes a second here; the escalation keeps its own.
        config = re.sub(r"group_wait: (10|30)s", "group_wait: 1s", config)
        config = re.sub(r"group_interval: 5m", "group_interval: 1s", config)
        # A mailbox without TLS.
        config = config.replace("global:\n", "global:\n  smtp_require_tls: false\n")
        files["alertmanager/alertmanager.yml"] = config
        files["secrets/slack_url"] = f"{here}/slack"
        files["secrets/smtp_password"] = "unused"
        for whose in ("team_echo", "platform_team", "sre_lead", "engineering_manager"):
            files[f"secrets/pagerduty_{whose}"] = f"key-of-{whose}"
        written(files, folder)
        url = stack.enter_context(alertmanager(folder))
        made = Running(url, got)
        with made.api:
            yield made


@contextlib.contextmanager
def alertmanager(folder: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [
            tool("prometheus-alertmanager", "alertmanager"),
            f"--config.file={folder / 'alertmanager/alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + LIMIT_S
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/-/ready").is_success:
                    break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.05)  # until it listens
        yield url
    finally:
        process.kill()
        process.wait(LIMIT_S)
        log.close()


def test_a_page_reaches_the_on_call_with_its_runbook(running: Running) -> None:
    """PagerDuty gets severity, words and links; Slack says the same; the lead hears nothing yet."""
    running.fire("AvailabilityDrop", environment="production")
    found = running.next("/pagerduty", "/slack")
    event, message = found["/pagerduty"], found["/slack"]
    runbook = "https://radgateway.example.invalid/runbooks/availability-degradation/"
    assert event["routing_key"] == "key-of-team_echo"
    assert event["event_action"] == "trigger"
    assert event["payload"]["severity"] == "critical"
    assert event["payload"]["summary"] == (
        "[P1] AvailabilityDrop in production: The gateway is less than 99 % available."
    )
    assert event["links"] == [{"href": runbook, "text": "Runbook"}]
    assert event["client_url"] == runbook
    assert event["payload"]["custom_details"]["respond"].startswith("within 15 minutes")
    (attachment,) = message["attachments"]
    assert attachment["color"] == "danger"
    assert attachment["title"] == event["payload"]["summary"]
    assert runbook in attachment["text"]
    assert "*Do:* See whether instances answer" in attachment["text"]
    running.fire("AvailabilityDrop", environment="production", ended=True)
    resolved = running.next("/pagerduty", "/slack")
    assert resolved["/pagerduty"]["event_action"] == "resolve"
    assert resolved["/slack"]["attachments"][0]["color"] == "good"


def test_a_p1_that_only_notifies_is_of_low_urgency(running: Running) -> None:
    """HighErrorRate wakes nobody: PagerDuty gets a warning, and Slack the red of a P1."""
    running.fire("HighErrorRate", environment="notify")
    found = running.next("/pagerduty", "/slack")
    assert found["/pagerduty"]["payload"]["severity"] == "warning"
    assert found["/slack"]["attachments"][0]["color"] == "danger"
    assert found["/slack"]["channel"] == "#team-echo"
    running.fire("HighErrorRate", environment="notify", ended=True)


def test_a_budget_is_a_letter(running: Running) -> None:
    """ErrorBudgetBurn goes to the team by email, with its runbook in text and HTML."""
    running.fire("ErrorBudgetBurn", environment="letters")
    letter = running.next("mail")["mail"]
    assert "To: team-echo@example.invalid" in letter
    assert "[P2] ErrorBudgetBurn in letters" in letter.replace("_", " ")
    plain = letter.replace("=\r\n", "")
    assert "Runbook: https://radgateway.example.invalid/runbooks/error-budget/" in plain
    assert 'href=3D"https://radgateway.example.invalid/runbooks/error-budget/"' in plain
    running.fire("ErrorBudgetBurn", environment="letters", ended=True)


def test_the_watchdog_is_heard_all_the_time(running: Running) -> None:
    """Whoever waits for it gets it within seconds."""
    running.fire("Watchdog")
    assert running.next("/watchdog")["/watchdog"]["status"] == "firing"


MUTED = [
    (
        "RadGatewayAbsent",
        {"AvailabilityDrop", "HighLatency", "DBConnectionExhausted"},
        {"Watchdog"},
    ),
    (
        "BurnRate1h",
        {"AvailabilityDrop", "HighErrorRate", "BurnRate6h", "BurnRate3d"},
        {"HighLatency"},
    ),
    ("BurnRate6h", {"HighErrorRate", "BurnRate1d", "ErrorBudgetBurn"}, {"HighLatency"}),
    ("BurnRate1d", {"BurnRate3d"}, {"HighErrorRate"}),
    ("AvailabilityDrop", {"HighErrorRate"}, {"ErrorBudgetBurn"}),
    ("ErrorBudgetCritical", {"ErrorBudgetBurn", "BurnRate1d"}, {"HighErrorRate"}),
]


@pytest.mark.parametrize(("source", "muted", "heard"), MUTED, ids=[m[0] for m in MUTED])
def test_one_problem_is_one_notification(
    running: Running, source: str, muted: set[str], heard: set[str]
) -> None:
    """The alert that says most mutes those that follow from it, in its environment alone."""
    running.fire(source, *muted, *heard, environment=source)
    expected = dict.fromkeys(muted, "muted") | dict.fromkeys(heard | {source}, "active")
    running.settles(source, **expected)
    running.fire(source, *muted, *heard, environment=source, ended=True)


def test_an_open_breaker_mutes_its_own_provider_alone(running: Running) -> None:
    """And a degraded provider mutes the slow first bytes that come of it, not the overhead."""
    running.fire("CircuitBreakerOpen", environment="p", provider="one")
    running.fire("ProviderDegraded", environment="p", provider="one")
    running.settles("p", CircuitBreakerOpen="active", ProviderDegraded="muted")
    running.fire("CircuitBreakerOpen", environment="q", provider="one")
    running.fire("ProviderDegraded", environment="q", provider="two")
    running.fire("HighLatency", environment="q", sli="time_to_first_token")
    running.settles(
        "q", CircuitBreakerOpen="active", ProviderDegraded="active", HighLatency="muted"
    )
    running.fire("ProviderDegraded", environment="r", provider="two")
    running.fire("HighLatency", environment="r", sli="overhead")
    running.settles("r", ProviderDegraded="active", HighLatency="active")


def test_the_documented_silence_leaves_the_pages_alone(running: Running) -> None:
    """The command of the how-to, as it stands there, for a deployment of 15 minutes."""
    page = (ROOT / "docs" / "how-to" / "slo-pack.md").read_text()
    (command,) = re.findall(r"^amtool silence add (?:.*\\\n)*.*$", page, re.MULTILINE)
    words = shlex.split(command.replace("\\\n", " "))
    assert "--duration=15m" in words
    arguments = [word for word in words[1:] if "alertmanager.url" not in word]
    added = run("amtool", *arguments, f"--alertmanager.url={running.url}")
    assert added.returncode == 0, added.stderr
    running.fire("HighMemoryUsage", "AvailabilityDrop", environment="production")
    running.settles("production", HighMemoryUsage="silenced", AvailabilityDrop="active")
    silence = added.stdout.strip()
    ended = run("amtool", "silence", "expire", silence, f"--alertmanager.url={running.url}")
    assert ended.returncode == 0, ended.stderr
    running.settles("production", HighMemoryUsage="active", AvailabilityDrop="active")
