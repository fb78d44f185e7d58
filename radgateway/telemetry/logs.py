"""Structured logs: one JSON object a line, in the operations strategy's schema (its 5.2).

    @timestamp level message service version environment [request_id] [trace_id] [fields]

Only an application calls `configure_logging`; the library configures nothing, and its own log
lines go through `logging.getLogger("radgateway...")`, which any host can direct as it likes.
Lines of other libraries come out in the same schema. Secrets are removed last of all.
"""

from __future__ import annotations

import atexit
import functools
import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import IO, Any, Final

import msgspec
import structlog

from radgateway.asgi import StreamBroken
from radgateway.exchange import current_exchange
from radgateway.telemetry.log_writer import LogWriter
from radgateway.telemetry.redaction import REDACTED, is_secret, redact, scrub
from radgateway.usage.sql_log import LOGGER as SQL_LOGGER

SERVICE: Final = "rad-gateway"
AUDIT_LOGGERS: Final = ("radgateway.admin", "radgateway.audit")
"""Whose lines no level drops."""
LEVELS: Final = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40, "critical": 50}

_Event = MutableMapping[str, Any]
_NAMES: Final = tuple((number, name) for name, number in reversed(LEVELS.items()) if name != "warn")
_NO_EXTRAS: Final = frozenset(
    # What every record has; what another handler's formatter left on it; uvicorn's message for
    # terminals; and what a processor would take for the arguments of a message.
    (*vars(logging.makeLogRecord({})), "message", "asctime", "color_message", "positional_args")
)

_encode = msgspec.json.Encoder().encode
_RESERVED = frozenset({"event", "level", "request_id", "trace_id"})


class LineFormat:
    """Makes lines of the schema; knows what is the same on all of them."""

    __slots__ = ("_environment", "_version", "_wall")

    def __init__(
        self, version: str, environment: str, wall: Callable[[], float] = time.time
    ) -> None:
        self._version = version
        self._environment = environment
        self._wall = wall

    def line(
        self,
        level: str,
        message: str,
        fields: dict[str, Any],
        request_id: str = "",
        trace_id: str = "",
    ) -> bytes:
        """One line, ending in a newline. `fields` are taken as they are: redact them before."""
        entry: dict[str, Any] = {
            "@timestamp": timestamp(self._wall()),
            "level": level,
            "message": message,
            "service": SERVICE,
            "version": self._version,
            "environment": self._environment,
        }
        if request_id:
            entry["request_id"] = request_id
        if trace_id:
            entry["trace_id"] = trace_id
        if fields:
            entry["fields"] = fields
        try:
            return _encode(entry) + b"\n"
        except (TypeError, ValueError, UnicodeError, OverflowError):
            # A lone surrogate or an integer beyond 64 bits: the line matters more than its form.
            entry["message"] = _printable(message)
            entry["request_id"], entry["trace_id"] = _printable(request_id), _printable(trace_id)
            entry["fields"] = {_printable(key): _printable(value) for key, value in fields.items()}
            return _encode(entry) + b"\n"

    def dropped(self, count: int) -> bytes:
        """The line that owns up to lines that are missing."""
        return self.line("warning", "radgateway.log.dropped", {"lines": count})


def timestamp(unix_s: float) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    milliseconds = int(unix_s * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@functools.lru_cache(maxsize=2)
def _second(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class Logging:
    """What `configure_logging` set up. `writer` and `format` are what `RequestLog` needs."""

    def __init__(self, writer: LogWriter, form: LineFormat, level: int) -> None:
        self.writer = writer
        self.format = form
        self.level = level

    def set_level(self, name: str) -> None:
        """Log from this level on: one of `LEVELS`. structlog's loggers keep the one before."""
        self.level = level_of(name)
        _set_thresholds(self.level)

    async def aclose(self, timeout_s: float = 2.0) -> bool:
        """Write what is queued; False where the time ran out."""
        return await self.writer.aclose(timeout_s)


def configure_logging(
    level: str = "info",
    environment: str = "local",
    version: str = "",
    stream: IO[Any] | None = None,
    *,
    statements: bool = False,
    piece_bytes: int | None = None,
    on_dropped: Callable[[int], None] | None = None,
) -> Logging:
    """Direct this process's structlog and stdlib logging to JSON lines on `stream` (stdout).

    `level` is one of `LEVELS`; the audit's lines pass any. `statements` are those sent to the usage
    database, at DEBUG. `piece_bytes` is `LogWriter`'s. Python's warnings are lines too. uvicorn's
    access log is turned off: `RequestLog` has a line for each request. Start uvicorn with
    `log_config=None`, or it puts its own handlers back.
    """
    threshold = level_of(level)
    form = LineFormat(version, environment)
    writer = LogWriter(
        stream or sys.stdout, piece_bytes=piece_bytes, notice=form.dropped, on_dropped=on_dropped
    )
    atexit.register(writer.close, 1.0)  # the last lines before an exit nobody planned
    render = _Renderer(form)
    structlog.configure(
        processors=[structlog.processors.add_log_level, *_ENRICH, render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _LineLogger(writer),
        cache_logger_on_first_use=True,
    )
    _direct_stdlib(_Handler(writer, render), render, threshold)
    for name in AUDIT_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger(SQL_LOGGER).setLevel(logging.NOTSET if statements else logging.WARNING)
    return Logging(writer, form, threshold)


def level_of(name: str) -> int:
    """A level's number. Raises ValueError for a name that is none."""
    try:
        return LEVELS[name.lower()]
    except KeyError:
        raise ValueError(f"log_level must be one of {', '.join(LEVELS)}, not {name!r}") from None


_ENRICH: Final[list[Any]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
]


def _direct_stdlib(handler: logging.Handler, render: _Renderer, threshold: int) -> None:
    """Make one handler the only one, for all loggers."""
    handler.addFilter(_not_a_cut_stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_add_extras, structlog.stdlib.add_logger_name, _add_level, *_ENRICH],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render.text],
        )
    )
    logging.getLogger().handlers[:] = [handler]
    for logger in list(logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger) and not all(map(_is_null, logger.handlers)):
            # A server or library that was here first: its handler, its level and its form go.
            logger.handlers.clear()
            logger.setLevel(logging.NOTSET)
            logger.propagate = True
    logging.getLogger("uvicorn.access").propagate = False
    logging.captureWarnings(True)
    _set_thresholds(threshold)


def _set_thresholds(threshold: int) -> None:
    logging.getLogger().setLevel(threshold)
    # A line for each upstream request says nothing that the request's own line does not.
    for name in ("httpx", "httpcore", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


def _is_null(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.NullHandler)


def _add_extras(_logger: Any, _method: str, event: _Event) -> _Event:
    # What others name their extras must not replace what a line is.
    for key, value in vars(event["_record"]).items():
        if key not in _NO_EXTRAS:
            event.setdefault(key, value)
    return event


def _add_level(_logger: Any, _method: str, event: _Event) -> _Event:
    event["level"] = _level_name(event["_record"].levelno)
    return event


def _level_name(number: int) -> str:
    # The schema has five; a library's own, NOTICE or one without a name, is the next below.
    return next((name for least, name in _NAMES if number >= least), "debug")


class _Renderer:
    """The last structlog processor: splits an event into the schema and redacts it."""

    def __init__(self, form: LineFormat) -> None:
        self._format = form

    def __call__(self, _logger: Any, _method: str, event: _Event) -> bytes:
        request_id, trace_id = event.get("request_id", ""), event.get("trace_id", "")
        exchange = current_exchange.get()
        if exchange is not None:
            request_id = request_id or exchange.request_id
            trace_id = trace_id or exchange.trace_id
        fields = {
            scrub(key): REDACTED if is_secret(key, value) else redact(value)
            for key, value in event.items()
            if key not in _RESERVED
        }
        return self._format.line(
            event.get("level", "info"),
            scrub(str(event.get("event", ""))),
            fields,
            scrub(str(request_id)),
            scrub(str(trace_id)),
        )

    def text(self, logger: Any, method: str, event: _Event) -> str:
        """The same as text, which a stdlib formatter has to return."""
        return self(logger, method, event).decode()


class _LineLogger:
    """What structlog's bound loggers write to."""

    def __init__(self, writer: LogWriter) -> None:
        self._write = writer.write

    def msg(self, line: bytes) -> None:
        """Write one rendered line."""
        self._write(line)

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


class _Handler(logging.Handler):
    """The stdlib's way to the writer."""

    def __init__(self, writer: LogWriter, render: _Renderer) -> None:
        super().__init__()
        self._write = writer.write
        self._render = render

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode()
        except Exception as error:  # logging's own rule: a line that fails must not fail its caller
            line = self._as_it_came(record, error)
        self._write(line)

    def _as_it_came(self, record: logging.LogRecord, error: Exception) -> bytes:
        # What logging does instead, `handleError`, prints the arguments to stderr: secrets and
        # all, in no schema, and waiting where nobody reads.
        event = {
            "event": redact(record.msg),
            "level": _level_name(record.levelno),
            "logger": record.name,
            "args": record.args,
            "not_formatted": type(error).__name__,
        }
        return self._render(None, "", event)


def _not_a_cut_stream(record: logging.LogRecord) -> bool:
    # Cutting the connection is what StreamBroken is for; the server takes it for a crash.
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, BaseExceptionGroup):
        return error.split(StreamBroken)[1] is not None
    return not isinstance(error, StreamBroken)


def _printable(value: Any) -> str:
    return str(value).encode("utf-8", "backslashreplace").decode()
