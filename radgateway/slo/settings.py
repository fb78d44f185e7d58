"""What of the pack can be set: the objectives, and the names and addresses of a place."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from urllib.parse import urlsplit

from radgateway.slo.objectives import Objectives
from radgateway.slo.stack import ADDRESSES

_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PLAIN = re.compile(r"[!-~]{1,256}")
"""What an address is made of: nothing that could end a line or a quoted text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contacts:
    """Where notifications go. Secrets are files that Alertmanager reads; none is set here."""

    team_echo_channel: str = "#team-echo"
    """A Slack channel."""
    team_echo_email: str = "team-echo@example.invalid"
    platform_team_channel: str = "#platform-team"
    platform_team_email: str = "platform-team@example.invalid"
    sre_lead_email: str = "sre-lead@example.invalid"
    engineering_manager_email: str = "engineering-manager@example.invalid"
    smtp_smarthost: str = "smtp.example.invalid:587"
    smtp_from: str = "alerts@example.invalid"
    smtp_username: str = "alerts@example.invalid"
    pagerduty_url: str | None = None
    """Where events go; null takes PagerDuty's own address."""
    watchdog_url: str = "https://watchdog.example.invalid/radgateway"
    """Who raises the alarm when the watchdog falls silent: a service outside of this house."""
    incidents_url: str = f"http://{ADDRESSES['INCIDENT']}/v0/incidents/alertmanager"
    """The webhook of `radgateway incident serve`, which makes incidents of all alerts."""
    secrets_dir: str = "/etc/alertmanager/secrets"
    """Folder of the secret files, as Alertmanager sees it."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None and not _PLAIN.fullmatch(value):
                raise ValueError(f"{each.name} must be printable ASCII without spaces")
        for name in ("pagerduty_url", "watchdog_url", "incidents_url"):
            _check_url(name, getattr(self, name))
        if not self.secrets_dir.startswith("/"):
            raise ValueError("secrets_dir must be an absolute path")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of the pack. Raises `ValueError`: the field and what is wrong with it."""

    job: str = "rad-gateway"
    """The gateway's job in Prometheus."""
    least_bad: int = 5
    """Bad requests in an alert's window below which a ratio of them is chance, at least 1. A floor
    of requests instead would leave a quiet gateway alone that answers nobody at all."""
    docs_url: str = "https://radgateway.example.invalid"
    """Where the pages of docs are served: alerts lead to runbooks, dashboards to their guide."""
    objectives: Objectives = field(default_factory=Objectives)
    contacts: Contacts = field(default_factory=Contacts)

    def __post_init__(self) -> None:
        if not _JOB.fullmatch(self.job):
            raise ValueError("job must be letters, digits, '_', '.' and '-'")
        if not 1 <= self.least_bad <= 1_000:
            raise ValueError(f"least_bad must be 1 to 1000, not {self.least_bad}")
        _check_url("docs_url", self.docs_url)

    def page_url(self, page: str) -> str:
        """The address of a page, such as `runbooks/database`."""
        return f"{self.docs_url.rstrip('/')}/{page}/"


def _check_url(name: str, url: str | None) -> None:
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not _PLAIN.fullmatch(url):
        raise ValueError(f"{name} must be an http:// or https:// URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{name} must not carry a user or a password")
