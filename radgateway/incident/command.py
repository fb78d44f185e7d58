"""`radgateway incident`: the incident app, and asking it, from the command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_START = """\
start here:
  radgateway incident serve --config incident.yaml        take alerts, tell people, keep a record
  radgateway incident list --open                         what is wrong now
  radgateway incident acknowledge INC-17                  say that you have it
  radgateway incident show INC-17                         alerts, timeline, the draft that waits
  radgateway incident publish INC-17                      read the draft, then tell the public
  radgateway incident postmortem INC-17 > pm.md           with the timeline filled in
  radgateway incident close INC-17 --postmortem URL
  radgateway incident review --since 7d                   which alerts were worth it
  radgateway incident deploy begin 1.4.2 --environment production --for 15m
  radgateway incident deploy end ID

All but `serve` ask a running app: --url, else RAD_INCIDENT_URL, else http://127.0.0.1:8095, with
--key REF, else the key in RAD_INCIDENT_KEY. Keys are references: env:NAME or file:PATH.

exit codes: 0 done, 1 the app does not answer, a draft was not published, or the review's target is
not met, 2 wrong arguments, or the app refuses
"""
_SERVE = """\
Alertmanager posts to /v0/incidents/alertmanager; the generated configuration of `radgateway slo
generate` does. A notification is answered once it is on the disk, and what has to be told is sent
from there: a crash repeats at most, and loses nothing. One process owns the file.

  environment: production
  store: /var/lib/radgateway/incidents.db
  sources: [{name: alertmanager, secret: "file:/run/secrets/incident_source_key"}]
  responders: [{name: alice, secret: "env:ALICE_KEY"}]
  slack: {war_room: "file:/run/secrets/slack_war_room"}
  statuspage: {page: kctbh9vrtdwd, token: "env:STATUSPAGE_TOKEN"}
  alertmanager: {url: "http://alertmanager:9093"}
"""
_ORDERS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "acknowledge": ("say that you have it", ()),
    "severity": ("say how bad it is", ("severity",)),
    "respond": ("say that the mitigation has begun", ()),
    "note": ("add a line to the timeline", ()),
    "resolve": ("say that it is over, and verified", ()),
    "verdict": ("say whether the alert was worth it", ("verdict",)),
}
_CHOICES: Final = {
    "severity": ("SEV-1", "SEV-2", "SEV-3", "SEV-4"),
    "verdict": ("useful", "false_positive"),
}
_STATUSES: Final = ("investigating", "identified", "monitoring", "resolved")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}


def add_to(commands: Any) -> None:
    """Add `incident` and its own commands to the command line's."""
    raw = argparse.RawDescriptionHelpFormatter
    incident = commands.add_parser(
        "incident",
        help="take alerts, tell people, keep the record",
        description="Make incidents of alerts, tell those concerned, and keep the record.",
        epilog=_START,
        formatter_class=raw,
    )
    actions = incident.add_subparsers(title="commands", required=True, metavar="COMMAND")
    serve = actions.add_parser(
        "serve",
        help="serve the incident app",
        description="Serve the incident app.",
        epilog=_SERVE,
        formatter_class=raw,
    )
    serve.add_argument("--config", type=Path, required=True, metavar="FILE", help="a YAML file")
    serve.set_defaults(run=_serve)
    _add_reading(actions)
    _add_orders(actions)
    _add_publish(actions)
    _add_deploy(actions)


def _add_reading(actions: Any) -> None:
    show = _asking(actions, "list", _list, "list incidents, newest first")
    show.add_argument("--open", action="store_true", help="only those that are not over")
    show.add_argument("--severity", choices=_CHOICES["severity"], help="only those of this one")
    show.add_argument("--json", action="store_true", help="as the API answers")
    one = _asking(actions, "show", _show, "show one in full", id_=True)
    one.add_argument("--json", action="store_true", help="as the API answers")
    _asking(actions, "postmortem", _postmortem, "print the skeleton of its postmortem", id_=True)
    review = _asking(actions, "review", _review, "which alerts were worth it")
    review.add_argument("--since", default="7d", metavar="TIME", help="from when (default: 7d)")
    review.add_argument("--json", action="store_true", help="as the API answers")


def _add_orders(actions: Any) -> None:
    report = _asking(actions, "report", _report, "report one that no alert has noticed")
    report.add_argument("severity", choices=_CHOICES["severity"])
    report.add_argument("title", help="what is wrong, in a few words")
    report.add_argument("--text", default="", help="more of it")
    for name, (text, arguments) in _ORDERS.items():
        order = _asking(actions, name, _order(name, arguments), text, id_=True)
        for argument in arguments:
            order.add_argument(argument, choices=_CHOICES[argument])
        if name == "note":
            order.add_argument("text", help="the line")
        else:
            order.add_argument("--text", default="", help="in your own words")
    close = _asking(actions, "close", _close, "say that nothing is left to do", id_=True)
    close.add_argument("--postmortem", metavar="URL", help="where it is to be read")


def _add_publish(actions: Any) -> None:
    publish = _asking(
        actions, "publish", _publish, "read the draft, then tell the public", id_=True
    )
    publish.add_argument("--status", choices=_STATUSES, help="make a draft of this status first")
    publish.add_argument("--body", help="with these words in place of the template's")
    publish.add_argument("--cause", help="of the end: the root cause in a few words")
    publish.add_argument("--link", metavar="URL", help="of the end: where the postmortem will be")
    publish.add_argument("--yes", action="store_true", help="do not ask")


def _add_deploy(actions: Any) -> None:
    deploy = actions.add_parser("deploy", help="silence what a deployment makes noisy")
    ends = deploy.add_subparsers(title="commands", required=True, metavar="COMMAND")
    begin = _asking(ends, "begin", _begin, "silence all but the pages; prints the deployment's id")
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
    end = _asking(ends, "end", _end, "end the silence of a deployment")
    end.add_argument("id", metavar="ID")
    outcomes = ("deployed", "rolled_back", "failed")
    end.add_argument("--outcome", choices=outcomes, default="deployed", help="(default: deployed)")


def _asking(
    actions: Any, name: str, run: Callable[..., int], text: str, *, id_: bool = False
) -> argparse.ArgumentParser:
    """One command that asks a running app."""
    made: argparse.ArgumentParser = actions.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    if id_:
        made.add_argument("id", metavar="ID", help="as INC-17")
    made.add_argument("--url", help="where the app runs (default: RAD_INCIDENT_URL)")
    made.add_argument("--key", metavar="REF", help="env:NAME or file:PATH (RAD_INCIDENT_KEY)")
    made.set_defaults(run=_told(run))
    return made


def _told(run: Callable[[argparse.Namespace, Any], int]) -> Callable[[argparse.Namespace], int]:
    """A command with the app that it asks, its errors as a line and an exit code."""

    def told(options: argparse.Namespace) -> int:
        from radgateway.incident.asked_over_http import Unanswered, app_of  # noqa: PLC0415

        try:
            return run(options, app_of(options.url, options.key, os.environ))
        except Unanswered as error:
            return _wrong(str(error), 1)
        except ValueError as error:
            return _wrong(str(error), 2)

    return told


def _serve(options: argparse.Namespace) -> int:
    try:
        from radgateway.incident.serving import serve  # noqa: PLC0415
        from radgateway.incident.settings import load_incident_config  # noqa: PLC0415
        from radgateway.incident.store import StoreUnavailable  # noqa: PLC0415

        config = load_incident_config(options.config)
        import uvicorn  # noqa: F401, PLC0415
    except ImportError as error:
        advice = f"needs {error.name}; install it with: pip install 'radgateway[server]'"
        return _wrong(advice, 2)

    def announce(address: str) -> None:
        sys.stdout.write(f"radgateway incident ({config.environment}) on {address}\n")
        sys.stdout.flush()

    try:
        return serve(config, announce)
    except StoreUnavailable as error:
        return _wrong(f"can't use the store: {error}", 1)
    except OSError as error:
        return _wrong(f"can't listen: {error.strerror or error}", 1)


def _list(options: argparse.Namespace, app: Any) -> int:
    from radgateway.incident import tables  # noqa: PLC0415

    query = {"limit": "200"}
    if options.open:
        query["open"] = "true"
    if options.severity is not None:
        query["severity"] = options.severity
    found = app.get("/v0/incidents", query)
    return _print(_json(found) if options.json else tables.incidents(found["data"]))


def _show(options: argparse.Namespace, app: Any) -> int:
    from radgateway.incident import tables  # noqa: PLC0415

    found = app.get(_path(options.id))
    return _print(_json(found) if options.json else tables.incident(found))


def _postmortem(options: argparse.Namespace, app: Any) -> int:
    return _print(app.text(f"{_path(options.id)}/postmortem"))


def _review(options: argparse.Namespace, app: Any) -> int:
    from radgateway.incident import tables  # noqa: PLC0415

    found = app.get("/v0/incidents/review", {"since": options.since})
    _print(_json(found) if options.json else tables.review(found))
    return 0 if found["verdict"] == "met" else 1


def _report(options: argparse.Namespace, app: Any) -> int:
    order = {"title": options.title, "severity": options.severity, "text": options.text}
    return _print(f"{app.post('/v0/incidents', order)['id']}\n")


def _order(name: str, arguments: tuple[str, ...]) -> Callable[[argparse.Namespace, Any], int]:
    def run(options: argparse.Namespace, app: Any) -> int:
        order = {argument: getattr(options, argument) for argument in arguments}
        found = app.post(f"{_path(options.id)}/{name}", {**order, "text": options.text})
        return _print(f"{found['id']} is {found['severity']}, {found['state']}\n")

    return run


def _close(options: argparse.Namespace, app: Any) -> int:
    found = app.post(f"{_path(options.id)}/close", {"postmortem": options.postmortem})
    return _print(f"{found['id']} is {found['state']}\n")


def _publish(options: argparse.Namespace, app: Any) -> int:
    from radgateway.incident import tables  # noqa: PLC0415

    path = _path(options.id)
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
    _print(tables.draft(waiting[-1]))
    if not options.yes and not _agreed():
        return _wrong("not published; the draft stays", 1)
    app.post(f"{path}/publish", {"number": waiting[-1]["number"]})
    return _print("It is on its way to the status page.\n")


def _agreed() -> bool:
    sys.stdout.write("Publish this? Write yes: ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() == "yes"


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
    return _print(f"{found['id']}\n")


def _end(options: argparse.Namespace, app: Any) -> int:
    from urllib.parse import quote  # noqa: PLC0415

    path = f"/v0/deployments/{quote(options.id, safe='')}/end"
    found = app.post(path, {"outcome": options.outcome})
    return _print(f"{found['id']}: {found['outcome']}\n")


def _path(id_: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415

    return f"/v0/incidents/{quote(id_, safe='')}"


def _seconds(text: str) -> float:
    unit = _UNITS.get(text[-1:])
    if unit is None or not text[:-1].isdigit() or len(text) > 7:
        raise argparse.ArgumentTypeError("write a time as 90s, 15m or 1h")
    return float(int(text[:-1]) * unit)


def _json(found: Any) -> str:
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _print(text: str) -> int:
    sys.stdout.write(text)
    return 0


def _wrong(message: str, code: int) -> int:
    sys.stderr.write(f"radgateway: {message}\n")
    return code
