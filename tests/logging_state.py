"""The process's logging, put back after a test that configures it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import structlog

from radgateway.telemetry.logs import Logging

LOGGERS = (
    "",
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
    "httpx",
    "httpcore",
    "httpx2",
    "httpcore2",
    "radgateway.admin",
    "radgateway.audit",
    "radgateway.sql",
)


@contextmanager
def logging_put_back() -> Iterator[None]:
    """Whatever the block does to handlers, levels and structlog is undone."""
    before = [
        (logger, logger.handlers[:], logger.level, logger.propagate)
        for logger in map(logging.getLogger, LOGGERS)
    ]
    try:
        yield
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
        for logger, handlers, level, propagate in before:
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagate


def lines_of(stream: StringIO, logs: Logging) -> list[dict[str, Any]]:
    """Everything logged to a stream, after the writer has been closed."""
    assert logs.writer.close()
    return [json.loads(line) for line in stream.getvalue().splitlines()]
