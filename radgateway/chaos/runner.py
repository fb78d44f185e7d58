"""Running one experiment: from its obstacles to its verdict, and never longer than it may."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from radgateway.chaos.experiment import Aborted, CannotRun, Experiment, Report
from radgateway.chaos.lab import Lab, Options

_OVERHEAD_S = 90.0
"""Seconds for starting and ending processes, which no scale makes shorter."""


async def run(
    experiment: Experiment, options: Options, say: Callable[[str], None] = lambda line: None
) -> Report:
    """Run it and judge it. Whatever happens, what was armed is disarmed, what was started ends."""
    live = options.live
    report = Report(
        experiment=experiment,
        where=live.url if live is not None else "a sandbox on this machine",
        scale=options.scale,
        started_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
    began = time.monotonic()
    try:
        _check(experiment, options)
        say(f"{experiment.name}: {experiment.hypothesis}")
        longest_s = experiment.longest_s * options.scale + _OVERHEAD_S
        async with asyncio.timeout(longest_s), Lab(report, options, say) as lab:
            await experiment.conduct(lab)
        report.judge()
    except CannotRun as reason:
        report.verdict, report.reason = "not run", str(reason)
    except Aborted as reason:
        report.verdict, report.reason = "aborted", str(reason)
    except TimeoutError:
        report.verdict, report.reason = "aborted", f"it took longer than {longest_s:.0f} s"
    finally:
        report.duration_s = round(time.monotonic() - began, 1)
    return report


def _check(experiment: Experiment, options: Options) -> None:
    obstacle = experiment.obstacle()
    if obstacle is not None:
        raise CannotRun(obstacle)
    if options.live is not None and not experiment.live:
        raise CannotRun("it takes processes down, so it runs in a sandbox only; leave --url out")
    unknown = set(options.limits) - set(experiment.limits)
    if unknown:
        known = ", ".join(experiment.limits) or "none"
        raise CannotRun(f"it has no limit {sorted(unknown)[0]!r}; it has: {known}")
