"""AuditLog: who was let in where it matters, and who was not.

One line for each request to the management API, whatever became of it, and one for each request
that authentication refused: who, from where, what, and the outcome. What a change consisted of is
in a line of its own (`radgateway.admin...`, `radgateway.faults...`) with the same request id. No
log level drops any of them. Requests of known callers to models are in the usage ledger instead.
"""

from __future__ import annotations

from typing import Final

from radgateway.exchange import Exchange
from radgateway.telemetry.declared import AUTH_FAILURES
from radgateway.telemetry.log_writer import LogWriter
from radgateway.telemetry.logs import LineFormat
from radgateway.telemetry.redaction import scrub_name

AUTHENTICATION: Final = "radgateway.audit.authentication"
ADMIN: Final = "radgateway.audit.admin"
_REFUSED: Final = frozenset((*AUTH_FAILURES, "auth_unavailable"))


class AuditLog:
    """Writes the lines of finished requests."""

    def __init__(self, writer: LogWriter, form: LineFormat) -> None:
        self._write = writer.write
        self._line = form.line

    def emit(self, exchange: Exchange) -> None:
        """Write a request's line where it is one to be kept; never blocks."""
        principal, code = exchange.principal, exchange.error_code
        if code in _REFUSED:
            message, outcome = AUTHENTICATION, code
        elif principal is not None and principal.admin:
            message, outcome = ADMIN, exchange.outcome
        else:
            return
        fields = {
            "by": principal.name if principal is not None else None,
            "from": exchange.peer,
            "method": scrub_name(exchange.method),
            "path": scrub_name(exchange.path),
            "status": exchange.reported_status,
            "outcome": outcome,
        }
        self._write(self._line("info", message, fields, exchange.request_id, exchange.trace_id))
