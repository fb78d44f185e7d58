"""The reference app: the order of the whole stack, written once.

Everything here is made of the public components; an app of your own can put them together
otherwise, or take one of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from radgateway import __version__, assembly
from radgateway.asgi import ASGIApp, Layer
from radgateway.composition import compose
from radgateway.config import GatewayConfig, load_config
from radgateway.exchange import Exchange
from radgateway.gateway import Gateway
from radgateway.inbound.admission import AdmissionQueue
from radgateway.inbound.auth import ApiKeyAuth
from radgateway.inbound.drain import DrainGuard
from radgateway.inbound.keepalive import StreamKeepalive
from radgateway.inbound.limit_storage import close_storage
from radgateway.inbound.rate_limit import RateLimiter
from radgateway.inbound.request_context import RequestContextMiddleware
from radgateway.operations.degraded import DependencyWatch
from radgateway.operations.fault_switch import FaultsEndpoint
from radgateway.operations.health import liveness, readiness
from radgateway.operations.management import PREFIX, Management, changes, views
from radgateway.operations.model_list import model_list
from radgateway.routing.retry_budget import RetryBudget, TokenBudget
from radgateway.routing.router import ProviderRouter
from radgateway.telemetry.exposition import MetricsEndpoint
from radgateway.telemetry.instruments import Instruments
from radgateway.telemetry.loop_lag import LoopLagMonitor
from radgateway.telemetry.metrics import MetricsMiddleware
from radgateway.telemetry.trace_export import build_tracer_provider, close_tracer_provider
from radgateway.telemetry.tracing import TracingMiddleware
from radgateway.usage.recorder import UsageRecorder
from radgateway.usage.writer import UsageWriter

Source = GatewayConfig | Mapping[str, Any] | str | Path | None


def create_gateway(
    config: Source = None,
    *,
    instruments: Instruments | None = None,
    on_end: Callable[[Exchange], None] | None = None,
    on_start: Sequence[Callable[[], object]] = (),
    stop: Callable[[], object] | None = None,
) -> Gateway:
    """The complete gateway as an ASGI app, from a configuration, a mapping or a file's path.

    Without one it takes the file that RADGATEWAY_CONFIG names, or the embedded defaults, so
    `uvicorn --factory radgateway.app:create_gateway` works as it is. `on_end` gets the record of
    every request that has ended; `on_start` is called in the event loop that serves. `stop` is
    what the management API's drain calls, in place of draining this gateway and no more.
    Raises `ConfigError`.
    """
    if config is None:
        config = os.environ.get("RADGATEWAY_CONFIG") or None
    if not isinstance(config, GatewayConfig):
        config = load_config(config, os.environ)

    instruments = instruments or assembly.instruments(config)
    drain = assembly.drain(config)
    models = assembly.model_table(config)
    providers, clients = assembly.providers(config, instruments)
    faults = assembly.fault_switch(config, providers, instruments)
    usage = UsageWriter(assembly.ledger(config), on_lost=instruments.usage_records_lost.inc)
    health = assembly.health_book(config)
    probes = assembly.probes(config, providers)
    statuses = assembly.provider_statuses(config, providers, health, probes)
    limits_state = assembly.LimitsState(config.limits.on_storage_failure, instruments)
    limits = assembly.limits_storage(config)
    limiter = assembly.rate_limiter(config, models, limits, limits_state, instruments)
    retry_budget = TokenBudget(config.retry_budget)
    shed = assembly.load_shed(config)
    sampled: list[Callable[[float], object]] = [
        lambda lag_s: instruments.retry_budget_balance.set(retry_budget.balance)
    ]
    if shed is not None:
        sampled.append(shed.observe)
    lag = LoopLagMonitor(instruments, on_sample=sampled)
    tracing = config.telemetry.tracing
    collector = assembly.CollectorState(enabled=tracing.enabled)
    tracer_provider = (
        build_tracer_provider(
            tracing.exporter,
            tracing.otlp_endpoint,
            version=__version__,
            environment=config.environment,
            on_export=collector.exported,
        )
        if tracing.enabled
        else None
    )
    tokens = assembly.token_auth(config)
    checks = assembly.checks(limits_state, usage, collector, statuses, tokens)
    dependencies = DependencyWatch(checks, assembly.modes_shown(instruments))

    closers: list[Callable[[], Any]] = [
        lag.aclose,
        dependencies.aclose,
        probes.aclose,
        usage.aclose,
    ]

    def limited(app: ASGIApp) -> RateLimiter:
        layer = limiter(app)
        closers.append(layer.aclose)
        return layer

    # The stack, outermost first. Every request passes `outer`, whatever becomes of it.
    outer: list[Layer] = [
        partial(
            RequestContextMiddleware,
            on_end=faults.watching(on_end) if faults is not None else on_end,
        ),
        partial(
            TracingMiddleware,
            tracer_provider=tracer_provider,
            sampling_rate=tracing.sampling_rate if tracing.enabled else 0.0,
        ),
        partial(MetricsMiddleware, instruments=instruments),
        partial(DrainGuard, drain=drain),
    ]
    if config.keys or tokens is not None:
        outer.append(
            partial(
                ApiKeyAuth,
                keys=assembly.caller_keys(config),
                tokens=tokens.verifier if tokens is not None else None,
            )
        )
    inner: list[Layer] = [limited]
    if config.admission is not None:
        inner.append(
            partial(
                AdmissionQueue,
                max_concurrency=config.admission.max_concurrency,
                max_queue=config.admission.max_queue,
                max_wait_s=config.admission.max_wait_s,
                shed=shed,
                on_depth=instruments.queue_depth.inc,
                on_shed=lambda reason: instruments.load_shed(reason).inc(),
            )
        )
    if config.keepalive is not None:
        inner.append(
            partial(
                StreamKeepalive,
                interval_s=config.keepalive.interval_s,
                before_content=config.keepalive.before_content,
            )
        )
    inner += [
        partial(UsageRecorder, put=usage.put),
        partial(
            RetryBudget,
            budget=retry_budget,
            on_exhausted=instruments.retry_budget_exhausted.inc,
        ),
    ]
    router = ProviderRouter(
        providers,
        models,
        max_body_bytes=config.server.max_body_bytes,
        body_timeout_s=config.server.body_timeout_s,
        on_attempt=health.observe,
    )

    paths: dict[str, ASGIApp] = {
        "/v1/models": compose(model_list(models), *outer),
        "/health": liveness(),
        "/health/ready": readiness(drain, dependencies),
    }
    if config.telemetry.metrics:
        paths["/metrics"] = MetricsEndpoint(instruments)
    below: dict[str, ASGIApp] = {}
    if config.admin_keys:
        admin: list[Layer] = [
            partial(RequestContextMiddleware, on_end=on_end),
            partial(MetricsMiddleware, instruments=instruments),
            partial(ApiKeyAuth, keys=assembly.admin_keys(config), require_admin=True),
        ]
        below[PREFIX] = compose(
            Management(
                views(assembly.config_view(config), usage.recent, statuses),
                changes(drain, stop or drain.start, statuses),
            ),
            *admin,
        )
        paths["/v0/management/faults"] = compose(FaultsEndpoint(faults), *admin)

    app = compose(router, *outer, *inner)
    closers += [partial(close_storage, limits), *(client.aclose for client in clients)]
    if faults is not None:
        closers.append(faults.aclose)
    if tokens is not None:
        on_start = [tokens.start, *on_start]
        closers.append(tokens.aclose)
    if tracer_provider is not None:
        closers.append(partial(close_tracer_provider, tracer_provider))
    return Gateway(
        app,
        paths=paths,
        below=below,
        drain=drain,
        on_start=[lag.start, dependencies.start, probes.start, *on_start],
        closers=closers,
    )
