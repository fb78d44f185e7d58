"""The reference app: the order of the whole stack, written once.

Everything here is made of the public components; an app of your own can put them together
otherwise, or take one of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial

from radgateway.asgi import ASGIApp, Layer
from radgateway.assembly import access, standing
from radgateway.assembly.foundation import Foundation
from radgateway.assembly.generation import Composed, Generation
from radgateway.assembly.parts import Parts, make_instruments
from radgateway.composition import compose
from radgateway.config import GatewayConfig, Source, load_config
from radgateway.config.load import ReadAgain, reader
from radgateway.config.secrets import secrets_in
from radgateway.exchange import Exchange
from radgateway.gateway import Gateway
from radgateway.inbound.admission import AdmissionQueue
from radgateway.inbound.auth import ApiKeyAuth
from radgateway.inbound.drain import DrainGuard
from radgateway.inbound.keepalive import StreamKeepalive
from radgateway.inbound.request_context import RequestContextMiddleware
from radgateway.openapi.document import openapi_endpoint
from radgateway.operations.fault_switch import FaultsEndpoint
from radgateway.operations.health import liveness, readiness
from radgateway.operations.keys_view import keys_view
from radgateway.operations.management import PREFIX, Management, changes, views
from radgateway.operations.model_list import model_list
from radgateway.operations.reload_action import reload_action
from radgateway.reload.reloader import Loaded, Reloader
from radgateway.routing.retry_budget import RetryBudget
from radgateway.routing.router import ProviderRouter
from radgateway.secrets.guard import SecretsGuard
from radgateway.telemetry.exposition import MetricsEndpoint
from radgateway.telemetry.instruments import Instruments
from radgateway.telemetry.metrics import MetricsMiddleware
from radgateway.telemetry.redaction import remember
from radgateway.telemetry.tracing import TracingMiddleware
from radgateway.usage.recorder import UsageRecorder

OnEnd = Callable[[Exchange], None]


def create_gateway(
    config: Source = None,
    *,
    instruments: Instruments | None = None,
    on_end: OnEnd | None = None,
    on_start: Sequence[Callable[[], object]] = (),
    stop: Callable[[], object] | None = None,
    read: ReadAgain | None = None,
    on_reload: Callable[[GatewayConfig], object] | None = None,
    tell_all: Callable[[], object] | None = None,
) -> Gateway:
    """The complete gateway as an ASGI app, from a configuration, a mapping or a file's path.

    Without one it takes the file that RADGATEWAY_CONFIG names, or the embedded defaults, so
    `uvicorn --factory radgateway.app:create_gateway` works as it is. `on_end` gets the record of
    every request that has ended; `on_start` is called in the event loop that serves. `stop` is
    what the management API's drain calls, in place of draining this gateway and no more.

    `read` reads the configuration again for a reload; by default from where it came.
    `on_reload` hears of each that is put in force then. `tell_all` is what the management API's
    reload calls when what it has read is valid, in place of reloading this gateway and no more.
    Raises `ConfigError`.
    """
    if config is None:
        config = os.environ.get("RADGATEWAY_CONFIG") or None
    if not isinstance(config, GatewayConfig):
        source, config = config, load_config(config, os.environ)
        read = read or reader(source, config)
    remember(secrets_in(config))

    def reloader() -> Reloader:
        assert gateway.reloader is not None
        return gateway.reloader

    foundation = Foundation(config, instruments or make_instruments(config), reloader)

    def make(config: GatewayConfig, loaded: Loaded, before: Generation | None) -> Generation:
        parts = Parts(config, foundation, before.parts if before is not None else None)
        change = changes(foundation.drain, stop or foundation.drain.start, parts.statuses)
        change |= reload_action(reloader, tell_all)
        return Generation(loaded, parts, _composed(parts, loaded, change, on_end), serve)

    def serve(generation: Generation) -> None:
        app, paths, below = generation.composed
        gateway.serve(app, paths=paths, below=below)
        if on_reload is not None:
            on_reload(generation.config)

    first = make(config, Loaded(1, time.time(), "start"), None)
    first.parts.take_over()
    app, paths, below = first.composed
    gateway = Gateway(
        app,
        paths=paths,
        below=below,
        drain=foundation.drain,
        on_start=[*foundation.starters, first.parts.start, *on_start],
    )
    gateway.reloader = Reloader(
        first,
        make,
        read=partial(_read_again, read, foundation) if read is not None else None,
        drain=foundation.drain,
        instruments=foundation.instruments,
    )
    gateway.closers += [*foundation.watchers, gateway.reloader.aclose, *foundation.closers]
    return gateway


def _read_again(read: ReadAgain, foundation: Foundation) -> GatewayConfig:
    """What is known of the secrets store serves where it does not answer."""
    return read(foundation.secrets.reading)


def _composed(
    parts: Parts, loaded: Loaded, change: dict[str, ASGIApp], on_end: OnEnd | None
) -> Composed:
    """The stack, outermost first. Every request passes `outer`, whatever becomes of it."""
    config, lasting = parts.config, parts.foundation
    outer, inner = _outer(parts, on_end), _inner(parts)
    data_plane = compose(_router(parts), *outer, *inner)

    paths: dict[str, ASGIApp] = {
        "/v1/models": compose(model_list(parts.models), *outer),
        "/health": liveness(),
        "/health/ready": readiness(lasting.drain, lasting.dependencies),
    }
    if config.telemetry.metrics:
        paths["/metrics"] = MetricsEndpoint(lasting.instruments)
    below: dict[str, ASGIApp] = {}
    if config.admin_keys:
        admin = _admin(parts, on_end)
        shown = standing.config_view(config, parts.prices, loaded)
        show = views(shown, lasting.usage, parts.statuses, config.slo)
        keys = keys_view(access.callers(config), parts.standings)
        described: dict[str, ASGIApp] = {"openapi.json": openapi_endpoint}
        below[PREFIX] = compose(Management(show, described, change, keys), *admin)
        paths[f"{PREFIX}faults"] = compose(FaultsEndpoint(parts.faults), *admin)
    return Composed(data_plane, paths, below)


def _outer(parts: Parts, on_end: OnEnd | None) -> list[Layer]:
    """What every request passes: identity, telemetry, drain, and who asks."""
    config, faults, lasting = parts.config, parts.faults, parts.foundation
    tracing = config.telemetry.tracing
    layers: list[Layer] = [
        partial(
            RequestContextMiddleware,
            on_end=faults.watching(on_end) if faults is not None else on_end,
        ),
        partial(
            TracingMiddleware,
            tracer_provider=lasting.tracer_provider,
            sampling_rate=tracing.sampling_rate if tracing.enabled else 0.0,
            providers=standing.genai_providers(config),
            names=lasting.genai_names,
        ),
        partial(MetricsMiddleware, instruments=lasting.instruments),
        partial(DrainGuard, drain=lasting.drain),
        *_secrets_guard(parts),
    ]
    if config.keys or parts.tokens is not None:
        layers.append(
            partial(
                ApiKeyAuth,
                keys=access.caller_keys(config),
                tokens=parts.tokens.verifier if parts.tokens is not None else None,
            )
        )
    return layers


def _inner(parts: Parts) -> list[Layer]:
    """What a request for a model passes besides: what it may cost, now and in the end."""
    config, lasting = parts.config, parts.foundation
    instruments = lasting.instruments
    layers: list[Layer] = [parts.rate_limiter]
    if config.admission is not None and parts.line is not None:
        layers.append(
            partial(
                AdmissionQueue,
                max_concurrency=parts.line,
                shed=parts.shed,
                on_shed=lambda reason: instruments.load_shed(reason).inc(),
            )
        )
    if config.keepalive is not None:
        layers.append(
            partial(
                StreamKeepalive,
                interval_s=config.keepalive.interval_s,
                before_content=config.keepalive.before_content,
            )
        )
    layers += [
        partial(UsageRecorder, put=lasting.usage.put, hold=lasting.usage.hold),
        partial(
            RetryBudget,
            budget=parts.retry_budget,
            on_exhausted=instruments.retry_budget_exhausted.inc,
        ),
    ]
    return layers


def _router(parts: Parts) -> ProviderRouter:
    server = parts.config.server
    return ProviderRouter(
        parts.providers,
        parts.models,
        max_body_bytes=server.max_body_bytes,
        body_timeout_s=server.body_timeout_s,
        on_attempt=parts.health.observe,
        latencies=parts.foundation.latencies,
        lengths=parts.foundation.lengths,
    )


def _admin(parts: Parts, on_end: OnEnd | None) -> list[Layer]:
    return [
        partial(RequestContextMiddleware, on_end=on_end),
        partial(MetricsMiddleware, instruments=parts.foundation.instruments),
        *_secrets_guard(parts),
        partial(ApiKeyAuth, keys=access.admin_keys(parts.config), require_admin=True),
    ]


def _secrets_guard(parts: Parts) -> list[Layer]:
    """Before anybody is let in by a secret that may have been revoked."""
    if parts.config.store_reading is None:
        return []
    return [partial(SecretsGuard, secrets=parts.foundation.secrets)]
