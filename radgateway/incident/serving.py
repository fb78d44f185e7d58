"""Running the incident app: one process, since one owns the store."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable

from radgateway import __version__
from radgateway.exchange import Exchange
from radgateway.gateway import Gateway
from radgateway.incident.app import create_incident_app, make_instruments
from radgateway.incident.settings import IncidentConfig
from radgateway.server import address_of, bind, drain_on_signals
from radgateway.telemetry.audit_log import AuditLog
from radgateway.telemetry.logs import configure_logging
from radgateway.telemetry.request_log import RequestLog


def serve(config: IncidentConfig, announce: Callable[[str], None]) -> int:
    """Serve until a signal ends it; returns the exit code. `announce` gets the address, bound.

    Raises `StoreUnavailable`, or `OSError` where the address can't be listened on.
    """
    import uvicorn  # noqa: PLC0415 - an extra

    with contextlib.closing(bind(config.server.host, config.server.port)) as bound:
        settings = uvicorn.Config(
            _app(config),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            # The drain has waited already; what is still there now has had its time.
            timeout_graceful_shutdown=1,
            lifespan="on",
        )
        announce(address_of(bound))
        # uvicorn raises the signal again when it has shut down; by then it is no news.
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        server = uvicorn.Server(settings)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[bound])
        return 0 if server.started else 3


def _app(config: IncidentConfig) -> Gateway:
    instruments = make_instruments(config)
    logs = configure_logging(
        config.log_level,
        config.environment,
        __version__,
        on_dropped=instruments.log_lines_dropped.inc,
    )
    request = RequestLog(logs.writer, logs.format, level=logs.level).emit
    audit = AuditLog(logs.writer, logs.format).emit

    def ended(exchange: Exchange) -> None:
        request(exchange)
        audit(exchange)

    app = create_incident_app(
        config,
        instruments=instruments,
        on_end=ended,
        on_start=[lambda: drain_on_signals(app)],
    )
    app.closers.append(logs.aclose)
    return app
