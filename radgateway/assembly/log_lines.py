"""What the app logs: where its lines go, and which ones a request leaves when it has ended."""

from __future__ import annotations

from select import PIPE_BUF

from radgateway.assembly.standing import running_version
from radgateway.config.schema import GatewayConfig
from radgateway.exchange import Exchange
from radgateway.telemetry.audit_log import AuditLog
from radgateway.telemetry.detail_log import DETAIL, Detail, DetailLog
from radgateway.telemetry.instruments import Instruments
from radgateway.telemetry.logs import Logging, configure_logging
from radgateway.telemetry.multiprocess import shared_directory
from radgateway.telemetry.request_log import RequestLog


def configured_logging(config: GatewayConfig, instruments: Instruments) -> Logging:
    """Direct this process's logs to JSON lines on stdout, as the environment has it."""
    return configure_logging(
        config.telemetry.log_level,
        config.environment,
        running_version(config),
        statements=_detail(config).statements,
        # Workers write to the same pipe, where their lines would mix.
        piece_bytes=PIPE_BUF if shared_directory() is not None else None,
        on_dropped=instruments.log_lines_dropped.inc,
    )


class RequestLines:
    """Writes a request's own line, the audit's, and the details its environment shows."""

    def __init__(self, config: GatewayConfig, logs: Logging) -> None:
        self._logs = logs
        self._audit = AuditLog(logs.writer, logs.format).emit
        self._make(config)

    def __call__(self, exchange: Exchange) -> None:
        """Write the lines of a request that has ended; never blocks."""
        if not self._detail.silent:
            self._detail.emit(exchange)
        self._request(exchange)
        self._audit(exchange)

    def configure(self, config: GatewayConfig) -> None:
        """Log at another configuration's level from now on."""
        self._logs.set_level(config.telemetry.log_level)
        self._make(config)

    def _make(self, config: GatewayConfig) -> None:
        writer, form, level = self._logs.writer, self._logs.format, self._logs.level
        self._request = RequestLog(writer, form, level=level).emit
        self._detail = DetailLog(writer, form, detail=_detail(config), level=level)


def _detail(config: GatewayConfig) -> Detail:
    return DETAIL.get(config.environment, Detail())
