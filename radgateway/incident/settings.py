"""The configuration of the incident app: every key there is, its unit, range and default.

One YAML file, read as the gateway's own: unknown keys are errors, secrets are references. What is
left out is not told: without `slack` nobody is messaged, without `statuspage` there are only
drafts.
A `ValueError` starts with the field's name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from radgateway.config.bind import Binder
from radgateway.config.load import read_file
from radgateway.config.problems import Report
from radgateway.config.references import local, resolve
from radgateway.config.schema import AdminKeyConfig, Environment, LogLevel, ServerConfig
from radgateway.config.secrets import Secret
from radgateway.config.tree import note_places
from radgateway.config.values import http_url, within
from radgateway.incident.pagerduty import EVENTS_URL
from radgateway.incident.severity import AUDIENCES
from radgateway.incident.statuspage import API_URL

_PAGE = re.compile(r"[A-Za-z0-9]{1,64}")
_SERVER = ServerConfig(port=8095, drain_timeout_s=10.0, max_body_bytes=1024 * 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatuspageConfig:
    """The public status page, at Statuspage."""

    page: str
    """The page's id."""
    token: Secret
    """Of Statuspage's API."""
    url: str = API_URL
    auto_publish: bool = False
    """Publish drafts without asking a person. Off: a false alarm on a public page is an incident
    of its own."""

    def __post_init__(self) -> None:
        if not _PAGE.fullmatch(self.page):
            raise ValueError("page must be the page's id: letters and digits")
        http_url("url", self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class PagerDutyConfig:
    """Where deployments are told of, as change events."""

    routing_key: Secret
    """The integration key of a service."""
    url: str = EVENTS_URL

    def __post_init__(self) -> None:
        http_url("url", self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertmanagerConfig:
    """Who is silenced during deployments."""

    url: str
    max_silence_s: float = 3600.0
    """Seconds that a deployment may silence at most, 60 to 14400."""

    def __post_init__(self) -> None:
        http_url("url", self.url)
        within(self, "max_silence_s", 60, 14_400)


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentConfig:
    """Everything the incident app is built from."""

    environment: Environment = "local"
    """Shown in logs and metrics; from staging on no secret may stand here in plain text."""
    log_level: LogLevel = "info"
    server: ServerConfig = _SERVER
    """Where it listens."""
    store: str = "incidents.db"
    """The SQLite file, which one process owns while it serves."""
    keep_days: int = 400
    """Days after which what is over is forgotten, 7 to 4000."""
    reopen_s: float = 1800.0
    """Seconds after its end within which an alert that fires again belongs to the same incident,
    0 to 86400."""
    limit: str = "600/minute"
    """Requests of one key."""
    sources: tuple[AdminKeyConfig, ...] = ()
    """Who may report alerts: Alertmanager."""
    responders: tuple[AdminKeyConfig, ...]
    """Who may see and change incidents: one key for each person or program, whose name is in the
    timeline."""
    slack: Mapping[str, Secret] = field(default_factory=dict)
    """Incoming webhooks, by audience: war_room, executives, tickets, backlog."""
    statuspage: StatuspageConfig | None = None
    pagerduty: PagerDutyConfig | None = None
    alertmanager: AlertmanagerConfig | None = None

    def __post_init__(self) -> None:
        from radgateway.inbound.limit_set import REQUESTS, check_rates  # noqa: PLC0415 - heavy

        if not self.store:
            raise ValueError("store must be the path of a file")
        within(self, "keep_days", 7, 4_000)
        within(self, "reopen_s", 0, 86_400)
        check_rates(REQUESTS, "limit", (self.limit,))
        if not self.responders:
            raise ValueError("responders must name at least one")
        unknown = sorted(set(self.slack) - set(AUDIENCES))
        if unknown:
            raise ValueError(f"slack has no audience {unknown[0]!r}: {', '.join(AUDIENCES)}")


def load_incident_config(
    file: Path, environ: Mapping[str, str] | None = None, *, resolved: bool = True
) -> IncidentConfig:
    """The configuration of a file, its secrets read. Raises `ConfigError` with every mistake."""
    root = read_file(file)
    report = Report()
    note_places(root, report)
    binder = Binder(report)
    config = binder.section(IncidentConfig, root)
    report.raise_if_any()
    assert isinstance(config, IncidentConfig)
    if config.environment in ("staging", "production"):
        for path in binder.literals:
            report.add(
                path, f"holds a secret in plain text; in {config.environment} use env: or file:"
            )
    if resolved:
        config = resolve(config, local(os.environ if environ is None else environ), report.add)
        _judge(config, report)
    report.raise_if_any()
    return config


def _judge(config: IncidentConfig, report: Report) -> None:
    """What can be said of secrets only once they are known; none is repeated."""
    for audience, secret in config.slack.items():
        if secret.resolved and not re.fullmatch(r"https?://[!-~]+", secret.reveal()):
            report.add(("slack", audience), "must be the address of an incoming webhook")
    named = {"sources": config.sources, "responders": config.responders}
    seen: set[str] = set()
    for kind, keys in named.items():
        for index, key in enumerate(keys):
            if not key.secret.resolved:
                continue
            if key.secret.reveal() in seen:
                report.add((kind, index, "secret"), "is another key's too")
            seen.add(key.secret.reveal())
