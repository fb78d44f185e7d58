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
from radgateway.inbound.drain import Drain, DrainGuard
from radgateway.inbound.limit_storage import close_storage, storage_of
from radgateway.inbound.rate_limit import RateLimiter
from radgateway.inbound.request_context import RequestContextMiddleware
from radgateway.operations.health import liveness, readiness
from radgateway.operations.management import management
from radgateway.operations.model_list import model_list
from radgateway.routing.retry_budget import RetryBudget
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
) -> Gateway:
    """The complete gateway as an ASGI app, from a configuration, a mapping or a file's path.

    Without one it takes the file that RADGATEWAY_CONFIG names, or the embedded defaults, so
    `uvicorn --factory radgateway.app:create_gateway` works as it is. `on_end` gets the record of
    every request that has ended; `on_start` is called in the event loop that serves.
    Raises `ConfigError`.
    """
    if config is None:
        config = os.environ.get("RADGATEWAY_CONFIG") or None
    if not isinstance(config, GatewayConfig):
        config = load_config(config, os.environ)

    instruments = instruments or assembly.instruments(config)
    drain = Drain()
    models = assembly.model_table(config)
    hints = assembly.breaker_hints(config)
    providers, clients = assembly.providers(config, instruments, hints)
    usage = UsageWriter(assembly.ledger(config), on_lost=instruments.usage_records_lost.inc)
    limits_state = assembly.LimitsState()
    limits = storage_of(config.storage.limits.reveal())
    lag = LoopLagMonitor(instruments)
    tracing = config.telemetry.tracing
    tracer_provider = (
        build_tracer_provider(
            tracing.exporter,
            tracing.otlp_endpoint,
            version=__version__,
            environment=config.environment,
        )
        if tracing.enabled
        else None
    )

    # The stack, outermost first. Every request passes `outer`, whatever becomes of it.
    outer: list[Layer] = [
        partial(RequestContextMiddleware, on_end=on_end),
        partial(
            TracingMiddleware,
            tracer_provider=tracer_provider,
            sampling_rate=tracing.sampling_rate if tracing.enabled else 0.0,
        ),
        partial(MetricsMiddleware, instruments=instruments),
        partial(DrainGuard, drain=drain),
    ]
    if config.keys:
        outer.append(partial(ApiKeyAuth, keys=assembly.caller_keys(config)))
    inner: list[Layer] = [
        partial(
            RateLimiter,
            limits_of=assembly.limits_by_key(config),
            storage=limits,
            on_storage_change=limits_state.changed,
        ),
    ]
    if config.admission is not None:
        inner.append(
            partial(
                AdmissionQueue,
                max_concurrency=config.admission.max_concurrency,
                max_queue=config.admission.max_queue,
                max_wait_s=config.admission.max_wait_s,
                on_depth=instruments.queue_depth.inc,
            )
        )
    inner += [
        partial(UsageRecorder, put=usage.put),
        partial(
            RetryBudget,
            config=config.retry_budget,
            on_exhausted=instruments.retry_budget_exhausted.inc,
        ),
    ]
    router = ProviderRouter(
        providers,
        models,
        max_body_bytes=config.server.max_body_bytes,
        body_timeout_s=config.server.body_timeout_s,
    )

    checks = {
        "usage": lambda: "ok" if usage.available else "unavailable: rows are queued",
        "limits": lambda: limits_state.word,
    }
    if hints is not None:
        checks["breaker_hints"] = lambda: hints.word
    paths: dict[str, ASGIApp] = {
        "/v1/models": compose(model_list(models), *outer),
        "/health": liveness(),
        "/health/ready": readiness(drain, checks),
    }
    if config.telemetry.metrics:
        paths["/metrics"] = MetricsEndpoint(instruments)
    if config.admin_keys:
        admin: list[Layer] = [
            partial(RequestContextMiddleware, on_end=on_end),
            partial(MetricsMiddleware, instruments=instruments),
            partial(ApiKeyAuth, keys=assembly.admin_keys(config), require_admin=True),
        ]
        endpoints = management(
            assembly.config_view(config),
            usage.recent,
            assembly.provider_states(config, providers),
        )
        paths |= {path: compose(endpoint, *admin) for path, endpoint in endpoints.items()}

    closers: list[Callable[[], Any]] = [
        lag.aclose,
        usage.aclose,
        partial(close_storage, limits),
    ]
    closers += [client.aclose for client in clients]
    starters: list[Callable[[], object]] = [lag.start]
    if hints is not None:
        starters.append(hints.start)
        closers.append(hints.aclose)
    if tracer_provider is not None:
        closers.append(partial(close_tracer_provider, tracer_provider))
    return Gateway(
        compose(router, *outer, *inner),
        paths=paths,
        drain=drain,
        on_start=[*starters, *on_start],
        closers=closers,
    )
