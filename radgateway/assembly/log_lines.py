"""What the app logs: where its lines go, and which ones a request leaves when it has ended."""

from __future__ import annotations

from collections.abc import Callable

from radgateway.assembly.standing import running_version
from radgateway.config.schema import GatewayConfig
from radgateway.exchange import Exchange
from radgateway.telemetry.audit_log import AuditLog
from radgateway.telemetry.detail_log import DETAIL, Detail, DetailLog
from radgateway.telemetry.instruments import Instruments
from radgateway.telemetry.logs import Logging, configure_logging
from radgateway.telemetry.request_log import RequestLog


def configured_logging(config: GatewayConfig, instruments: Instruments) -> Logging:
    """Direct this process's logs to JSON lines on stdout, as the environment has it."""
    return configure_logging(
        config.telemetry.log_level,
        config.environment,
        running_version(config),
        statements=_detail(config).statements,
        on_dropped=instruments.log_lines_dropped.inc,
    )


def request_lines(config: GatewayConfig, logs: Logging) -> Callable[[Exchange], None]:
    """What writes a request's own line, the audit's, and the details its environment shows."""
    writer, form, level = logs.writer, logs.format, logs.level
    request = RequestLog(writer, form, level=level).emit
    audit = AuditLog(writer, form).emit
    detail = DetailLog(writer, form, detail=_detail(config), level=level)

    def ended(exchange: Exchange) -> None:
        if not detail.silent:
            detail.emit(exchange)
        request(exchange)
        audit(exchange)

    return ended


def _detail(config: GatewayConfig) -> Detail:
    return DETAIL.get(config.environment, Detail())
