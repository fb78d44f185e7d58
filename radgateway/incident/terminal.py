"""What the commands of `radgateway incident` have in common: whom they ask, and what they print."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

Run = Callable[[argparse.Namespace, Any], int]
"""What a command does with its options and the app that it asks; gives the exit code."""


def asking(
    actions: Any, name: str, run: Run, text: str, *, id_: bool = False
) -> argparse.ArgumentParser:
    """Add a command that asks a running app, of an incident where it takes an id."""
    made: argparse.ArgumentParser = actions.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    if id_:
        made.add_argument("id", metavar="ID", help="as INC-17")
    made.add_argument("--url", help="where the app runs (default: RAD_INCIDENT_URL)")
    made.add_argument("--key", metavar="REF", help="env:NAME or file:PATH (RAD_INCIDENT_KEY)")
    made.set_defaults(run=_told(run))
    return made


def _told(run: Run) -> Callable[[argparse.Namespace], int]:
    """A command with the app that it asks, its errors as a line and an exit code."""

    def told(options: argparse.Namespace) -> int:
        from radgateway.incident.asked_over_http import Unanswered, app_of  # noqa: PLC0415

        try:
            return run(options, app_of(options.url, options.key, os.environ))
        except Unanswered as error:
            return wrong(str(error), 1)
        except ValueError as error:
            return wrong(str(error), 2)

    return told


def path_of(id_: str) -> str:
    """Where an incident is."""
    return f"/v0/incidents/{quote(id_, safe='')}"


def as_json(found: Any) -> str:
    """As the API answers."""
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def say(text: str) -> int:
    """Print a text; the exit code of what went well."""
    sys.stdout.write(text)
    return 0


def wrong(message: str, code: int) -> int:
    """Say on standard error what is wrong; the exit code."""
    sys.stderr.write(f"radgateway: {message}\n")
    return code
