"""`radgateway readiness`: what is still open before production, from the command line."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

_EPILOG = """\
The boxes are the strategy's: 33 of production, 5 of the team, 6 of the launch. Each is proven by
tests, by commands, or by a person who attests it; what nobody has shown is open.

  radgateway readiness                             every box, and how it is proven
  pytest --junitxml=fast.xml -m 'not ops'; pytest --junitxml=ops.xml -m ops
  radgateway readiness --tests fast.xml --tests ops.xml --evidence readiness-evidence.yaml
  radgateway readiness --tests fast.xml --tests ops.xml --evidence readiness-evidence.yaml --check

readiness-evidence.yaml has what people attest, and that the commands ended well, by the box's id:

  boxes:
    dns: {result: passed, by: grace, at: 2026-11-24, link: "https://wiki.internal/dns"}

A word counts for 92 days (--max-age-days), as the strategy is reviewed every quarter.

exit codes: 0 shown; with --check every box is ticked, 1 with --check one is not, 2 wrong arguments,
or a file that can't be used
"""


def add_to(commands: Any) -> None:
    """Add `readiness` to the command line's commands."""
    readiness = commands.add_parser(
        "readiness",
        help="what is still open before production",
        description="Show the readiness checklist: each box, how it is proven, and its state.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    readiness.add_argument(
        "--tests", type=Path, action="append", default=[], metavar="FILE",
        help="what pytest --junitxml has written; may be repeated",
    )  # fmt: skip
    readiness.add_argument(
        "--evidence", type=Path, metavar="FILE", help="a YAML file with what people attest"
    )
    readiness.add_argument(
        "--max-age-days", type=_days, default=92, metavar="N",
        help="how long a person's word counts (default: 92)",
    )  # fmt: skip
    readiness.add_argument("--check", action="store_true", help="exit with 1 unless all are ticked")
    readiness.add_argument("--json", action="store_true", help="as JSON, with every test's id")
    readiness.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from radgateway.readiness import report  # noqa: PLC0415 - only when asked for
    from radgateway.readiness.attested import load_attested  # noqa: PLC0415
    from radgateway.readiness.checklist import load_checklist  # noqa: PLC0415
    from radgateway.readiness.results import load_results  # noqa: PLC0415

    checklist = load_checklist()
    attested = load_attested(options.evidence, checklist) if options.evidence else {}
    judged = report.judge(
        checklist,
        load_results(options.tests),
        attested,
        datetime.now(UTC),
        timedelta(days=options.max_age_days),
    )
    values = report.as_values(judged)
    if options.json:
        sys.stdout.write(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(report.as_text(judged))
    return 1 if options.check and not values["ready"] else 0


def _days(text: str) -> int:
    days = int(text)
    if not 1 <= days <= 3660:
        raise argparse.ArgumentTypeError("write a number of days from 1 to 3660")
    return days
