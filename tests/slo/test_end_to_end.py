"""From a request that fails to the phone of whoever is on call, and from a curve to its request.

The gateway, Prometheus and Alertmanager are the real ones, with the generated rules and routes in a
hurry: a minute is a second (`hurried.py`). One story, told in the order in which it happens.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from otlp_receiver import Received, http_receiver
from processes import Process
from slo.alertmanager_server import (
    People,
    alertmanager,
    alerts_at,
    listening,
    settings_for,
    silence,
)
from slo.asked_series import VARIABLES
from slo.hurried import hurried
from slo.live_gateway import (
    ADMIN,
    Callers,
    live_gateway,
    set_a_breaker_by_hand,
    use_up_a_quota,
)
from slo.prometheus_server import Prometheus, prometheus
from slo.questions import answered, of_dashboards, of_records, of_trouble
from slo.waiting import LIMIT_S, until
from slo_tools import ROOT

from radgateway.chaos.postgres import postgres_server
from radgateway.slo.pack import artefacts
from radgateway.slo.settings import Settings

pytestmark = [pytest.mark.servers, pytest.mark.slow]
ALERT = "HighErrorRate"
TRACED = """\
  tracing: {{enabled: true, exporter: otlp, otlp_endpoint: "{endpoint}", sampling_rate: 1}}
"""


def test_what_fails_is_told_and_can_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is recorded and shown has data; errors are told, their end too, a silence holds.

    And from a point on a latency panel there is a way to its trace, its log line and its row.
    """
    monkeypatch.setitem(VARIABLES, "$__rate_interval", "10s")
    monkeypatch.setitem(VARIABLES, "$__range", "1m")
    with listening() as people, http_receiver() as traces, postgres_server() as ledger:
        rules = {
            name: text
            for name, text in hurried(artefacts(settings_for(people, tmp_path))).items()
            if "/rules/" in name
        }
        with (
            live_gateway(tmp_path, TRACED.format(endpoint=traces.url), ledger.dsn) as (
                process,
                url,
            ),
            alertmanager(tmp_path, people, hurried) as manager,
            prometheus(tmp_path, url.removeprefix("http://"), rules, manager) as watcher,
            Callers(url) as callers,
        ):
            heard = Heard(people)
            everything_has_data(watcher)

            callers.one_in_20_fails = True
            told = until(lambda: heard.next("trigger"), f"{ALERT} is told")
            it_says_what_to_do(told)
            trouble_has_data(watcher, url)
            callers.one_in_20_fails = False
            ended = until(lambda: heard.next("resolve"), f"the end of {ALERT} is told")
            assert ended["dedup_key"] == told["dedup_key"]

            silenced = silence(manager)
            callers.one_in_20_fails = True
            until(lambda: ALERT in watcher.firing(), f"{ALERT} fires again")
            held = {"state": "suppressed", "silencedBy": [silenced], "inhibitedBy": []}
            until(lambda: status_of(manager) == held, "it is held back by the silence alone")
            # It comes every second, and after half of one the alert would have been told.
            for count in range(3):
                until(heard.watchdog, f"watchdog {count}")
            assert ALERT in watcher.firing()
            assert status_of(manager) == held
            assert heard.next("trigger") is None

            a_point_leads_to_its_request(watcher, traces, process, url)
        assert people.refused == []


class Heard:
    """What PagerDuty has got of the alert, and the watchdog's service, in the order it came."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._events: list[Any] = []
        self._watchdogs = 0

    def next(self, action: str) -> Any:
        """The next event of some action, if it has come."""
        self._listen()
        found = [event for event in self._events if event["event_action"] == action]
        if found:
            self._events.remove(found[0])
        return found[0] if found else None

    def watchdog(self) -> bool:
        """Whether the watchdog was heard since this was asked last."""
        before = self._watchdogs
        self._listen()
        return self._watchdogs > before

    def _listen(self) -> None:
        while not self._people.got.empty():
            to, message = self._people.got.get()
            if to == "/watchdog":
                self._watchdogs += 1
            if to == "/pagerduty" and ALERT in message["payload"]["summary"]:
                self._events.append(message)


def everything_has_data(watcher: Prometheus) -> None:
    """Each recording rule and each query of the dashboards, with no rule that fails."""
    questions = of_records() | of_dashboards()
    until(lambda: answered(watcher.query, questions), questions)
    rules = [rule for group in watcher.get("rules")["groups"] for rule in group["rules"]]
    assert [rule for rule in rules if rule["health"] != "ok"] == []


def trouble_has_data(watcher: Prometheus, url: str) -> None:
    """Each query of the panels that are empty while all is well."""
    use_up_a_quota(url)
    set_a_breaker_by_hand(url)
    questions = of_trouble()
    until(lambda: answered(watcher.query, questions), questions)


def it_says_what_to_do(event: dict[str, Any]) -> None:
    """The event has the runbook's address, and its page is there."""
    assert event["routing_key"] == "key-of-team_echo"
    assert event["payload"]["severity"] == "warning"
    assert event["payload"]["summary"] == (
        "[P1] HighErrorRate in production: More than 2 % of requests fail."
    )
    (link,) = event["links"]
    page = link["href"].removeprefix(f"{Settings().docs_url}/").rstrip("/")
    assert page.startswith("runbooks/")
    assert f"`{ALERT}`" in (ROOT / "docs" / f"{page}.md").read_text()


def status_of(manager: str) -> dict[str, Any] | None:
    """What Alertmanager makes of the alert, and the silences and other alerts that hold it back."""
    alerts = alerts_at(manager, alertname=ALERT)
    return alerts[0]["status"] if alerts else None


def a_point_leads_to_its_request(
    watcher: Prometheus, traces: Received, process: Process, url: str
) -> None:
    """The trace of an exemplar was exported, it is in the log, and in the ledger."""
    trace = until(lambda: exemplar(watcher), "an exemplar")
    spans = until(lambda: spans_of(traces, trace), f"the spans of {trace}")
    assert "gateway_request" in {span.name for span in spans}
    line = json.loads(process.wait_for(rf'^{{.*"radgateway\.request".*"{trace}".*$')[0])
    asked = f"{url}/v0/management/usage?trace_id={trace}"
    (row,) = until(lambda: httpx.get(asked, headers=ADMIN).raise_for_status().json()["data"], asked)
    assert row["requestId"] == line["request_id"]


def exemplar(watcher: Prometheus) -> str | None:
    """The trace of a point on the panel of durations."""
    series = watcher.get(
        "query_exemplars",
        query="rad_gateway_request_duration_seconds_bucket",
        start=f"{time.time() - LIMIT_S:.0f}",
        end=f"{time.time():.0f}",
    )
    found = [point["labels"]["trace_id"] for each in series for point in each["exemplars"]]
    return found[-1] if found else None


def spans_of(traces: Received, trace: str) -> list[Any]:
    """The spans of a trace that have arrived."""
    return [span for span in traces.spans if span.trace_id.hex() == trace]
