"""`radgateway release`: the questions a release asks, from the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from radgateway.release import run

DESCRIPTION = "Judge a release: by what Prometheus measures and by what CI and people attest."
_CODES = """\
exit codes: 0 go, 1 no-go, 2 can't be judged, or arguments and files that can't be used.
What can't be measured, and what nobody has attested, is never a pass.
"""
_START = f"""\
start here:
  radgateway release evidence > evidence.yaml      what CI and people attest: a form to fill in
  radgateway release gate alpha staging --evidence evidence.yaml
  radgateway release go-no-go --evidence evidence.yaml --prometheus http://prometheus.staging:9090
  radgateway release window                              may production be deployed to now?
  radgateway release canary --template analysistemplates.yaml --prometheus http://prometheus:9090
  radgateway release rollback-check --prometheus http://prometheus:9090
  radgateway release exit-criteria --evidence evidence.yaml --prometheus http://prometheus.staging:9090

Thresholds are the strategy's; --thresholds FILE has others:

  job: rad-gateway
  go_no_go: {{p95_s: 0.5, soak_h: 48}}
  windows: {{zone: Europe/Berlin, freezes: [{{name: fair, first: 2027-04-12, last: 2027-04-16}}]}}

{_CODES}"""
_GATE = f"""\
gates: local alpha, alpha staging, staging production. The last one asks the Prometheus of staging
whether it serves this version, and needs the deployment window to be open.

  radgateway release gate local alpha --evidence evidence.yaml
  radgateway release gate staging production --evidence evidence.yaml \\
      --prometheus http://prometheus.staging:9090 --thresholds thresholds.yaml

{_CODES}"""
_GO = f"""\
  radgateway release go-no-go --evidence evidence.yaml --prometheus http://prometheus.staging:9090

An error rate from 0.5 to 1 % in staging is a conditional go, which needs risk_assessment among the
evidence. A P95 from 800 to 1000 ms is a go with monitoring: deploy with an extended canary.

{_CODES}"""
_CANARY = f"""\
Reads the AnalysisTemplates that a cluster's Argo Rollouts gets, measures as they say, and ends as
soon as the verdict is certain. Canary and stable version are told apart by the label `track`.

  radgateway release canary --prometheus http://prometheus:9090 \\
      --template examples/kubernetes/components/canary/analysistemplates.yaml

{_CODES}"""
_ROLLBACK = f"""\
  radgateway release rollback-check --prometheus http://prometheus:9090 --track canary
  radgateway release rollback-check --prometheus http://prometheus:9090 \\
      --incidents https://incidents.internal --incidents-token env:RAD_INCIDENT_KEY

Exit 1 says that a trigger is met: roll back, by examples/release/rollback.sh. Exit 2 says
that nobody can tell; look yourself.

{_CODES}"""
_EXIT = f"""\
  radgateway release exit-criteria --evidence evidence.yaml --prometheus http://prometheus.staging:9090

Prometheus has to keep 8 days or more. Each day and each hour needs 30 requests to be judged.

{_CODES}"""
_WINDOW = f"""\
  radgateway release window                              production, now
  radgateway release window --at 2026-11-27T10:00:00Z    then
  radgateway release window --evidence hotfix.yaml       for the release of this evidence

Hours are local to the zone of --thresholds (UTC by default). Closed says when it opens.

{_CODES}"""
_EVIDENCE = """\
  radgateway release evidence > evidence.yaml     a form with every entry, to fill in
  radgateway release evidence evidence.yaml       check one that is filled in

exit codes: 0 printed, or it can be used; 2 it can't be used
"""


def add_to(commands: Any) -> None:
    """Add `release` and its own commands to the command line's."""
    release = _parser(commands, "release", "judge a release", DESCRIPTION, _START)
    actions = release.add_subparsers(title="commands", required=True, metavar="COMMAND")

    gate = _parser(
        actions,
        "gate",
        "may a version go from one environment into the next?",
        "Judge a promotion by the gate between two environments.",
        _GATE,
    )
    gate.add_argument("source", metavar="FROM", help="local, alpha or staging")
    gate.add_argument("target", metavar="TO", help="alpha, staging or production")
    _evidence(gate)
    _prometheus(gate, "of the environment FROM")
    gate.set_defaults(run=run.gate)

    go = _parser(
        actions,
        "go-no-go",
        "the checklist before production",
        "Judge the strategy's checklist before a deployment to production.",
        _GO,
    )
    _evidence(go)
    _prometheus(go, "of staging")
    go.set_defaults(run=run.go_no_go)

    canary = _parser(
        actions,
        "canary",
        "judge a canary by its AnalysisTemplates",
        "Watch a canary until it is certain whether to promote it.",
        _CANARY,
    )
    canary.add_argument(
        "--template", type=Path, action="append", required=True, metavar="FILE",
        help="AnalysisTemplates in YAML; may be repeated",
    )  # fmt: skip
    canary.add_argument(
        "--arg", type=_pair, action="append", default=[], metavar="NAME=VALUE",
        help="an argument of the templates; may be repeated",
    )  # fmt: skip
    canary.add_argument(
        "--for", dest="for_s", type=_duration, default="1h", metavar="TIME",
        help="give up after (default: 1h); what has no count is judged then",
    )  # fmt: skip
    _prometheus(canary, "to ask in place of the templates' address")
    _json(canary)
    canary.set_defaults(run=run.canary)

    rollback = _parser(
        actions,
        "rollback-check",
        "is a rollback trigger met?",
        "Judge the automatic rollback triggers now.",
        _ROLLBACK,
    )
    rollback.add_argument("--track", choices=("canary", "stable"), help="only series of this track")
    _incidents(rollback, "whose open incidents to ask for: a SEV-1 is a trigger")
    _prometheus(rollback, "of production")
    _common(rollback)
    rollback.set_defaults(run=run.rollback_check)

    leave = _parser(
        actions,
        "exit-criteria",
        "is alpha over?",
        "Judge the launch exit criteria, from alpha to beta.",
        _EXIT,
    )
    _evidence(leave)
    _incidents(leave, "whose review of P1 alerts to ask for (default: that of the evidence)")
    _prometheus(leave, "of staging")
    leave.set_defaults(run=run.exit_criteria)

    window = _parser(
        actions,
        "window",
        "may a deployment begin now?",
        "Say whether a deployment window is open, and until or from when.",
        _WINDOW,
    )
    window.add_argument(
        "environment", nargs="?", default="production", metavar="ENVIRONMENT",
        choices=("local", "alpha", "staging", "production"), help="(default: production)",
    )  # fmt: skip
    window.add_argument(
        "--evidence", type=Path, metavar="FILE", help="of the release; a hotfix needs its approvals"
    )
    _common(window)
    window.set_defaults(run=run.window)

    evidence = _parser(
        actions,
        "evidence",
        "a form for the evidence, or check one",
        "Print a form for the evidence file, or check one that is filled in.",
        _EVIDENCE,
    )
    evidence.add_argument("file", type=Path, nargs="?", metavar="FILE", help="the one to check")
    evidence.set_defaults(run=run.evidence)


def _parser(
    commands: Any, name: str, help_: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _evidence(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--evidence", type=Path, required=True, metavar="FILE", help="what was attested, in YAML"
    )
    parser.add_argument("--version", help="refuse evidence of another version than this one")
    _common(parser)


def _prometheus(parser: argparse.ArgumentParser, whose: str) -> None:
    parser.add_argument("--prometheus", metavar="URL", help=f"the Prometheus {whose}")
    parser.add_argument(
        "--prometheus-token", metavar="REF", help="a bearer token, as env:NAME or file:PATH"
    )


def _incidents(parser: argparse.ArgumentParser, help_: str) -> None:
    parser.add_argument("--incidents", metavar="URL", help=f"the incident app, {help_}")
    parser.add_argument(
        "--incidents-token",
        metavar="REF",
        help="a key of its, as env:NAME or file:PATH",
    )


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--thresholds", type=Path, metavar="FILE", help="a YAML file (default: the strategy's)"
    )
    parser.add_argument("--at", metavar="TIME", help="judge as of this time (default: now)")
    _json(parser)


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="JSON in place of the table")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    return name, value


def _duration(text: str) -> float:
    from radgateway.release.analysis import duration_s, is_duration  # noqa: PLC0415

    if not is_duration(text) or not 0 < duration_s(text) <= 86_400:
        raise argparse.ArgumentTypeError("must be a duration such as 90s or 1h30m, up to 24h")
    return duration_s(text)
