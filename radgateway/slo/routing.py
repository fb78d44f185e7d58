"""Alertmanager's configuration: who is told, how urgently, and what is left out.

The strategy's alert_routing (its 6.2): team_echo has availability, latency and error rates,
platform_team has infrastructure and databases, and a page goes from the team's on-call to the SRE
lead and then to the engineering manager while it lasts. Secrets are files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from radgateway.slo.alert import SERVICE, TEAMS, Delivery
from radgateway.slo.alerts import burn_name
from radgateway.slo.objectives import BURN_PAIRS
from radgateway.slo.settings import Contacts, Settings
from radgateway.slo.yaml_text import Value

ESCALATION: Final = (("sre_lead", "15m"), ("engineering_manager", "30m"))
"""Who is paged besides the on-call, and after how long. A group that has ended by then is never
sent: that is what `group_wait` does. Alertmanager does not know who acknowledged what."""
INCIDENTS: Final = "incidents"
"""The receiver that keeps the record of every alert, beside those who are told."""
INCIDENTS_KEY: Final = "incident_source_key"
_INCIDENT_ALERTS_MAX: Final = 200
_ROLES: Final = {"sre_lead": "SRE lead", "engineering_manager": "Engineering manager"}
_TEAMS: Final = tuple(dict.fromkeys(TEAMS.values()))


def alertmanager(settings: Settings) -> dict[str, Value]:
    """The whole configuration."""
    contacts = settings.contacts
    return {
        "global": _global(contacts),
        "templates": ["templates/*.tmpl"],
        "route": _route(),
        "inhibit_rules": list(_inhibitions()),
        "receivers": list(_receivers(contacts)),
    }


def secret_files(settings: Settings) -> tuple[str, ...]:
    """The names of the files that the configuration reads its secrets from."""
    found = _files(alertmanager(settings), settings.contacts.secrets_dir + "/")
    return tuple(sorted(set(found)))


def receivers_of(delivery: Delivery, team: str) -> tuple[str, ...]:
    """Who is told of an alert, in order."""
    if delivery == "watchdog":
        return ("watchdog",)
    if delivery == "page":
        return (f"{team}_oncall", *(role for role, _ in ESCALATION))
    return (f"{team}_{delivery}",)


def _files(value: Value, folder: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _files(item, folder)
    elif isinstance(value, str):
        if value.startswith(folder):
            yield value.removeprefix(folder)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _files(item, folder)


def _global(contacts: Contacts) -> Value:
    known: dict[str, Value] = {
        "smtp_smarthost": contacts.smtp_smarthost,
        "smtp_from": contacts.smtp_from,
        "smtp_auth_username": contacts.smtp_username,
        "smtp_auth_password_file": f"{contacts.secrets_dir}/smtp_password",
    }
    if contacts.pagerduty_url is not None:
        known["pagerduty_url"] = contacts.pagerduty_url
    return known


def _route() -> Value:
    return {
        "receiver": "team_echo_chat",
        "group_by": ["alertname", "service", "environment"],
        "group_wait": "30s",
        "group_interval": "5m",
        "repeat_interval": "4h",
        "routes": [
            {
                "matchers": ["alertname = Watchdog"],
                "receiver": "watchdog",
                "group_wait": "1s",
                "group_interval": "1m",
                "repeat_interval": "1m",
            },
            {
                "matchers": ["alertname != Watchdog"],
                "receiver": INCIDENTS,
                "group_wait": "10s",
                "group_interval": "1m",
                "repeat_interval": "1h",
                "continue": True,
            },
            *_pages(),
            *(
                {
                    "matchers": [f"delivery = {delivery}", f"team = {team}"],
                    "receiver": f"{team}_{delivery}",
                    "repeat_interval": repeat,
                }
                for delivery, repeat in (("low_urgency", "1h"), ("chat", "12h"), ("email", "24h"))
                for team in _TEAMS
            ),
            # Of what no route above wants somebody still hears.
            {"matchers": ["alertname != Watchdog"], "receiver": "team_echo_chat"},
        ],
    }


def _pages() -> Iterator[Value]:
    for team in _TEAMS:
        yield {
            "matchers": ["delivery = page", f"team = {team}"],
            "receiver": f"{team}_oncall",
            "group_wait": "10s",
            "repeat_interval": "1h",
            "continue": True,
        }
    for role, after in ESCALATION:
        yield {
            "matchers": ["delivery = page"],
            "receiver": role,
            "group_wait": after,
            "repeat_interval": "1h",
            "continue": role != ESCALATION[-1][0],
        }


def _inhibitions() -> Iterator[Value]:
    # Where nothing is known, nothing else means anything.
    yield {
        "source_matchers": ["alertname = RadGatewayAbsent"],
        "target_matchers": [
            f"service = {SERVICE}",
            'alertname !~ "RadGatewayAbsent|RuleEvaluationFailures|Watchdog"',
        ],
        "equal": ["service", "environment"],
    }
    burning = [burn_name(pair.long) for pair in BURN_PAIRS]
    symptoms = ["AvailabilityDrop", "HighErrorRate"]
    slow = [*burning[2:], "ErrorBudgetBurn"]
    for source, targets in (
        (burning[0], [*symptoms, burning[1], *slow]),
        (burning[1], [*symptoms, *slow]),
        (burning[2], [burning[3]]),
        ("ErrorBudgetCritical", slow),
    ):
        yield _mutes(source, targets, "job")
    yield _mutes("CircuitBreakerOpen", ["ProviderDegraded"], "job", "provider")
    late = _mutes("ProviderDegraded", ["HighLatency"], "job")
    late["target_matchers"] = ["alertname = HighLatency", "sli = time_to_first_token"]
    yield late


def _mutes(source: str, targets: list[str], *equal: str) -> dict[str, Value]:
    """One problem, one notification: the one that says most."""
    return {
        "source_matchers": [f"alertname = {source}"],
        "target_matchers": [f'alertname =~ "{"|".join(targets)}"'],
        "equal": [*equal, "environment"],
    }


def _receivers(contacts: Contacts) -> Iterator[Value]:
    for team in _TEAMS:
        channel: str = getattr(contacts, f"{team}_channel")
        chat = _slack(contacts, channel)
        yield {
            "name": f"{team}_oncall",
            "pagerduty_configs": [_pagerduty(contacts, team)],
            "slack_configs": [chat],
        }
        # PagerDuty makes a warning of low urgency, in services with dynamic urgencies.
        gently = {**_pagerduty(contacts, team), "severity": "warning"}
        yield {
            "name": f"{team}_low_urgency",
            "pagerduty_configs": [gently],
            "slack_configs": [chat],
        }
        yield {"name": f"{team}_chat", "slack_configs": [chat]}
        email: str = getattr(contacts, f"{team}_email")
        yield {"name": f"{team}_email", "email_configs": [_email(email)]}
    for role, _ in ESCALATION:
        email = getattr(contacts, f"{role}_email")
        yield {
            "name": role,
            "pagerduty_configs": [_pagerduty(contacts, role)],
            "email_configs": [_email(email)],
        }
    yield {"name": INCIDENTS, "webhook_configs": [_incidents(contacts)]}
    yield {
        "name": "watchdog",
        "webhook_configs": [{"url": contacts.watchdog_url, "send_resolved": False}],
    }


def _incidents(contacts: Contacts) -> dict[str, Value]:
    return {
        "url": contacts.incidents_url,
        "send_resolved": True,
        "max_alerts": _INCIDENT_ALERTS_MAX,
        "http_config": {
            "authorization": {"credentials_file": f"{contacts.secrets_dir}/{INCIDENTS_KEY}"},
            "follow_redirects": False,
        },
    }


def _pagerduty(contacts: Contacts, whose: str) -> dict[str, Value]:
    return {
        "routing_key_file": f"{contacts.secrets_dir}/pagerduty_{whose}",
        "description": '{{ template "radgateway.title" . }}',
        "severity": '{{ template "radgateway.pagerduty.severity" . }}',
        "class": "{{ .CommonLabels.category }}",
        "component": "{{ .CommonLabels.service }}",
        "group": _ROLES.get(whose, whose),
        "client": "radgateway",
        "client_url": '{{ template "radgateway.runbook" . }}',
        "links": [{"href": '{{ template "radgateway.runbook" . }}', "text": "Runbook"}],
        "details": {
            "alerts": '{{ template "radgateway.pagerduty.alerts" . }}',
            "action": "{{ .CommonAnnotations.action }}",
            "respond": "{{ .CommonAnnotations.respond }}",
            "runbook": '{{ template "radgateway.runbook" . }}',
        },
    }


def _slack(contacts: Contacts, channel: str) -> dict[str, Value]:
    return {
        "api_url_file": f"{contacts.secrets_dir}/slack_url",
        "channel": channel,
        "send_resolved": True,
        "color": '{{ template "radgateway.slack.color" . }}',
        "title": '{{ template "radgateway.title" . }}',
        "title_link": '{{ template "radgateway.runbook" . }}',
        "text": '{{ template "radgateway.slack.text" . }}',
        "fallback": '{{ template "radgateway.title" . }}',
    }


def _email(to: str) -> dict[str, Value]:
    return {
        "to": to,
        "send_resolved": True,
        "headers": {"Subject": '{{ template "radgateway.title" . }}'},
        "html": '{{ template "radgateway.email.html" . }}',
        "text": '{{ template "radgateway.email.text" . }}',
    }
