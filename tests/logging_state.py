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


@contextmanager
def logging_put_back() -> Iterator[None]:
    """Whatever the block does to handlers, levels and structlog is undone."""
    before = {
        logger: (logger.handlers[:], logger.level, logger.propagate) for logger in all_loggers()
    }
    try:
        yield
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
        logging.captureWarnings(False)
        for logger in all_loggers():
            logger.handlers[:], level, logger.propagate = before.get(logger, ([], 0, True))
            logger.setLevel(level)


def all_loggers() -> list[logging.Logger]:
    """Every logger there is by now."""
    known = logging.Logger.manager.loggerDict.values()
    return [
        logging.getLogger(),
        *(logger for logger in known if isinstance(logger, logging.Logger)),
    ]


def lines_of(stream: StringIO, logs: Logging) -> list[dict[str, Any]]:
    """Everything logged to a stream, after the writer has been closed."""
    assert logs.writer.close()
    return [json.loads(line) for line in stream.getvalue().splitlines()]
