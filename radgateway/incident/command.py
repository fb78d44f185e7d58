"""`radgateway incident`: the incident app, and asking it, from the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Final

from radgateway.incident import deploy_command, publish_command
from radgateway.incident.terminal import Run, as_json, asking, path_of, say, wrong

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
    publish_command.add_to(actions)
    deploy_command.add_to(actions)


def _add_reading(actions: Any) -> None:
    show = asking(actions, "list", _list, "list incidents, newest first")
    show.add_argument("--open", action="store_true", help="only those that are not over")
    show.add_argument("--severity", choices=_CHOICES["severity"], help="only those of this one")
    show.add_argument("--json", action="store_true", help="as the API answers")
    one = asking(actions, "show", _show, "show one in full", id_=True)
    one.add_argument("--json", action="store_true", help="as the API answers")
    asking(actions, "postmortem", _postmortem, "print the skeleton of its postmortem", id_=True)
    review = asking(actions, "review", _review, "which alerts were worth it")
    review.add_argument("--since", default="7d", metavar="TIME", help="from when (default: 7d)")
    review.add_argument("--json", action="store_true", help="as the API answers")


def _add_orders(actions: Any) -> None:
    report = asking(actions, "report", _report, "report one that no alert has noticed")
    report.add_argument("severity", choices=_CHOICES["severity"])
    report.add_argument("title", help="what is wrong, in a few words")
    report.add_argument("--text", default="", help="more of it")
    for name, (text, arguments) in _ORDERS.items():
        order = asking(actions, name, _order(name, arguments), text, id_=True)
        for argument in arguments:
            order.add_argument(argument, choices=_CHOICES[argument])
        if name == "note":
            order.add_argument("text", help="the line")
        else:
            order.add_argument("--text", default="", help="in your own words")
    close = asking(actions, "close", _close, "say that nothing is left to do", id_=True)
    close.add_argument("--postmortem", metavar="URL", help="where it is to be read")


def _serve(options: argparse.Namespace) -> int:
    try:
        from radgateway.incident.serving import serve  # noqa: PLC0415
        from radgateway.incident.settings import load_incident_config  # noqa: PLC0415
        from radgateway.incident.store import StoreUnavailable  # noqa: PLC0415

        config = load_incident_config(options.config)
        import uvicorn  # noqa: F401, PLC0415
    except ImportError as error:
        advice = f"needs {error.name}; install it with: pip install 'radgateway[server]'"
        return wrong(advice, 2)

    def announce(address: str) -> None:
        sys.stdout.write(f"radgateway incident ({config.environment}) on {address}\n")
        sys.stdout.flush()

    try:
        return serve(config, announce)
    except StoreUnavailable as error:
        return wrong(f"can't use the store: {error}", 1)
    except OSError as error:
        return wrong(f"can't listen: {error.strerror or error}", 1)


def _list(options: argparse.Namespace, app: Any) -> int:
    from radgateway.incident import tables  # noqa: PLC0415

    query = {"limit": "200"}
    if options.open:
        query["open"] = "true"
    if options.severity is not None:
        query["severity"] = options.severity
    found = app.get("/v0/incidents", query)
    return say(as_json(found) if options.json else tables.incidents(found["data"]))


def _show(options: argparse.Namespace, app: Any) -> int:
    from radgateway.incident import tables  # noqa: PLC0415

    found = app.get(path_of(options.id))
    return say(as_json(found) if options.json else tables.incident(found))


def _postmortem(options: argparse.Namespace, app: Any) -> int:
    return say(app.text(f"{path_of(options.id)}/postmortem"))


def _review(options: argparse.Namespace, app: Any) -> int:
    from radgateway.incident import tables  # noqa: PLC0415

    found = app.get("/v0/incidents/review", {"since": options.since})
    say(as_json(found) if options.json else tables.review(found))
    return 0 if found["verdict"] == "met" else 1


def _report(options: argparse.Namespace, app: Any) -> int:
    order = {"title": options.title, "severity": options.severity, "text": options.text}
    return say(f"{app.post('/v0/incidents', order)['id']}\n")


def _order(name: str, arguments: tuple[str, ...]) -> Run:
    def run(options: argparse.Namespace, app: Any) -> int:
        order = {argument: getattr(options, argument) for argument in arguments}
        found = app.post(f"{path_of(options.id)}/{name}", {**order, "text": options.text})
        return say(f"{found['id']} is {found['severity']}, {found['state']}\n")

    return run


def _close(options: argparse.Namespace, app: Any) -> int:
    found = app.post(f"{path_of(options.id)}/close", {"postmortem": options.postmortem})
    return say(f"{found['id']} is {found['state']}\n")
