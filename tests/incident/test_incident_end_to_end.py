"""From an alert to a postmortem, with the real Alertmanager and the real process.

The services that are told are as strict as the real ones; whoever answers does so on the command
line. One story, told in the order in which it happens, and the death of the process in two others.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from incident.services import PAGE, ROUTING_KEY, TOKEN, Services, services
from incident.stories import notification
from processes import Process, started
from slo.server_process import free_address, running
from slo.waiting import until
from slo_tools import tool, written

from radgateway.slo.alerts import alerts
from radgateway.slo.pack import artefacts
from radgateway.slo.routing import INCIDENTS_KEY
from radgateway.slo.settings import Contacts, Settings

pytestmark = [pytest.mark.ops, pytest.mark.servers]
RULES = {alert.name: alert for alert in alerts(Settings())}
SOURCE_KEY = "source-key-of-the-test"
CONFIG = """\
environment: production
server: {{host: 127.0.0.1, port: {port}}}
sources: [{{name: alertmanager, secret: "env:SOURCE_KEY"}}]
responders: [{{name: alice, secret: "env:ALICE_KEY"}}]
slack: {{war_room: "env:SLACK", executives: "env:SLACK", tickets: "env:SLACK"}}
statuspage: {{page: {page}, token: "env:STATUSPAGE_TOKEN", url: "{services}"}}
pagerduty: {{routing_key: "env:ROUTING_KEY", url: "{services}"}}
alertmanager: {{url: "http://{alertmanager}"}}
"""


class Desk:
    """The process, and a person at a terminal who asks it."""

    def __init__(self, folder: Path, others: Services, alertmanager: str) -> None:
        self.address = free_address()
        self._folder = folder
        self._environ = {
            "SOURCE_KEY": SOURCE_KEY,
            "ALICE_KEY": "alice-key-of-the-test",
            "SLACK": f"{others.url}/services/channel",
            "STATUSPAGE_TOKEN": TOKEN,
            "ROUTING_KEY": ROUTING_KEY,
        }
        port = self.address.partition(":")[2]
        (folder / "incident.yaml").write_text(
            CONFIG.format(port=port, page=PAGE, services=others.url, alertmanager=alertmanager)
        )

    @contextlib.contextmanager
    def process(self) -> Iterator[Process]:
        """It runs, and answers."""
        command = ["-m", "radgateway", "incident", "serve", "--config", "incident.yaml"]
        with started(command, self._folder, self._environ) as process:
            process.wait_for(r"^radgateway incident \(production\) on http")
            ready = f"http://{self.address}/health/ready"
            until(lambda: httpx.get(ready).is_success, ready)
            yield process

    def run(self, *arguments: str, says: str = "", code: int = 0) -> str:
        """What a command prints, where it ends as it should."""
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "RAD_INCIDENT_URL": f"http://{self.address}",
            "RAD_INCIDENT_KEY": self._environ["ALICE_KEY"],
        }
        done = subprocess.run(
            [sys.executable, "-m", "radgateway", "incident", *arguments],
            cwd=self._folder,
            env=environ,
            input=says,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def get(self, path: str) -> Any:
        """What the API shows."""
        headers = {"authorization": f"Bearer {self._environ['ALICE_KEY']}"}
        return httpx.get(f"http://{self.address}{path}", headers=headers).raise_for_status().json()

    def state(self, name: str = "INC-1") -> str:
        """Of an incident."""
        found: str = self.get(f"/v0/incidents/{name}")["state"]
        return found

    def notify(self, **said: Any) -> None:
        """Tell it of an alert as Alertmanager does."""
        answer = httpx.post(
            f"http://{self.address}/v0/incidents/alertmanager",
            json=notification(**said),
            headers={"authorization": f"Bearer {SOURCE_KEY}"},
        )
        assert answer.status_code == 200


@contextlib.contextmanager
def alertmanager(folder: Path, address: str, incidents: str) -> Iterator[None]:
    """The real one with the generated configuration in a hurry; only the incident app is there."""
    contacts = Contacts(
        secrets_dir=str(folder / "secrets"),
        incidents_url=f"http://{incidents}/v0/incidents/alertmanager",
        smtp_smarthost="127.0.0.1:1",
        pagerduty_url="http://127.0.0.1:1/",
        watchdog_url="http://127.0.0.1:1/",
    )
    text = artefacts(replace(Settings(), contacts=contacts))["alertmanager/alertmanager.yml"]
    text = re.sub(r"group_wait: 10s\n      group_interval: 1m", _HURRIED, text)
    text = text.replace('templates:\n  - "templates/*.tmpl"\n', "")
    made = {"alertmanager.yml": _only_incidents(text), f"secrets/{INCIDENTS_KEY}": SOURCE_KEY}
    written(made, folder)
    command = [
        tool("prometheus-alertmanager", "alertmanager"),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with running(command, folder, f"http://{address}/-/ready"):
        yield


_HURRIED = "group_wait: 200ms\n      group_interval: 500ms"


def _only_incidents(text: str) -> str:
    """The generated route and receiver of incidents, with nobody else to tell."""
    import yaml

    whole = yaml.safe_load(text)
    keep = ("incidents",)
    whole["route"]["routes"] = [r for r in whole["route"]["routes"] if r["receiver"] in keep]
    whole["route"]["receiver"] = "incidents"
    whole["receivers"] = [r for r in whole["receivers"] if r["name"] in keep]
    assert whole["route"]["routes"][0]["group_wait"] == "200ms"
    made: str = yaml.safe_dump(whole, sort_keys=False)
    return made


def fire(address: str, name: str, *, ended: bool = False, **labels: str) -> None:
    """Send an alert as Prometheus does."""
    now = datetime.now(UTC)
    annotations = RULES[name].annotations(Settings())
    measured = {key: "0.3000" for key in annotations if key.endswith("_ratio")}
    until_ = now - timedelta(seconds=1) if ended else now + timedelta(minutes=5)
    alert = {
        "labels": {"alertname": name, **RULES[name].labels, "job": "rad-gateway", **labels},
        "annotations": {**annotations, **measured},
        "startsAt": (now - timedelta(minutes=3)).isoformat(),
        "endsAt": until_.isoformat(),
    }
    httpx.post(f"http://{address}/api/v2/alerts", json=[alert]).raise_for_status()


def silenced(address: str, name: str) -> bool:
    """Whether Alertmanager keeps an alert to itself."""
    found = httpx.get(f"http://{address}/api/v2/alerts").raise_for_status().json()
    return any(a["status"]["silencedBy"] for a in found if a["labels"]["alertname"] == name)


def test_an_incident_from_its_alert_to_its_postmortem(tmp_path: Path) -> None:
    """It opens once, is as bad as it is, and the public hears what a person has agreed to."""
    manager = free_address()
    with services() as others:
        desk = Desk(tmp_path, others, manager)
        with alertmanager(tmp_path, manager, desk.address):
            with desk.process():
                it_opens_once(desk, others, manager)
                a_person_takes_it(desk, others)
            with desk.process():  # whatever was there is there
                it_ends(desk, others, manager)
                a_deployment_is_quiet(desk, others, manager)
        assert others.refused == []


def it_opens_once(desk: Desk, others: Services, manager: str) -> None:
    """Two alerts of a group, told again and again, are one SEV-2; the war room hears of it."""
    for instance in ("one", "two"):
        fire(manager, "HighErrorRate", environment="production", instance=instance)
    until(lambda: len(desk.get("/v0/incidents?open=true")["data"][0]["alerts"]) == 2, "both")
    fire(manager, "HighErrorRate", environment="production", instance="one")
    (found,) = desk.get("/v0/incidents?open=true")["data"]
    assert (found["id"], found["severity"], found["state"]) == ("INC-1", "SEV-2", "detected")
    assert "HighErrorRate in production" in found["title"]
    assert found["alerts"][0]["runbook"].endswith("/runbooks/error-rate-spike/")
    until(lambda: others.slack, "the war room hears of it")
    assert len(others.slack) == 1
    assert "SEV-2 opened* INC-1" in others.slack[0][1]


def a_person_takes_it(desk: Desk, others: Services) -> None:
    """The draft is shown; without a yes nothing is public, and with it the page has it."""
    assert "INC-1  SEV-2     detected" in desk.run("list", "--open")
    desk.run("acknowledge", "INC-1")
    shown = desk.run("publish", "INC-1", says="no\n", code=1)
    assert "[Investigating] RAD Gateway - Elevated Error Rates" in shown
    assert "Estimated: 30% of requests." in shown
    assert others.page == {}
    desk.run("publish", "INC-1", says="yes\n")
    until(lambda: others.page, "it is on the page")
    desk.run("respond", "INC-1", "--text", "rolling back to 1.4.1")


def it_ends(desk: Desk, others: Services, manager: str) -> None:
    """The end is Alertmanager's to say and a person's to publish; then it is understood."""
    assert desk.state() == "responding"
    for instance in ("one", "two"):
        fire(manager, "HighErrorRate", ended=True, environment="production", instance=instance)
    until(lambda: desk.state() == "resolved", "it is over")
    until(lambda: len(others.slack) == 2, "the war room hears of the end")
    desk.run("publish", "INC-1", "--status", "resolved", "--cause", "a bad release", "--yes")
    until(lambda: len(others.updates()[0]) == 2, "the page says that it is over")
    ((first, last),) = others.updates()
    assert (first[0], last[0]) == ("investigating", "resolved")
    assert "Root cause: a bad release" in last[1]
    desk.run("verdict", "INC-1", "useful")
    desk.run("close", "INC-1", code=2)
    desk.run("close", "INC-1", "--postmortem", "https://pm.example.invalid/1")
    page = desk.run("postmortem", "INC-1")
    lines = ("acknowledged", "published: investigating", "responding: rolling back to 1.4.1")
    for line in (*lines, "alert ended", "published: resolved", "verdict: useful", "closed"):
        assert line in page
    assert page.index("| alice | acknowledged") < page.index("| outbox | published: investigating")
    assert "met" in desk.run("review", "--since", "1h")


def a_deployment_is_quiet(desk: Desk, others: Services, manager: str) -> None:
    """What is no page is silenced from its beginning to its end, and PagerDuty is told of both."""
    id_ = desk.run("deploy", "begin", "1.4.2", "--environment", "production").strip()
    again = ["deploy", "begin", "1.4.2", "--environment", "production", "--id", id_]
    assert desk.run(*again).strip() == id_
    silences = httpx.get(f"http://{manager}/api/v2/silences").json()
    (silence,) = [each for each in silences if each["status"]["state"] != "expired"]
    ends = datetime.fromisoformat(silence["endsAt"]) - datetime.fromisoformat(silence["startsAt"])
    assert timedelta(minutes=14) < ends <= timedelta(minutes=15)
    fire(manager, "CircuitBreakerOpen", environment="production", provider="one")
    until(lambda: silenced(manager, "CircuitBreakerOpen"), "it is silenced")
    fire(manager, "AvailabilityDrop", environment="production")
    until(lambda: len(desk.get("/v0/incidents?open=true")["data"]) == 1, "a page is none of it")
    assert not silenced(manager, "AvailabilityDrop")
    (found,) = desk.get("/v0/incidents?open=true")["data"]
    assert found["alerts"][0]["name"] == "AvailabilityDrop"
    desk.run("deploy", "end", id_)
    desk.run("deploy", "end", id_)
    until(lambda: not silenced(manager, "CircuitBreakerOpen"), "the silence is over")
    until(lambda: len(desk.get("/v0/incidents?open=true")["data"]) == 2, "it is heard again")
    until(lambda: len(others.changes) == 2, "PagerDuty knows both ends")


@pytest.mark.parametrize("trouble", ["hang", "lose"])
def test_a_process_that_is_killed_loses_nothing(tmp_path: Path, trouble: str) -> None:
    """SIGKILL in the middle of publishing: the next one publishes it, once, and tells the rest."""
    with services() as others:
        desk = Desk(tmp_path, others, free_address())
        with desk.process() as process:
            others.troubled("slack", "hang")
            desk.notify()
            others.troubled("statuspage", trouble, *["hang"] * (trouble == "lose"))
            desk.run("publish", "INC-1", "--yes")
            asked = f"POST /v1/pages/{PAGE}/incidents"
            until(lambda: asked in others.asked, "it is being published")
            process.process.send_signal(signal.SIGKILL)
            process.process.wait(10)
        others.trouble.clear()
        with desk.process():
            until(lambda: desk.get("/v0/incidents/INC-1")["drafts"][0]["state"] == "published", "")
            until(lambda: others.slack, "the war room hears of it after all")
        assert [len(updates) for updates in others.updates()] == [1]
        assert len(others.slack) == 1
        assert others.refused == []


def test_no_secret_is_in_what_it_writes(tmp_path: Path) -> None:
    """Neither in its log nor in the file, also where a service is in trouble."""
    with services() as others:
        others.troubled("slack", 403)
        others.troubled("statuspage", "cut")
        desk = Desk(tmp_path, others, free_address())
        with desk.process() as process:
            desk.notify()
            desk.run("publish", "INC-1", "--yes")
            process.wait_for('"radgateway.incident.message_failed"')
            process.wait_for('"radgateway.incident.message_delayed"')
            assert process.end() == 0
            lines = [line for line in process.lines if line.startswith("{")]
        assert all(json.loads(line) for line in lines)
        kept = b"".join(file.read_bytes() for file in tmp_path.glob("incidents.db*"))
        for secret in (SOURCE_KEY, "alice-key-of-the-test", "/services/", TOKEN, ROUTING_KEY):
            assert secret not in process.output
            assert secret.encode() not in kept
