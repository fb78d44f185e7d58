"""`radgateway incident publish`: what the public is told is shown first, and a person agrees."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final

from radgateway.incident.terminal import asking, path_of, say, wrong

_STATUSES: Final = ("investigating", "identified", "monitoring", "resolved")


def add_to(actions: Any) -> None:
    """Add `publish` to the commands of `radgateway incident`."""
    publish = asking(actions, "publish", _publish, "read the draft, then tell the public", id_=True)
    publish.add_argument("--status", choices=_STATUSES, help="make a draft of this status first")
    publish.add_argument("--body", help="with these words in place of the template's")
    publish.add_argument("--cause", help="of the end: the root cause in a few words")
    publish.add_argument("--link", metavar="URL", help="of the end: where the postmortem will be")
    publish.add_argument("--yes", action="store_true", help="do not ask")


def _publish(options: argparse.Namespace, app: Any) -> int:
    from radgateway.incident import tables  # noqa: PLC0415

    path = path_of(options.id)
    said = {name: getattr(options, name) for name in ("body", "cause", "link")}
    if options.status is not None:
        found = app.post(f"{path}/draft", {"status": options.status, **said})
    elif any(said.values()):
        raise ValueError("--body, --cause and --link need --status: they make a draft of their own")
    else:
        found = app.get(path)
    waiting = [each for each in found["drafts"] if each["state"] in ("draft", "failed")]
    if not waiting:
        raise ValueError(f"{found['id']} has no draft that waits; make one with --status")
    say(tables.draft(waiting[-1]))
    if not options.yes and not _agreed():
        return wrong("not published; the draft stays", 1)
    app.post(f"{path}/publish", {"number": waiting[-1]["number"]})
    return say("It is on its way to the status page.\n")


def _agreed() -> bool:
    sys.stdout.write("Publish this? Write yes: ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() == "yes"
