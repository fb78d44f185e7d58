"""`radgateway usage migrate`: bring the ledger's schema up to date, or see whether it is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radgateway.usage.configured import config_of_ledger

if TYPE_CHECKING:
    from radgateway.usage.ledger import SQLiteLedger
    from radgateway.usage.postgres_ledger import PostgresLedger

_EPILOG = """\
A gateway does so by itself with its first row. Do it beforehand where there are many rows, or
where the gateway's own role may not create tables.

  radgateway usage migrate --config gateway.yaml --check
  radgateway usage migrate --config gateway.yaml

The ledger is that of the configuration (--config, else RADGATEWAY_CONFIG, else the embedded one).

exit codes: 0 the schema is current, 1 with --check: it is not, 2 a configuration that can't be
used, a ledger that does not answer, or one that a newer version has changed
"""


def add_to(actions: Any) -> None:
    """Add it to the commands of `usage`."""
    migrate = actions.add_parser(
        "migrate",
        help="bring the ledger's schema up to date",
        description="Take the steps that the ledger's schema lacks.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    migrate.add_argument("--config", type=Path, metavar="FILE", help="whose ledger")
    migrate.add_argument("--check", action="store_true", help="only say whether it is")
    migrate.set_defaults(run=_migrate)


def _migrate(options: argparse.Namespace) -> int:
    from radgateway.usage import schema  # noqa: PLC0415 - not needed by other commands
    from radgateway.usage.ledger import LedgerUnavailable  # noqa: PLC0415
    from radgateway.usage.migrations import HEAD  # noqa: PLC0415

    try:
        ledger = _ledger(options.config)
    except (ValueError, ImportError) as error:
        return _wrong(str(error))
    try:
        before = ledger.version()
        if schema.is_current(before):
            _print(f"the schema is {before}, which is current")
            return 0
        if options.check:
            _print(f"the schema is {before or 'not there yet'}; {HEAD} is current")
            return 1
        ledger.migrate()
        _print(f"the schema was {before or 'not there'} and is {ledger.version()} now")
    except (LedgerUnavailable, schema.SchemaTooNew) as error:
        return _wrong(str(error))
    finally:
        ledger.close()
    return 0


def _ledger(file: Path | None) -> SQLiteLedger | PostgresLedger:
    """The ledger of a configuration. Raises `ValueError`."""
    from radgateway.assembly.usage import ledger_of  # noqa: PLC0415
    from radgateway.usage.ledger import MemoryLedger  # noqa: PLC0415

    ledger = ledger_of(config_of_ledger(file))
    if isinstance(ledger, MemoryLedger):
        raise ValueError("this configuration keeps usage in memory, which has no schema")
    return ledger


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


def _wrong(message: str) -> int:
    sys.stderr.write(f"radgateway: {message}\n")
    return 2
