"""The words of a notification, rendered by the real amtool."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from slo_tools import PACK, run

from radgateway.slo.alerts import alerts
from radgateway.slo.settings import Settings
from radgateway.slo.templates import TEMPLATES

RULES = {alert.name: alert for alert in alerts(Settings())}
PARTS = {"radgateway.place", "radgateway.since"}
"""Of one alert, not of a group; others contain them."""
NAMES = sorted(set(re.findall(r'define "([^"]+)"', TEMPLATES)) - PARTS)


def data(name: str, *, status: str = "firing", times: int = 1, **labels: str) -> dict[str, Any]:
    """What Alertmanager gives a template for a group of alerts."""
    rule = RULES[name]
    words = rule.annotations(Settings())
    all_labels = {"alertname": name, **rule.labels, "job": "rad-gateway", **labels}
    one = {
        "status": status,
        "labels": all_labels,
        "annotations": words,
        "startsAt": "2026-03-01T12:00:00Z",
        "endsAt": "2026-03-01T12:30:00Z",
    }
    return {
        "receiver": "r",
        "status": status,
        "alerts": [one] * times,
        "groupLabels": {"alertname": name},
        "commonLabels": all_labels,
        "commonAnnotations": words,
        "externalURL": "http://localhost",
    }


def rendered(template: str, given: dict[str, Any], folder: Path) -> str:
    file = folder / "data.json"
    file.write_text(json.dumps(given))
    shown = run(
        "amtool",
        "template",
        "render",
        f"--template.glob={PACK}/alertmanager/templates/*.tmpl",
        f'--template.text={{{{ template "{template}" . }}}}',
        f"--template.data={file}",
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def test_a_title_says_how_bad_what_and_where(tmp_path: Path) -> None:
    """One line, for a page, a message and a subject alike."""
    given = data("HighErrorRate", environment="production")
    assert rendered("radgateway.title", given, tmp_path) == (
        "[P1] HighErrorRate in production: More than 2 % of requests fail."
    )
    given = data("HighErrorRate", status="resolved", times=3)
    assert rendered("radgateway.title", given, tmp_path) == (
        "[resolved] HighErrorRate: More than 2 % of requests fail. (3 alerts)"
    )


@pytest.mark.parametrize(
    ("name", "status", "severity", "color"),
    [
        ("AvailabilityDrop", "firing", "critical", "danger"),
        ("HighLatency", "firing", "warning", "warning"),
        ("ProviderDegraded", "firing", "info", "#439fe0"),
        ("AvailabilityDrop", "resolved", "critical", "good"),
    ],
)
def test_severity_shows(name: str, status: str, severity: str, color: str, tmp_path: Path) -> None:
    """In PagerDuty's words and in Slack's colours."""
    given = data(name, status=status)
    assert rendered("radgateway.pagerduty.severity", given, tmp_path) == severity
    assert rendered("radgateway.slack.color", given, tmp_path) == color


def test_a_message_says_what_to_do_and_where_to_read_on(tmp_path: Path) -> None:
    """Each alert with its place, then what is to be done, how soon, and the runbook."""
    shown = rendered("radgateway.slack.text", data("HighMemoryUsage", instance="a"), tmp_path)
    assert "instance a\n" in shown
    assert "*Do:* Add a replica" in shown
    assert "*Respond:* within 24 hours" in shown
    assert shown.endswith("*Runbook:* https://radgateway.example.invalid/runbooks/capacity/")


@pytest.mark.parametrize("template", NAMES)
@pytest.mark.parametrize("name", sorted(RULES))
def test_every_template_takes_every_alert(template: str, name: str, tmp_path: Path) -> None:
    """None fails or leaves a hole, whatever labels an alert lacks."""
    given = data(name)
    shown = rendered(template, given, tmp_path)
    assert shown.strip()
    assert "<no value>" not in shown
