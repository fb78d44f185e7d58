"""`radgateway openapi`: the document on standard output."""

from __future__ import annotations

import argparse
import sys
from typing import Any

_EPILOG = """\
  radgateway openapi > openapi.json
A running gateway serves the same at /v0/management/openapi.json, to an admin key.
"""


def add_to(commands: Any) -> None:
    """Add `openapi` to the command line's commands."""
    openapi = commands.add_parser(
        "openapi",
        help="print the OpenAPI document",
        description="Print the OpenAPI 3.1 document of the management API and of all own errors.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    openapi.set_defaults(run=_print)


def _print(options: argparse.Namespace) -> int:
    import json  # noqa: PLC0415 - only when asked for

    from radgateway.openapi.document import document  # noqa: PLC0415 - the same

    sys.stdout.write(json.dumps(document(), indent=2, ensure_ascii=False) + "\n")
    return 0
