"""The statements sent to the usage database, as DEBUG lines: for a developer's own machine.

The operations strategy wants them in the environment `local` (its 5.2); the app turns this logger
off everywhere else, whatever the log level.
"""

from __future__ import annotations

import logging
from typing import Final

LOGGER: Final = "radgateway.sql"

_log = logging.getLogger(LOGGER)


def wanted() -> bool:
    """Whether anybody wants to see statements; asked when a connection is opened."""
    return _log.isEnabledFor(logging.DEBUG)


def say(statement: str) -> None:
    """One statement."""
    _log.debug("radgateway.sql.statement", extra={"statement": " ".join(statement.split())})
