"""The audit says who, from where, what and with which outcome, and of nothing else."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from radgateway.exchange import Exchange, Principal
from radgateway.telemetry.audit_log import AuditLog
from radgateway.telemetry.declared import AUTH_FAILURES
from radgateway.telemetry.log_writer import LogWriter
from radgateway.telemetry.logs import LineFormat


def audited(**fields: Any) -> list[dict[str, Any]]:
    """What is written for one request."""
    stream = io.BytesIO()
    writer = LogWriter(stream)
    exchange = Exchange("req-1", "GET", lambda: 10.0)
    exchange.peer, exchange.path, exchange.ended = "192.0.2.7", "/v0/management/config", 10.5
    exchange.trace_id = "ab" * 16
    for name, value in fields.items():
        setattr(exchange, name, value)
    AuditLog(writer, LineFormat("1", "production")).emit(exchange)
    assert writer.close()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_admins_request_is_kept() -> None:
    """Reading too: who looked at what is part of the story."""
    (line,) = audited(status=200, principal=Principal("ops", admin=True))
    assert (line["message"], line["level"]) == ("radgateway.audit.admin", "info")
    assert (line["request_id"], line["trace_id"]) == ("req-1", "ab" * 16)
    assert line["fields"] == {
        "by": "ops",
        "from": "192.0.2.7",
        "method": "GET",
        "path": "/v0/management/config",
        "status": 200,
        "outcome": "success",
    }


@pytest.mark.parametrize("code", [*AUTH_FAILURES, "auth_unavailable"])
def test_a_refusal_of_authentication_is_kept(code: str) -> None:
    """On every path and for every reason, with the name where the key was one of ours."""
    who = Principal("alice") if code == "admin_key_required" else None
    (line,) = audited(status=401, error_code=code, principal=who)
    assert line["message"] == "radgateway.audit.authentication"
    assert line["fields"]["outcome"] == code
    assert line["fields"]["by"] == (who.name if who else None)


@pytest.mark.parametrize(
    ("status", "code"), [(200, None), (429, "rate_limited"), (404, "unknown_model")]
)
def test_a_known_callers_request_is_not(status: int, code: str | None) -> None:
    """That is what the usage ledger is for."""
    assert audited(status=status, error_code=code, principal=Principal("alice")) == []


def test_what_the_caller_chose_is_scrubbed() -> None:
    """A key in a path is none in the audit."""
    (line,) = audited(status=401, error_code="missing_api_key", path="/v1/sk-abcdefghijkl\ud800")
    assert line["fields"]["path"] == "/v1/[redacted]?"
