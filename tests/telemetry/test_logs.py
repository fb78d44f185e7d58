"""Every line is one JSON object in the strategy's schema, whoever logged it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from logging_state import logging_put_back

from radgateway.asgi import StreamBroken
from radgateway.exchange import Exchange, current_exchange
from radgateway.telemetry.logs import LineFormat, Logging, configure_logging, level_of, timestamp
from radgateway.usage import sql_log


class Captured:
    """Logging directed to a buffer."""

    def __init__(self, level: str, *, statements: bool = False) -> None:
        self._stream = io.BytesIO()
        self.logging: Logging = configure_logging(
            level, "staging", "abc123", self._stream, statements=statements
        )

    def lines(self) -> list[dict[str, Any]]:
        """Everything logged, after a flush."""
        assert self.logging.writer.close()
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave the process's logging as it was."""
    with logging_put_back():
        yield


def test_a_structlog_line_has_the_schema() -> None:
    """All fields of the strategy, the rest under `fields`."""
    captured = Captured("info")
    structlog.get_logger().info("radgateway.breaker.opened", provider="openai", calls=3)
    (line,) = captured.lines()
    assert line.pop("@timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "message": "radgateway.breaker.opened",
        "service": "rad-gateway",
        "version": "abc123",
        "environment": "staging",
        "fields": {"provider": "openai", "calls": 3},
    }


def test_a_stdlib_line_has_the_schema() -> None:
    """Other libraries' lines, with their logger's name and extras."""
    captured = Captured("info")
    logging.getLogger("somebody.else").warning("slow: %d ms", 12, extra={"shard": 3})
    (line,) = captured.lines()
    assert (line["level"], line["message"]) == ("warning", "slow: 12 ms")
    assert line["fields"] == {"logger": "somebody.else", "shard": 3}


def test_an_extra_can_not_replace_what_a_line_is() -> None:
    """Whatever a library calls its fields, the level stays a level and the logger its name."""
    captured = Captured("info")
    extra = {"level": 3, "logger": "y", "event": "z", "positional_args": (1,), "note": 1}
    logging.getLogger("x").warning("m", extra=extra)
    (line,) = captured.lines()
    assert (line["level"], line["message"]) == ("warning", "m")
    assert line["fields"] == {"logger": "x", "note": 1}


@pytest.mark.parametrize(
    ("number", "level"),
    [(21, "info"), (25, "info"), (35, "warning"), (45, "error"), (60, "critical")],
)
def test_a_librarys_own_level_is_one_of_the_schemas(number: int, level: str) -> None:
    """The next below, whether it has a name or none."""
    captured = Captured("info")
    logging.getLogger("x").log(number, "m")
    assert [line["level"] for line in captured.lines()] == [level]


def test_who_logged_by_itself_logs_here_too() -> None:
    """A server that set its loggers up first has its lines in the schema, at our level, once."""
    own = io.StringIO()
    server = logging.getLogger("test_logs.server")
    server.addHandler(logging.StreamHandler(own))
    server.setLevel(logging.DEBUG)
    server.propagate = False
    silent = logging.getLogger("test_logs.silent")
    silent.addHandler(logging.NullHandler())
    silent.propagate = False
    captured = Captured("warn")
    server.info("started")
    server.warning("stopped")
    silent.error("nobody wants to know")
    assert [line["message"] for line in captured.lines()] == ["stopped"]
    assert own.getvalue() == ""


def test_what_another_handler_left_on_a_record_is_no_field() -> None:
    """Nor is what a server says to terminals."""
    captured = Captured("info")
    record = logging.makeLogRecord({"name": "x", "msg": "m", "levelno": 20, "color_message": "c"})
    logging.Formatter("%(asctime)s %(message)s").format(record)
    logging.getLogger("x").handle(record)
    (line,) = captured.lines()
    assert line["fields"] == {"logger": "x"}


def test_warnings_are_lines() -> None:
    """Python's own go to stderr otherwise, in no schema."""
    captured = Captured("warn")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old, and sk-canary-0123456789abcdef in it", stacklevel=1)
    (line,) = captured.lines()
    assert line["level"] == "warning"
    assert "UserWarning: old, and [redacted] in it" in line["message"]


class Unprintable:
    """An object that has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("given", "message", "fields"),
    [
        (("%d of %s", "sk-canary-0123456789abcdef"), "%d of %s", {"args": ["[redacted]"]}),
        (("a key %s, and %s", "x"), "a key %s, and %s", {"args": ["x"]}),
        ((Unprintable(),), "<Unprintable>", {"args": []}),
    ],
)
def test_a_line_that_can_not_be_formatted_is_still_one(
    given: Any, message: str, fields: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """In the schema and without secrets: logging's own way is a traceback to stderr with all the
    arguments."""
    captured = Captured("info")
    exchange = Exchange("req-1")
    token = current_exchange.set(exchange)
    logging.getLogger("x").warning(*given)
    current_exchange.reset(token)
    (line,) = captured.lines()
    assert (line["level"], line["message"], line["request_id"]) == ("warning", message, "req-1")
    error = line["fields"].pop("not_formatted")
    assert error in {"TypeError", "RuntimeError"}
    assert line["fields"] == {"logger": "x", **fields}
    assert capsys.readouterr().err == ""


def test_lines_within_a_request_carry_its_ids() -> None:
    """The request id and trace id of the record, without anybody passing them."""
    captured = Captured("info")
    exchange = Exchange("req-1")
    exchange.trace_id = "ab" * 16
    token = current_exchange.set(exchange)
    structlog.get_logger().info("one")
    logging.getLogger("x").warning("two")
    current_exchange.reset(token)
    structlog.get_logger().info("three")
    one, two, three = captured.lines()
    for line in (one, two):
        assert (line["request_id"], line["trace_id"]) == ("req-1", "ab" * 16)
    assert "request_id" not in three
    assert "fields" not in three


@pytest.mark.parametrize(
    ("level", "expected"),
    [("debug", 4), ("info", 3), ("warn", 2), ("error", 1)],
)
def test_the_level_is_a_threshold(level: str, expected: int) -> None:
    """For both ways of logging alike."""
    captured = Captured(level)
    for logger in (structlog.get_logger(), logging.getLogger("x")):
        for name in ("debug", "info", "warning", "error"):
            getattr(logger, name)(name)
    assert len(captured.lines()) == 2 * expected


def test_an_unknown_level_is_named() -> None:
    """The error lists what there is."""
    with pytest.raises(ValueError, match="debug, info"):
        level_of("loud")


def test_secrets_do_not_come_through() -> None:
    """Not in a message, a field, an exception's text or a nested header."""
    captured = Captured("debug")
    key = "sk-canary-0123456789abcdef"
    logger = structlog.get_logger()
    logger.info(f"key {key}", api_key="plain", nested={"headers": [(b"x-api-key", b"plain")]})
    try:
        raise ValueError(f"upstream said {key}")
    except ValueError:
        logger.exception("failed")
        logging.getLogger("x").exception("failed with %s", key)
    lines = captured.lines()
    text = json.dumps(lines)
    assert len(lines) == 3
    assert key not in text
    assert "plain" not in text
    assert "ValueError: upstream said [redacted]" in lines[1]["fields"]["exception"]


def test_a_cut_stream_is_no_crash() -> None:
    """The server's traceback for the exception that cuts a connection is left out; others stay."""
    captured = Captured("info")
    for error in (
        StreamBroken("idle_timeout"),
        ExceptionGroup("taskgroup", [StreamBroken("idle_timeout")]),
        RuntimeError("bug"),
    ):
        logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error)
    (line,) = captured.lines()
    assert "RuntimeError: bug" in line["fields"]["exception"]


def test_the_servers_access_log_is_off() -> None:
    """Each request has its own line; two would be one too many."""
    captured = Captured("debug")
    logging.getLogger("uvicorn.access").info('"GET / HTTP/1.1" 200')
    logging.getLogger("httpx").info("HTTP Request: POST https://api.openai.com")
    assert captured.lines() == []


def test_odd_values_do_not_cost_the_line() -> None:
    """Surrogates, huge integers, objects and NaN are written somehow."""
    captured = Captured("info")
    structlog.get_logger().info("odd \ud800", text="\udfff", big=10**40, thing=object(), nan=1e999)
    (line,) = captured.lines()
    assert line["message"].startswith("odd")
    assert line["fields"]["big"] in (10**40, str(10**40))


def test_timestamps_are_utc_to_the_millisecond() -> None:
    """RFC 3339, as log stores sort it."""
    assert timestamp(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"
    assert timestamp(1_700_000_000.0) == "2023-11-14T22:13:20.000Z"


def test_empty_ids_and_fields_are_left_out() -> None:
    """As the strategy's `omitempty`."""
    line = json.loads(LineFormat("1", "local", wall=lambda: 0.0).line("info", "m", {}))
    assert sorted(line) == ["@timestamp", "environment", "level", "message", "service", "version"]


EMBEDDED = """
import asyncio, logging, structlog
import radgateway, radgateway.telemetry.logs, radgateway.assembly.log_lines

def state():
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    ours = [l for l in loggers if isinstance(l, logging.Logger)
            and (l is loggers[0] or l.name.startswith(("radgateway", "uvicorn", "httpx")))]
    return [(l.name, l.level, l.handlers, l.filters, l.propagate) for l in ours if
            l.level or l.handlers or l.filters or not l.propagate], structlog.is_configured()

before = state()
async def serve():
    gateway = radgateway.create_gateway({"keys": [{"name": "k", "secret": "key-1"}],
        "providers": {"m": {"kind": "mock"}}, "models": {"m": {"candidates": [{"provider": "m"}]}},
        "storage": {"usage": "memory://"}})
    statuses = []
    async def receive():
        return {"type": "http.request", "body": b"{}", "more_body": False}
    async def send(message):
        statuses.append(message.get("status"))
    for path in ("/v1/chat/completions", "/health"):
        await gateway({"type": "http", "method": "GET", "path": path, "headers": [],
                       "query_string": b"", "root_path": ""}, receive, send)
    await gateway.aclose()
    return statuses
assert asyncio.run(serve())[0] == 401
assert before == ([("root", 30, [], [], True)], False), before
assert state() == before, state()
"""


def test_the_library_configures_nothing() -> None:
    """Imported, built, asked and closed in somebody's app, it leaves that one's logging alone."""
    ran = subprocess.run([sys.executable, "-c", EMBEDDED], timeout=30, capture_output=True)
    assert ran.returncode == 0, ran.stderr.decode()


@pytest.mark.parametrize("level", ["info", "critical"])
@pytest.mark.parametrize("name", ["radgateway.admin", "radgateway.audit"])
def test_no_level_drops_the_audits_lines(level: str, name: str) -> None:
    """An audit that can be turned off is none."""
    captured = Captured(level)
    logging.getLogger(name).info("radgateway.audit.test")
    assert [line["message"] for line in captured.lines()] == ["radgateway.audit.test"]


@pytest.mark.parametrize("statements", [True, False])
def test_statements_show_where_they_are_asked_for(statements: bool) -> None:
    """A level alone does not do it: who sets production to DEBUG gets none."""
    captured = Captured("debug", statements=statements)
    assert sql_log.wanted() is statements
    sql_log.say("SELECT\n    1")
    assert [line["fields"]["statement"] for line in captured.lines()] == ["SELECT 1"] * statements
