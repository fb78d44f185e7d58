"""Who is told, asked of the real amtool; what is left out is in `test_alertmanager.py`."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from slo_tools import PACK, run

from radgateway.slo.alert import Alert
from radgateway.slo.alerts import alerts
from radgateway.slo.routing import ESCALATION, receivers_of
from radgateway.slo.settings import Settings

CONFIG = PACK / "alertmanager" / "alertmanager.yml"
PAGED = "team_echo_oncall,sre_lead,engineering_manager"
EXPECTED = {
    "HighErrorRate": "team_echo_low_urgency",
    "AvailabilityDrop": PAGED,
    "HighLatency": "team_echo_chat",
    "ErrorBudgetBurn": "team_echo_email",
    "ErrorBudgetCritical": PAGED,
    "ProviderDegraded": "team_echo_chat",
    "CircuitBreakerOpen": "team_echo_chat",
    "HighMemoryUsage": "platform_team_chat",
    "DBConnectionExhausted": "platform_team_oncall,sre_lead,engineering_manager",
    "SecretsStale": "platform_team_chat",
    "BurnRate1h": PAGED,
    "BurnRate6h": PAGED,
    "BurnRate1d": "team_echo_chat",
    "BurnRate3d": "team_echo_email",
    "RadGatewayAbsent": PAGED,
    "RuleEvaluationFailures": "platform_team_chat",
    "Watchdog": "watchdog",
}
"""The strategy's table of actions and its alert_routing, written out by hand."""


def config() -> Any:
    return yaml.safe_load(CONFIG.read_text())


def recorded(name: str) -> str:
    """Who gets an alert: all but the watchdog are kept on record besides."""
    return EXPECTED[name] if name == "Watchdog" else f"incidents,{EXPECTED[name]}"


def test_the_configuration_is_valid() -> None:
    """As Alertmanager reads it, its templates too."""
    checked = run("amtool", "check-config", CONFIG)
    assert checked.returncode == 0, checked.stderr
    assert "1 templates" in checked.stdout


@pytest.mark.parametrize("alert", alerts(Settings()), ids=lambda alert: alert.name)
def test_an_alert_goes_to_whom_the_strategy_says(alert: Alert) -> None:
    """Each by the labels its rule gives it, and the tables say the same."""
    labels = [f"{name}={value}" for name, value in alert.labels.items()]
    found = run(
        "amtool",
        "config",
        "routes",
        "test",
        f"--config.file={CONFIG}",
        f"--verify.receivers={recorded(alert.name)}",
        f"alertname={alert.name}",
        *labels,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert ",".join(receivers_of(alert.delivery, alert.labels["team"])) == EXPECTED[alert.name]


def test_what_nobody_thought_of_is_still_heard() -> None:
    """An alert of somebody else's rules ends in a channel, not nowhere."""
    found = run("amtool", "config", "routes", "test", f"--config.file={CONFIG}", "alertname=Other")
    assert found.stdout.strip() == "incidents,team_echo_chat"


def test_a_page_escalates_in_the_strategys_order() -> None:
    """The on-call within seconds, the SRE lead after 15 minutes, the manager after 30."""
    pages = [
        (route["receiver"], route["group_wait"], route["continue"])
        for route in config()["route"]["routes"]
        if "delivery = page" in route["matchers"]
    ]
    assert pages == [
        ("team_echo_oncall", "10s", True),
        ("platform_team_oncall", "10s", True),
        ("sre_lead", "15m", True),
        ("engineering_manager", "30m", False),
    ]
    assert [role for role, _ in ESCALATION] == ["sre_lead", "engineering_manager"]


def test_what_is_muted_and_what_mutes_exist() -> None:
    """A rule about an alert that was renamed would mute nothing, and say nothing."""
    known = {alert.name for alert in alerts(Settings())}
    named: set[str] = set()
    for rule in config()["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            label, operator, value = re.fullmatch(r'(\w+) (=|=~|!~) "?([^"]*)"?', matcher).groups()  # type: ignore[union-attr]
            if label == "alertname":
                named |= set(value.split("|"))
            assert label in ("alertname", "service", "sli"), operator
    assert named <= known
    assert {"RadGatewayAbsent", "ErrorBudgetCritical", "CircuitBreakerOpen"} <= named


def test_every_receiver_is_used_and_every_route_has_one() -> None:
    """Nobody is told twice by a typing error, or never."""
    found = config()
    routed = {route["receiver"] for route in found["route"]["routes"]}
    assert routed == {receiver["name"] for receiver in found["receivers"]}
    assert found["route"]["receiver"] in routed


def test_secrets_are_files_and_addresses_are_nobodys() -> None:
    """Nothing in the repository can be used to tell anybody anything."""
    text = CONFIG.read_text()
    for name in re.findall(r"\b(\w*(?:key|url|password|token)\w*):", text):
        assert name.endswith("_file") or name in ("runbook_url", "client_url", "url"), name
    hosts = set(re.findall(r"https?://([\w.-]+)", text))
    assert hosts == {"watchdog.example.invalid", "incident"}  # the stack's own
    assert set(re.findall(r"@([\w.-]+)", text)) == {"example.invalid"}
