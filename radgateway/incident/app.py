"""The incident app: the order of its stack, written once, of the gateway's own components.

RequestContextMiddleware > MetricsMiddleware > DrainGuard > ApiKeyAuth > RateLimiter > the API
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from functools import partial

from radgateway import __version__
from radgateway.asgi import ASGIApp, Layer
from radgateway.composition import compose
from radgateway.config.secrets import secrets_in
from radgateway.exchange import Exchange, Principal
from radgateway.gateway import Gateway
from radgateway.inbound.auth import ApiKeyAuth, ApiKeys
from radgateway.inbound.drain import Drain, DrainGuard, DrainLimits
from radgateway.inbound.rate_limit import RateLimiter
from radgateway.inbound.request_context import RequestContextMiddleware
from radgateway.incident.api import INCIDENTS, WEBHOOK, AlertmanagerWebhook, IncidentAPI
from radgateway.incident.calls import Pace, client
from radgateway.incident.deployments_api import DEPLOYMENTS, DeploymentsAPI
from radgateway.incident.desk import Desk, Rules
from radgateway.incident.notices import Destination
from radgateway.incident.outbox import Outbox, Sender
from radgateway.incident.pagerduty import PagerDuty
from radgateway.incident.settings import IncidentConfig
from radgateway.incident.silences import Silences
from radgateway.incident.slack import Slack
from radgateway.incident.statuspage import INTERVAL_S, Statuspage, authorization
from radgateway.incident.store import Store
from radgateway.incident.telemetry import IncidentInstruments
from radgateway.operations.degraded import DependencyWatch
from radgateway.operations.health import liveness, readiness
from radgateway.telemetry.exposition import MetricsEndpoint
from radgateway.telemetry.instruments import Instruments, LabelSets
from radgateway.telemetry.metrics import MetricsMiddleware
from radgateway.telemetry.redaction import remember

OnEnd = Callable[[Exchange], None]
_ROUTES = frozenset({INCIDENTS, WEBHOOK, DEPLOYMENTS})


def create_incident_app(
    config: IncidentConfig,
    *,
    instruments: Instruments | None = None,
    on_end: OnEnd | None = None,
    on_start: Sequence[Callable[[], object]] = (),
    clock: Callable[[], float] = time.time,
) -> Gateway:
    """The incident app as an ASGI app; its secrets have been read. Raises `StoreUnavailable`.

    `on_end` gets the record of every request that has ended; `on_start` is called in the event
    loop that serves; `clock` gives Unix seconds.
    """
    remember(secrets_in(config))
    if instruments is None:
        instruments = make_instruments(config)
    counted = IncidentInstruments(instruments.registry)
    senders = _senders(config)
    desk = Desk(Store(config.store, clock), _rules(config, senders), counted)
    for destination, sender in senders.items():
        desk.outboxes[destination] = Outbox(
            destination,
            sender,
            desk.transact,
            on_outcome=counted.sent,
            clock=clock,
            rng=random.Random(),
        )
    silences = None
    if config.alertmanager is not None:
        silences = Silences(client(), config.alertmanager.url)
    longest = config.alertmanager.max_silence_s if config.alertmanager is not None else 14_400.0
    api = IncidentAPI(
        desk,
        DeploymentsAPI(desk, silences, max_silence_s=longest),
        publishes=config.statuspage is not None,
    )
    webhook = AlertmanagerWebhook(
        desk,
        max_body_bytes=config.server.max_body_bytes,
        body_timeout_s=config.server.body_timeout_s,
    )
    drain = Drain(
        DrainLimits(
            timeout_s=config.server.drain_timeout_s,
            stream_timeout_s=config.server.drain_timeout_s,
            delay_s=config.server.drain_delay_s,
        )
    )
    keys = _keys(config)
    outer = partial(_outer, config, keys, drain, instruments, on_end)
    paths: dict[str, ASGIApp] = {
        WEBHOOK: compose(webhook, *outer(require_admin=False)),
        "/health": liveness(),
        "/health/ready": readiness(drain, DependencyWatch({})),
        "/metrics": MetricsEndpoint(instruments),
    }
    closers = [desk.aclose, *([silences.aclose] if silences is not None else [])]
    return Gateway(
        compose(api, *outer(require_admin=True)),
        paths=paths,
        drain=drain,
        on_start=[desk.start, *on_start],
        closers=closers,
    )


def make_instruments(config: IncidentConfig) -> Instruments:
    """The metrics of requests, with this app's paths as routes."""
    labels = LabelSets(routes=_ROUTES)
    return Instruments(labels=labels, version=__version__, environment=config.environment)


def _outer(
    config: IncidentConfig,
    keys: ApiKeys,
    drain: Drain,
    instruments: Instruments,
    on_end: OnEnd | None,
    *,
    require_admin: bool,
) -> list[Layer]:
    return [
        partial(RequestContextMiddleware, on_end=on_end),
        partial(MetricsMiddleware, instruments=instruments, routes=_ROUTES),
        partial(DrainGuard, drain=drain),
        partial(ApiKeyAuth, keys=keys, require_admin=require_admin),
        partial(RateLimiter, limits=config.limit),
    ]


def _keys(config: IncidentConfig) -> ApiKeys:
    """Sources may report and nothing else: they are known, and no admins."""
    return ApiKeys(
        [(Principal(key.name), key.secret.reveal()) for key in config.sources]
        + [(Principal(key.name, admin=True), key.secret.reveal()) for key in config.responders]
    )


def _senders(config: IncidentConfig) -> dict[Destination, Sender]:
    """Whoever is configured to be told."""
    made: dict[Destination, Sender] = {}
    if config.slack:
        urls = {audience: secret.reveal() for audience, secret in config.slack.items()}
        made["slack"] = Slack(client(), urls)
    page = config.statuspage
    if page is not None:
        http = client(authorization(page.token.reveal()))
        made["statuspage"] = Statuspage(http, page.url, page.page, Pace(INTERVAL_S, time.monotonic))
    duty = config.pagerduty
    if duty is not None:
        made["pagerduty"] = PagerDuty(client(), duty.url, duty.routing_key.reveal())
    return made


def _rules(config: IncidentConfig, senders: dict[Destination, Sender]) -> Rules:
    page = config.statuspage
    return Rules(
        reopen_s=config.reopen_s,
        keep_days=config.keep_days,
        told=frozenset(senders),
        audiences=frozenset(config.slack),
        auto_publish=page is not None and page.auto_publish,
    )
