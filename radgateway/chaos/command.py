"""`radgateway chaos list [NAME] | run NAME`: the experiments from the command line."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radgateway.chaos.experiment import Report
    from radgateway.chaos.lab import Live, Options

DESCRIPTION = "Try a hypothesis about the gateway by breaking something on purpose."
_START = """\
start here:
  radgateway chaos list                     what can be tried
  radgateway chaos list provider-failure    one of them: method, blast radius, abort, thresholds
  radgateway chaos run provider-failure     try it in a sandbox, which touches nothing else
"""
_EPILOG = """\
Without --url it all happens in a sandbox: real processes on this machine, gone at the end.
With --url the faults are armed in a gateway that runs, for a limited time, over its management
API; it must serve MODEL to --key. Keys are references: env:NAME or file:PATH.

  radgateway chaos run provider-failure
  radgateway chaos run provider-failure --set providers.first.breaker=null    what if?
  radgateway chaos run provider-latency --url https://gateway.staging --model gpt-4o-mini \\
      --admin-key env:RAD_ADMIN_KEY --key env:RAD_KEY --report latency.md

exit codes: 0 the hypothesis held, 1 it was refuted, 2 not run or aborted
"""


def add_to(commands: Any) -> None:
    """Add `chaos` and its own commands to the command line's."""
    raw = argparse.RawDescriptionHelpFormatter
    chaos = commands.add_parser(
        "chaos",
        help="run chaos experiments",
        description=DESCRIPTION,
        epilog=_START,
        formatter_class=raw,
    )
    actions = chaos.add_subparsers(title="commands", required=True, metavar="COMMAND")
    show = actions.add_parser(
        "list",
        help="list the experiments, or show one in full",
        description="List the experiments with their hypotheses, or show one in full.",
    )
    show.add_argument("name", metavar="NAME", nargs="?", help="the one to show")
    show.set_defaults(run=_list)
    run = actions.add_parser(
        "run",
        help="run one of them",
        description=DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=raw,
    )
    run.add_argument("name", metavar="NAME", help="one of `radgateway chaos list`")
    run.add_argument("--report", type=Path, metavar="FILE", help="write it: Markdown, or .json")
    run.add_argument(
        "--scale",
        type=_scale,
        default=1.0,
        help="multiplies all durations (default: 1); 0.05 makes minutes seconds",
    )
    run.add_argument("--rate", type=_rate, default=20.0, help="requests a second (default: 20)")
    run.add_argument(
        "--limit",
        type=_pair,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="replace a threshold of the hypothesis; `chaos list NAME` shows them",
    )
    run.add_argument(
        "--set",
        type=_pair,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change the configuration of the sandbox's gateways",
    )
    live = run.add_argument_group("against a gateway that runs")
    live.add_argument("--url", help="its address")
    live.add_argument("--model", help="a model to ask for")
    live.add_argument("--key", metavar="REF", help="a caller's key")
    live.add_argument("--admin-key", metavar="REF", help="an admin's key")
    live.add_argument("--provider", help="whom to break (default: the one that serves)")
    run.set_defaults(run=_run)


def _list(options: argparse.Namespace) -> int:
    from radgateway.chaos.experiments import EXPERIMENTS, find  # noqa: PLC0415 - heavy
    from radgateway.chaos.report import in_full, listing  # noqa: PLC0415

    if options.name is None:
        _print(listing(EXPERIMENTS))
        return 0
    experiment = find(options.name)
    if experiment is None:
        return _unknown(options.name)
    _print(in_full(experiment))
    return 0


def _run(options: argparse.Namespace) -> int:
    from radgateway.chaos.experiments import find  # noqa: PLC0415
    from radgateway.chaos.report import as_text  # noqa: PLC0415
    from radgateway.chaos.runner import run  # noqa: PLC0415

    experiment = find(options.name)
    if experiment is None:
        return _unknown(options.name)
    try:
        chosen = _options(options, os.environ)
    except ValueError as error:
        return _wrong(str(error))
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            report = runner.run(_until_told(run(experiment, chosen, _print)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _wrong("interrupted; what was armed has been disarmed")
    _print("\n" + as_text(report))
    if options.report is not None:
        return _written(report, options.report)
    return report.exit_code


async def _until_told(running: Coroutine[Any, Any, Report]) -> Report:
    """Run it, and clean up on SIGTERM as on Ctrl-C."""
    task = asyncio.current_task()
    assert task is not None
    # Windows' loops take no handlers of signals; Ctrl-C is told to all.
    with contextlib.suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await running


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is there: the load should not be what is slow."""
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _written(report: Report, file: Path) -> int:
    from radgateway.chaos.report import as_json, as_markdown  # noqa: PLC0415

    form: Callable[[Report], str] = as_json if file.suffix == ".json" else as_markdown
    try:
        file.write_text(form(report), encoding="utf-8")
    except OSError as error:
        return _wrong(f"can't write the report {file}: {error.strerror}")
    _print(f"report: {file}")
    return report.exit_code


def _options(options: argparse.Namespace, environ: Mapping[str, str]) -> Options:
    """The run that was asked for. Raises `ValueError`."""
    from radgateway.chaos.lab import Options  # noqa: PLC0415 - heavy, and only when asked for

    limits = {}
    for name, value in options.limit:
        try:
            limits[name] = float(value)
        except ValueError:
            raise ValueError(f"--limit {name} must be a number, not {value!r}") from None
    if options.url is None and (options.model or options.key or options.admin_key):
        raise ValueError("--model, --key and --admin-key are for a gateway that runs: give --url")
    return Options(
        live=_live(options, environ) if options.url is not None else None,
        scale=options.scale,
        rate_per_s=options.rate,
        limits=limits,
        settings=dict(options.set),
    )


def _live(options: argparse.Namespace, environ: Mapping[str, str]) -> Live:
    from radgateway.chaos.lab import Live  # noqa: PLC0415 - as above

    for name in ("model", "key", "admin_key"):
        if getattr(options, name) is None:
            raise ValueError(f"--url needs --{name.replace('_', '-')} as well")
    if options.set:
        raise ValueError("--set changes a sandbox; a gateway that runs has its own configuration")
    if not options.url.startswith(("http://", "https://")):
        raise ValueError("--url must be an http:// or https:// address")
    return Live(
        url=options.url.rstrip("/"),
        model=options.model,
        key=_secret("--key", options.key, environ),
        admin_key=_secret("--admin-key", options.admin_key, environ),
        provider=options.provider,
    )


def _secret(option: str, reference: str, environ: Mapping[str, str]) -> str:
    """What a reference leads to. A key itself is refused: command lines are seen by all."""
    kind, _, name = reference.partition(":")
    if kind == "env":
        value = environ.get(name, "")
    elif kind == "file":
        try:
            value = Path(name).read_text(encoding="utf-8").rstrip("\n")
        except (OSError, UnicodeDecodeError):
            raise ValueError(f"{option}: the file {name!r} can't be read") from None
    else:
        raise ValueError(f"{option} must be env:NAME or file:PATH, not the key itself")
    if not value:
        raise ValueError(f"{option}: {reference} is empty or not set")
    return value


def _scale(text: str) -> float:
    return _number(text, 0.01, 100)


def _rate(text: str) -> float:
    return _number(text, 1, 2000)


def _number(text: str, low: float, high: float) -> float:
    value = float(text)
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"must be {low:g} to {high:g}")
    return value


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    return name, value


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _unknown(name: str) -> int:
    from radgateway.chaos.experiments import EXPERIMENTS  # noqa: PLC0415

    names = ", ".join(each.name for each in EXPERIMENTS)
    return _wrong(f"there is no experiment {name!r}; there are: {names}")


def _wrong(message: str) -> int:
    sys.stderr.write(f"radgateway: {message}\n")
    return 2
