"""`radgateway incident deploy begin | end`: quiet while something is deployed."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final
from urllib.parse import quote

from radgateway.incident.terminal import asking, say

_UNITS: Final = {"s": 1, "m": 60, "h": 3600}


def add_to(actions: Any) -> None:
    """Add `deploy` and its two ends to the commands of `radgateway incident`."""
    deploy = actions.add_parser("deploy", help="silence what a deployment makes noisy")
    ends = deploy.add_subparsers(title="commands", required=True, metavar="COMMAND")
    begin = asking(ends, "begin", _begin, "silence all but the pages; prints the deployment's id")
    begin.add_argument("version")
    begin.add_argument("--environment", required=True, metavar="NAME", help="where to")
    begin.add_argument(
        "--for",
        dest="seconds",
        type=_seconds,
        default=900.0,
        metavar="TIME",
        help="after which the silence ends by itself (default: 15m)",
    )
    begin.add_argument("--id", metavar="NAME", help="what to call it; may be begun again by it")
    end = asking(ends, "end", _end, "end the silence of a deployment")
    end.add_argument("id", metavar="ID")
    outcomes = ("deployed", "rolled_back", "failed")
    end.add_argument("--outcome", choices=outcomes, default="deployed", help="(default: deployed)")


def _begin(options: argparse.Namespace, app: Any) -> int:
    order = {
        "version": options.version,
        "environment": options.environment,
        "duration_s": options.seconds,
        "id": options.id,
    }
    found = app.post("/v0/deployments", order)
    if found["silence"] is None:
        sys.stderr.write("radgateway: nothing is silenced: no alertmanager is configured\n")
    return say(f"{found['id']}\n")


def _end(options: argparse.Namespace, app: Any) -> int:
    path = f"/v0/deployments/{quote(options.id, safe='')}/end"
    found = app.post(path, {"outcome": options.outcome})
    return say(f"{found['id']}: {found['outcome']}\n")


def _seconds(text: str) -> float:
    unit = _UNITS.get(text[-1:])
    if unit is None or not text[:-1].isdigit() or len(text) > 7:
        raise argparse.ArgumentTypeError("write a time as 90s, 15m or 1h")
    return float(int(text[:-1]) * unit)
