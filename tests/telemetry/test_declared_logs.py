"""The lines are what was declared, in both directions: read from the sources, and from a record."""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest

import radgateway
from radgateway.dialects.base import Ask
from radgateway.exchange import Exchange, Principal, Usage
from radgateway.inbound.drain import Phase
from radgateway.operations.fault_switch import _EVENTS
from radgateway.provider.circuit.standing import STATES, Note
from radgateway.telemetry import audit_log, detail_log, request_log
from radgateway.telemetry.declared_logs import ATTEMPT_FIELDS, LINES, REQUEST_FIELDS, SCHEMA
from radgateway.telemetry.log_writer import LogWriter
from radgateway.telemetry.logs import AUDIT_LOGGERS, LineFormat

SOURCES = Path(radgateway.__file__).parent
METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
WRITTEN = {
    request_log.MESSAGE,
    detail_log.BODY,
    detail_log.PROVIDER,
    audit_log.ADMIN,
    audit_log.AUTHENTICATION,
}
"""Names of lines that are written past the standard library."""


class Call(NamedTuple):
    """One place where a line is logged."""

    where: str
    method: str
    name: str
    """A regular expression: what is filled in at run time is open."""
    fields: frozenset[str] | None
    """None where they are made up elsewhere."""
    logger: str
    """How it is got, as the source says it."""


def calls() -> Iterator[Call]:
    """Every call of a logger in the package."""
    for path in sorted(SOURCES.rglob("*.py")):
        tree = ast.parse(path.read_text())
        loggers = {
            target.id: ast.unparse(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and "getLogger" in ast.unparse(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in METHODS
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in loggers
            ):
                logger = loggers[node.func.value.id]
                yield call(f"{path.name}:{node.lineno}", node.func.attr, node, logger)


def call(where: str, method: str, node: ast.Call, logger: str) -> Call:
    """What one call says."""
    text = node.args[1] if method == "log" else node.args[0]
    if isinstance(text, ast.JoinedStr):
        name = "".join(
            re.escape(str(part.value)) if isinstance(part, ast.Constant) else r"\w+"
            for part in text.values
        )
    else:
        assert isinstance(text, ast.Constant), where
        name = re.escape(str(text.value).partition(":")[0]).replace("%s", r"\w+")
    fields: frozenset[str] | None = frozenset()
    for keyword in node.keywords:
        if keyword.arg == "extra":
            fields = None
            if isinstance(keyword.value, ast.Dict):
                keys = [key.value for key in keyword.value.keys if isinstance(key, ast.Constant)]
                fields = frozenset(str(key) for key in keys)
    return Call(where, method, name, fields, logger)


CALLS = list(calls())


@pytest.mark.parametrize("made", CALLS, ids=[each.where for each in CALLS])
def test_every_line_in_the_sources_is_declared(made: Call) -> None:
    """Its name, its level and its fields."""
    matching = [line for line in LINES.values() if made in callers(line.name)]
    assert matching, f"{made.name} at {made.where} is not declared"
    level = {"exception": "error"}.get(made.method, made.method)
    assert any(
        level in ("log", *line.levels) and (made.fields is None or made.fields <= line.fields)
        for line in matching
    ), made.where


def callers(name: str) -> list[Call]:
    """Where a line comes from: the places that name it, else those that put the name together."""
    exact = [made for made in CALLS if made.name == re.escape(name)]
    return exact or [made for made in CALLS if re.fullmatch(made.name, name)]


@pytest.mark.parametrize("name", sorted(LINES))
def test_every_declared_line_is_somewhere_in_the_sources(name: str) -> None:
    """What is declared and never logged is a promise that nobody keeps."""
    if name in WRITTEN:
        return
    if name == "radgateway.log.dropped":
        line = json.loads(LineFormat("1", "x").dropped(3))
        assert line["message"] == name
        assert set(line["fields"]) == LINES[name].fields
        return
    made = callers(name)
    assert made
    if all(each.fields is not None for each in made):
        fields = frozenset(field for each in made for field in each.fields or ())
        assert fields == LINES[name].fields


@pytest.mark.parametrize("name", sorted(set(LINES) - WRITTEN - {"radgateway.log.dropped"}))
def test_a_line_that_no_level_drops_is_the_audits(name: str) -> None:
    """What is declared so goes through a logger of the audit's, and nothing else does."""
    audit = {f"logging.getLogger('{logger}')" for logger in AUDIT_LOGGERS}
    assert {made.logger in audit for made in callers(name)} == {LINES[name].always}


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("breaker", {state.replace("-", "_") for state in STATES} | set(get_args(Note))),
        ("drain", set(get_args(Phase))),
        ("faults", {"armed", "aborted", *_EVENTS.values()}),
    ],
)
def test_what_is_filled_in_is_declared(prefix: str, words: set[str]) -> None:
    """The words that complete a name at run time come from closed sets: all are there."""
    start = f"radgateway.{prefix}."
    assert {name.removeprefix(start) for name in LINES if name.startswith(start)} == words


def full() -> Exchange:
    """A record in which all has happened that its line tells of."""
    exchange = Exchange("r1", "POST", lambda: 10.0)
    exchange.status, exchange.first_byte, exchange.ended = 503, 10.1, 10.5
    exchange.principal, exchange.model = Principal("alice"), "m"
    exchange.backed_off_s = exchange.queued_s = 0.1
    exchange.limited, exchange.error_code, exchange.interrupted = "tokens", "overloaded", "idle"
    attempt = exchange.begin_attempt("p", "m", None)
    attempt.usage, attempt.cost_usd, attempt.failure = Usage(1, 2), Decimal(1), "idle_timeout"
    attempt.hedge = True
    exchange.trace_id = "ab" * 16
    return exchange


def written() -> dict[str, Any]:
    """Its line."""
    stream = io.BytesIO()
    writer = LogWriter(stream)
    request_log.RequestLog(writer, LineFormat("1", "staging")).emit(full())
    assert writer.close()
    line: dict[str, Any] = json.loads(stream.getvalue())
    return line


def test_a_full_line_has_the_declared_fields_in_order() -> None:
    """The schema's, the request's and each attempt's, and no other."""
    line = written()
    assert list(line) == list(SCHEMA)
    assert set(line["fields"]) == set(REQUEST_FIELDS)
    assert set(line["fields"]["attempts"][0]) == set(ATTEMPT_FIELDS)


def test_the_other_lines_of_a_request_have_the_declared_fields() -> None:
    """The audit's and the details'."""
    exchange = full()
    exchange.error_code = "invalid_api_key"
    exchange.ask = Ask("/v1/chat/completions", b"application/json", b"{}", "m", False)
    attempt = exchange.attempts[0]
    attempt.connect_s, attempt.first_byte, attempt.status = 0.1, 10.2, 200
    stream = io.BytesIO()
    writer, form = LogWriter(stream), LineFormat("1", "local")
    detail = detail_log.DetailLog(writer, form, detail=detail_log.DETAIL["local"], level=0)
    audit = audit_log.AuditLog(writer, form)
    detail.emit(exchange)
    audit.emit(exchange)
    exchange.error_code, exchange.principal = None, Principal("ops", admin=True)
    audit.emit(exchange)
    assert writer.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {line["message"] for line in lines} | {request_log.MESSAGE} == WRITTEN
    for line in lines:
        assert set(line["fields"]) == LINES[line["message"]].fields
        assert line["level"] in LINES[line["message"]].levels
