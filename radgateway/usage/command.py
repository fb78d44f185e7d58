"""`radgateway usage`: what there is to do with the ledger from the command line."""

from __future__ import annotations

import argparse
from typing import Any

from radgateway.usage import migrate_command, report_command

_START = """\
start here:
  radgateway usage report                              the last 7 days by model
  radgateway usage report --since 30d --by day,key     who used what each day
  radgateway usage migrate --check                     whether the ledger's schema is this version's
"""


def add_to(commands: Any) -> None:
    """Add `usage` and its own commands to the command line's."""
    usage = commands.add_parser(
        "usage",
        help="see to the usage ledger",
        description="See to the usage ledger.",
        epilog=_START,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = usage.add_subparsers(title="commands", required=True, metavar="COMMAND")
    report_command.add_to(actions)
    migrate_command.add_to(actions)
