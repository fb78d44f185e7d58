"""What one process keeps through all of its configurations: made once, closed last."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial

from radgateway import __version__
from radgateway.assembly import limits, providers, standing, usage
from radgateway.assembly.secrets import secrets_refresher
from radgateway.config.schema import GatewayConfig, ServerConfig
from radgateway.inbound.drain import Drain, DrainLimits
from radgateway.inbound.limit_storage import close_storage
from radgateway.operations.degraded import DependencyWatch
from radgateway.reload.reloader import Reloader
from radgateway.routing.latency import LatencyBook
from radgateway.telemetry.genai_names import (
    OPT_IN,
    OPT_IN_VARIABLE,
    names_asked_for,
    near_misses,
)
from radgateway.telemetry.instruments import Instruments
from radgateway.telemetry.loop_lag import LoopLagMonitor
from radgateway.telemetry.trace_export import build_tracer_provider, close_tracer_provider
from radgateway.usage.estimate import Lengths

_log = logging.getLogger("radgateway.app")


class Foundation:
    """Where requests are counted, recorded and reported. Nothing runs before `starters` are called.

    What it is made from needs a restart to change (`config/restart.py`).
    """

    def __init__(
        self, config: GatewayConfig, instruments: Instruments, reloader: Callable[[], Reloader]
    ) -> None:
        self.instruments = instruments
        self.drain = Drain(drain_limits(config.server), _drain_told)
        self.hints = providers.breaker_hints(config)
        self.usage = usage.usage_writer(config, instruments)
        self.limits_state = limits.LimitsState(config.limits.on_storage_failure, instruments)
        self.storage = limits.limits_storage(config)
        self.accounts = limits.limit_accounts(config, self.storage, self.limits_state, instruments)
        self.latencies = LatencyBook(time.monotonic)
        self.lengths = Lengths()
        self.dependencies = DependencyWatch({}, standing.modes_shown(instruments))
        self.lag = LoopLagMonitor(instruments)
        self.secrets = secrets_refresher(config, instruments, reloader)
        self._trace(config)

    def _trace(self, config: GatewayConfig) -> None:
        tracing = config.telemetry.tracing
        self.collector = standing.CollectorState(enabled=tracing.enabled)
        self.tracer_provider = None
        # OpenTelemetry's own variable, which its SDKs read too: it is no setting of ours.
        opt_in = os.environ.get(OPT_IN_VARIABLE, "")
        self.genai_names = names_asked_for(opt_in)
        if tracing.enabled:
            for word in near_misses(opt_in):
                _log.warning(
                    "radgateway.tracing.opt_in_unknown", extra={"word": word, "known": OPT_IN}
                )
            self.tracer_provider = build_tracer_provider(
                tracing.exporter,
                tracing.otlp_endpoint,
                version=__version__,
                environment=config.environment,
                on_export=self.collector.exported,
            )

    @property
    def starters(self) -> list[Callable[[], object]]:
        """What has to be started, in the event loop that serves."""
        runs = (self.lag, self.dependencies, self.hints, self.usage, self.secrets)
        return [each.start for each in runs if each is not None]

    @property
    def watchers(self) -> list[Callable[[], Awaitable[object]]]:
        """What is closed first: it reports on all others, or changes them."""
        return [self.secrets.aclose, self.lag.aclose, self.dependencies.aclose]

    @property
    def closers(self) -> list[Callable[[], Awaitable[object]]]:
        """What is closed last, in this order: what reports before what it reports to."""
        closers: list[Callable[[], Awaitable[object]]] = []
        if self.hints is not None:
            closers.append(self.hints.aclose)
        # The accounts settle what they hold before their storage goes.
        closers += [self.usage.aclose, self.accounts.aclose, partial(close_storage, self.storage)]
        if self.tracer_provider is not None:
            closers.append(partial(close_tracer_provider, self.tracer_provider))
        return closers


def drain_limits(server: ServerConfig) -> DrainLimits:
    """How long the parts of a drain take."""
    return DrainLimits(
        timeout_s=server.drain_timeout_s,
        stream_timeout_s=server.stream_drain_timeout_s,
        delay_s=server.drain_delay_s,
    )


def _drain_told(phase: str, in_flight: int) -> None:
    _log.warning("radgateway.drain.%s", phase, extra={"in_flight": in_flight})
