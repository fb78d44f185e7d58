"""DetailLog: what is worth reading while a system is built, and too much or too private later.

The operations strategy (its 5.2) wants request bodies where a developer works and what providers
were asked and answered in the alpha environment. Which environment gets what is decided here and
not by the log level alone: a production that is set to DEBUG for an hour still shows no body.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from radgateway.dialects.base import Ask
from radgateway.exchange import Attempt, Exchange
from radgateway.telemetry.log_writer import LogWriter
from radgateway.telemetry.logs import LineFormat
from radgateway.telemetry.redaction import redact, scrub, scrub_name

BODY: Final = "radgateway.request.body"
PROVIDER: Final = "radgateway.provider.exchange"
BODY_LIMIT: Final = 64 * 1024
"""Bytes of the largest body that is shown; of a larger one only its size is."""


class Detail(NamedTuple):
    """What an environment's log shows beyond what all of them show."""

    bodies: bool = False
    """The callers' request bodies, at DEBUG."""
    statements: bool = False
    """Statements sent to the usage database, at DEBUG."""
    providers: bool = False
    """A line for each attempt with what went to the provider and came back, at INFO."""


DETAIL: Final[Mapping[str, Detail]] = {
    "local": Detail(bodies=True, statements=True, providers=True),
    "alpha": Detail(providers=True),
}
"""By environment; any other shows none of it."""

_SHOWN: Final = (
    b"content-type",
    b"content-length",
    b"retry-after",
    b"request-id",
    b"openai-processing-ms",
    b"openai-version",
    b"cf-ray",
)
_SHOWN_FAMILIES: Final = (b"x-ratelimit-", b"anthropic-ratelimit-")
_HEADERS_MAX: Final = 32


class DetailLog:
    """Writes the lines of finished requests, as far as `detail` and `level` allow."""

    def __init__(
        self, writer: LogWriter, form: LineFormat, *, detail: Detail, level: int = logging.INFO
    ) -> None:
        self._write = writer.write
        self._line = form.line
        self._bodies = detail.bodies and level <= logging.DEBUG
        self._providers = detail.providers and level <= logging.INFO

    @property
    def silent(self) -> bool:
        """Whether it writes nothing at all."""
        return not (self._bodies or self._providers)

    def emit(self, exchange: Exchange) -> None:
        """Write what is to be seen of a finished request; never blocks."""
        if self._bodies and exchange.ask is not None:
            self._say("debug", BODY, _body(exchange.ask), exchange)
        if self._providers:
            ended = exchange.ended
            now = ended if ended is not None else exchange.clock()
            for ordinal, attempt in enumerate(exchange.attempts, 1):
                self._say("info", PROVIDER, _attempt(exchange, attempt, ordinal, now), exchange)

    def _say(self, level: str, message: str, fields: dict[str, Any], exchange: Exchange) -> None:
        self._write(self._line(level, message, fields, exchange.request_id, exchange.trace_id))


def _body(ask: Ask) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "bytes": len(ask.body),
        "content_type": scrub_name(ask.content_type.decode("latin-1")),
    }
    if len(ask.body) <= BODY_LIMIT:
        # What is not JSON, a form with a sound file in it for one, is not shown.
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            fields["body"] = redact(msgspec.json.decode(ask.body))
    return fields


def _attempt(exchange: Exchange, attempt: Attempt, ordinal: int, now: float) -> dict[str, Any]:
    ask = exchange.ask
    fields: dict[str, Any] = {
        "attempt": ordinal,
        "provider": attempt.provider,
        "model": scrub_name(attempt.model),
        "route": exchange.route,
        "stream": exchange.stream,
        "request_bytes": len(ask.body) if ask is not None else None,
        "status": attempt.status,
        "failure": attempt.failure,
        "sent": attempt.sent,
        "connect_ms": _ms(attempt.connect_s),
        "first_byte_ms": (
            _ms(attempt.first_byte - attempt.started) if attempt.first_byte is not None else None
        ),
        "waited_ms": _ms(attempt.waited_s),
        "longest_gap_ms": _ms(attempt.longest_gap_s),
        "duration_ms": _ms(attempt.latency_s(now)),
        "headers": _headers(attempt),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _headers(attempt: Attempt) -> dict[str, str]:
    """The answer's headers that tell of limits and of the provider's own request."""
    shown: dict[str, str] = {}
    for name, value in attempt.response_headers:
        lowered = name.lower()
        if lowered in _SHOWN or lowered.startswith(_SHOWN_FAMILIES):
            shown[scrub_name(lowered.decode("latin-1"))] = scrub(value.decode("latin-1"))
            if len(shown) == _HEADERS_MAX:
                break
    return shown


def _ms(seconds: float | None) -> float | None:
    return int(seconds * 1e6) / 1e3 if seconds is not None else None
