"""`radgateway slo generate | show`: the SLO pack from the command line."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

DESCRIPTION = "Make alerts, their tests and dashboards from the objectives of the service."
_START = """\
start here:
  radgateway slo show                                    objectives, budgets, thresholds, alerts
  radgateway slo generate --out DIR                      write the pack
  radgateway slo generate --out DIR --check              say what differs, for CI
  radgateway slo generate --out DIR --objectives my.yaml the same with your objectives
  radgateway slo generate --out DIR --config gateway.yaml with those that the gateway reports on

my.yaml may hold as little as the job's name:

  job: rad-gateway
  objectives:
    availability: {target: 0.999, window_days: 30}
    first_token_p95: {target: 0.95, below_s: 5, window_days: 7}
    first_token_p99: {target: 0.99, below_s: 10, window_days: 7}
"""
_CODES = (
    "exit codes: 0 done, 1 the files differ, 2 objectives that can't be used, or no such folder"
)

_BEGINNING_BYTES = 1_024
"""How much of a file is read to see whether it was generated."""


def add_to(commands: Any) -> None:
    """Add `slo` and its own commands to the command line's."""
    raw = argparse.RawDescriptionHelpFormatter
    slo = commands.add_parser(
        "slo",
        help="make alerts and dashboards from objectives",
        description=DESCRIPTION,
        epilog=_START,
        formatter_class=raw,
    )
    actions = slo.add_subparsers(title="commands", required=True, metavar="COMMAND")
    generate = actions.add_parser(
        "generate",
        help="write the pack, or check that it is as it should be",
        description="Write rules and their tests, Alertmanager's configuration, dashboards, and "
        "the stack they run in.",
        epilog=_CODES,
        formatter_class=raw,
    )
    generate.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder")
    generate.add_argument(
        "--check", action="store_true", help="write nothing; show what differs and exit with 1"
    )
    generate.set_defaults(run=_generate)
    show = actions.add_parser(
        "show",
        help="show objectives, budgets, thresholds and alerts",
        description="Show objectives, error budgets, burn rates and alerts as tables.",
    )
    show.add_argument("--markdown", action="store_true", help="as Markdown")
    show.set_defaults(run=_show)
    for command in (generate, show):
        command.add_argument(
            "--objectives", type=Path, metavar="FILE", help="a YAML file (default: the strategy's)"
        )
        command.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help="a gateway's configuration, whose objectives (its section slo) are taken",
        )


def _generate(options: argparse.Namespace) -> int:
    from radgateway.slo.pack import artefacts  # noqa: PLC0415 - only when asked for
    from radgateway.slo.settings_file import load_settings  # noqa: PLC0415

    made = artefacts(load_settings(options.objectives, options.config))
    try:
        if options.check:
            differences = [*_differences(options.out, made), *_left_over(options.out, made)]
            sys.stdout.writelines(differences)
            return 1 if differences else 0
        for name, text in made.items():
            file = options.out / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"radgateway: {error}\n")
        return 2
    sys.stdout.write(f"{len(made)} files in {options.out}\n")
    return 0


def _differences(folder: Path, made: Mapping[str, str]) -> Iterator[str]:
    """What `generate` would change, as a unified diff."""
    for name, text in made.items():
        file = folder / name
        there = file.read_text(encoding="utf-8") if file.exists() else ""
        yield from difflib.unified_diff(
            there.splitlines(keepends=True),
            text.splitlines(keepends=True),
            str(file),
            f"{file} as it should be",
        )


def _left_over(folder: Path, made: Mapping[str, str]) -> Iterator[str]:
    """Files that were generated once and are not any more."""
    from radgateway.slo.stack import GENERATED  # noqa: PLC0415

    for file in sorted(folder.rglob("*")):
        if file.relative_to(folder).as_posix() in made or not file.is_file():
            continue
        with file.open("rb") as opened:
            begins = opened.read(_BEGINNING_BYTES)
        if GENERATED.encode() in begins:
            yield f"{file} is no longer made: remove it\n"


def _show(options: argparse.Namespace) -> int:
    from radgateway.slo.settings_file import load_settings  # noqa: PLC0415
    from radgateway.slo.tables import tables  # noqa: PLC0415

    shown = tables(load_settings(options.objectives, options.config)).values()
    parts = (
        f"## {table.title}\n\n{table.as_markdown()}" if options.markdown else table.as_text()
        for table in shown
    )
    sys.stdout.write("\n\n".join(parts) + "\n")
    return 0
