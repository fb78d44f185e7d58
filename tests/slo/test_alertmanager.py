"""The real Alertmanager with the generated configuration: what it sends, mutes and is silent on."""

from __future__ import annotations

import contextlib
import queue
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from slo.alertmanager_server import alertmanager, alerts_at, listening, silence
from slo_tools import run

from radgateway.slo.alerts import alerts
from radgateway.slo.settings import Settings

pytestmark = pytest.mark.servers
LIMIT_S = 30.0
RULES = {alert.name: alert for alert in alerts(Settings())}


class Running:
    """An Alertmanager and those it tells."""

    def __init__(self, address: str, got: queue.Queue[tuple[str, Any]]) -> None:
        self.address = address
        self.got = got
        self.api = httpx.Client(base_url=f"http://{address}/api/v2", timeout=5)

    def fire(self, *names: str, ended: bool = False, for_s: float = 60.0, **labels: str) -> None:
        """Send alerts as Prometheus does, `for_s` after they began: a wait counts from then."""
        now = datetime.now(UTC)
        until = now - timedelta(seconds=1) if ended else now + timedelta(minutes=5)
        body = [
            {
                "labels": {"alertname": name, **RULES[name].labels, "job": "rad-gateway", **labels},
                "annotations": RULES[name].annotations(Settings()),
                "startsAt": (now - timedelta(seconds=for_s)).isoformat(),
                "endsAt": until.isoformat(),
            }
            for name in names
        ]
        self.api.post("/alerts", json=body).raise_for_status()

    def states(self, environment: str) -> dict[str, str]:
        """What becomes of each alert of an environment: active, muted by another, or silenced."""
        found = {}
        for alert in alerts_at(self.address, environment=environment):
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


def sooner(files: Mapping[str, str]) -> dict[str, str]:
    """What takes minutes in earnest takes a second here; the escalation keeps its own."""
    made = {}
    for name, text in files.items():
        text = re.sub(r"group_wait: (10|30)s", "group_wait: 1s", text)
        made[name] = text.replace("group_interval: 5m", "group_interval: 1s")
    return made


def escalating(files: Mapping[str, str]) -> dict[str, str]:
    """The same with an escalation after seconds."""
    hurry = {"group_wait: 15m": "group_wait: 5s", "group_wait: 30m": "group_wait: 8s"}
    made = sooner(files)
    for name, text in made.items():
        made[name] = re.sub("|".join(hurry), lambda found: hurry[found[0]], text)
    return made


@contextlib.contextmanager
def started(
    folder: Path, change: Callable[[Mapping[str, str]], Mapping[str, str]]
) -> Iterator[Running]:
    """The generated configuration, its waits shortened, everybody it tells on this machine."""
    with listening() as people, alertmanager(folder, people, change) as address:
        made = Running(address, people.got)
        with made.api:
            yield made
        assert people.refused == []


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all tests that wait for no escalation."""
    with started(tmp_path_factory.mktemp("alertmanager"), sooner) as made:
        yield made


def test_a_page_reaches_the_on_call_with_its_runbook(running: Running) -> None:
    """PagerDuty gets severity, words and links; Slack says the same, and both hear its end."""
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


def test_a_page_that_lasts_reaches_the_lead_and_then_the_manager(tmp_path: Path) -> None:
    """In the strategy's order; of one that ends before, nobody but the on-call ever hears."""
    told: dict[str, list[tuple[str, str]]] = {"short": [], "lasting": []}
    with started(tmp_path, escalating) as running:
        running.fire("DBConnectionExhausted", for_s=0, environment="short")
        running.fire("AvailabilityDrop", for_s=0, environment="lasting")
        while ("key-of-engineering_manager", "trigger") not in told["lasting"]:
            event = running.next("/pagerduty")["/pagerduty"]
            (environment,) = (
                name for name in told if f" in {name}: " in event["payload"]["summary"]
            )
            told[environment].append((event["routing_key"], event["event_action"]))
            if told["short"] == [("key-of-platform_team", "trigger")]:
                running.fire("DBConnectionExhausted", environment="short", ended=True)
    keys = ("key-of-team_echo", "key-of-sre_lead", "key-of-engineering_manager")
    assert told["lasting"] == [(key, "trigger") for key in keys]
    assert told["short"] == [("key-of-platform_team", action) for action in ("trigger", "resolve")]


def test_what_is_alike_comes_in_one_message(running: Running) -> None:
    """Grouped by alert and environment: two providers are one message, other things others."""
    for provider in ("one", "two"):
        running.fire("CircuitBreakerOpen", environment="here", provider=provider)
    running.fire("HighLatency", environment="here", sli="overhead")
    running.fire("CircuitBreakerOpen", environment="there", provider="three")
    found: dict[str, set[str]] = {}
    while found != {"here": {"one", "two"}, "there": {"three"}}:
        (shown,) = running.next("/slack")["/slack"]["attachments"]
        if title := re.match(r"\[P2\] CircuitBreakerOpen in (\w+)", shown["title"]):
            found[title[1]] = set(re.findall(r" provider (\w+)$", shown["text"], re.MULTILINE))


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
    ("BurnRate1d", {"BurnRate3d"}, {"HighErrorRate", "AvailabilityDrop"}),
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
    added = silence(running.address)
    running.fire("HighMemoryUsage", "HighErrorRate", environment="production")
    running.fire("AvailabilityDrop", "Watchdog", environment="production")
    running.settles(
        "production",
        HighMemoryUsage="silenced",
        HighErrorRate="silenced",
        AvailabilityDrop="active",
        Watchdog="active",
    )
    ended = run(
        "amtool", "silence", "expire", added, f"--alertmanager.url=http://{running.address}"
    )
    assert ended.returncode == 0, ended.stderr
    running.settles(
        "production",
        HighMemoryUsage="active",
        HighErrorRate="active",
        AvailabilityDrop="active",
        Watchdog="active",
    )
