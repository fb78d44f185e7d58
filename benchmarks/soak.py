"""`python -m benchmarks.soak`: half an hour of steady load with callers that leave; does it grow?

Half of the requests stream, and a fifth of all callers leave before their answer is complete: the
leaks of gateways are where nobody waits any longer. Resident memory is read every second; after a
time to warm up a straight line is laid through it, and its slope is the answer. At the end nothing
may be left over: no request in flight, no connection at the provider beyond those at rest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from benchmarks import systems
from benchmarks.open_load import Load, shots
from benchmarks.processes import BenchmarkError, get, rss_mb

RESULTS = Path(__file__).parent / "results"
GROWTH_BAR_MB_PER_HOUR = 4.0
"""A leak of one small object for each request at 200 a second would be some 100 MB an hour."""

_PACE_MS = 4.0


@dataclass(frozen=True, slots=True)
class Soak:
    """How the run goes."""

    seconds: float = 1800.0
    warm_up_s: float = 300.0
    """What memory does before counts for nothing: caches and arenas fill."""
    rate_per_s: float = 200.0
    stream_ratio: float = 0.5
    leave_ratio: float = 0.2


@dataclass(frozen=True, slots=True)
class Sample:
    """Resident memory at a moment."""

    at_s: float
    rss_mb: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of it."""

    requests: int
    endings: dict[str, int]
    rss_warm_mb: float
    rss_end_mb: float
    slope_mb_per_hour: float
    in_flight_after: int
    tasks_before: int
    tasks_after: int
    provider_connections_after: int
    usage_rows: int
    upstream_streams_cut: int

    @property
    def failed(self) -> int:
        """Requests that were neither answered nor left by their own caller."""
        return sum(n for ending, n in self.endings.items() if ending not in ("ok", "left"))


async def run(soak: Soak, cores: tuple[int, int], folder: Path) -> tuple[Figures, list[Sample]]:
    """Start everything, send the load, watch the memory, and look at what is left over."""
    with ExitStack() as stack:
        upstream = stack.enter_context(systems.upstream(folder / "up", cores[1], _PACE_MS))
        started = systems.gateway("soak", folder / "gateway", cores[0], upstream.port)
        gateway = stack.enter_context(started)
        load = Load(
            gateway.port,
            systems.KEY,
            soak.rate_per_s,
            soak.seconds,
            soak.stream_ratio,
            soak.leave_ratio,
        )
        samples: list[Sample] = []
        watching = asyncio.create_task(_watch(gateway.pid, samples))
        tasks_before = await _tasks(gateway.port)
        endings: Counter[str] = Counter()
        said = time.monotonic()
        async for shot in shots(load):
            endings[shot.ending] += 1
            if time.monotonic() - said > 30:
                said = time.monotonic()
                _say(shot.at_s, soak, endings, samples)
        await asyncio.sleep(
            2.0
        )  # for what was abandoned last to be noticed, and rows to be written
        watching.cancel()
        in_flight = await _metric(gateway.port, "rad_gateway_active_connections")
        tasks_after = await _tasks(gateway.port)
        received = json.loads((await _get(upstream.port, "/received")).decode())
        figures = Figures(
            requests=sum(endings.values()),
            endings=dict(endings),
            rss_warm_mb=_around(samples, soak.warm_up_s),
            rss_end_mb=samples[-1].rss_mb,
            slope_mb_per_hour=slope_mb_per_hour(samples, soak.warm_up_s),
            in_flight_after=int(in_flight),
            tasks_before=tasks_before,
            tasks_after=tasks_after,
            provider_connections_after=received["open"],
            usage_rows=systems.usage_rows(folder / "gateway"),
            upstream_streams_cut=received["cut"],
        )
    return figures, samples


async def _tasks(port: int) -> int:
    """The tasks of the gateway's loop, of which it counts itself one; 0 until it has counted."""
    async with asyncio.timeout(10):
        while not (tasks := int(await _metric(port, "rad_gateway_asyncio_tasks"))):
            await asyncio.sleep(0.1)
    return tasks


async def _watch(pid: int, samples: list[Sample]) -> None:
    began = time.monotonic()
    while True:
        samples.append(Sample(time.monotonic() - began, rss_mb(pid)))
        await asyncio.sleep(1.0)


def _say(at_s: float, soak: Soak, endings: Counter[str], samples: Sequence[Sample]) -> None:
    counted = ", ".join(f"{n:,} {ending}" for ending, n in sorted(endings.items()))
    print(
        f"[{at_s:5.0f} of {soak.seconds:.0f} s] {counted}; {samples[-1].rss_mb:.1f} MB",
        file=sys.stderr,
        flush=True,
    )


async def _get(port: int, path: str) -> bytes:
    status, body = await asyncio.get_running_loop().run_in_executor(None, get, port, path)
    if status != 200:
        raise BenchmarkError(f"{path} answered {status}")
    return body


async def _metric(port: int, name: str) -> float:
    text = (await _get(port, "/metrics")).decode()
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith((f"{name} ", f"{name}{{"))
    )


def _around(samples: Sequence[Sample], at_s: float) -> float:
    near = [each.rss_mb for each in samples if abs(each.at_s - at_s) <= 5]
    return statistics.median(near) if near else samples[-1].rss_mb


def slope_mb_per_hour(samples: Sequence[Sample], warm_up_s: float) -> float:
    """The slope of a straight line through what was measured after the warm-up (least squares)."""
    kept = [each for each in samples if each.at_s >= warm_up_s]
    if len(kept) < 2:
        raise BenchmarkError("the run was too short to lay a line through its memory")
    line = statistics.linear_regression([s.at_s for s in kept], [s.rss_mb for s in kept])
    return line.slope * 3600


def table(figures: Figures) -> str:
    """The figures, one a line."""
    endings = ", ".join(f"{n:,} {ending}" for ending, n in sorted(figures.endings.items()))
    rows = [
        ("requests", f"{figures.requests:,}: {endings}"),
        ("usage rows", f"{figures.usage_rows:,}"),
        ("streams cut at the provider", f"{figures.upstream_streams_cut:,}"),
        ("memory after the warm-up", f"{figures.rss_warm_mb:.1f} MB"),
        ("memory at the end", f"{figures.rss_end_mb:.1f} MB"),
        ("slope", f"{figures.slope_mb_per_hour:+.2f} MB an hour"),
        ("requests in flight afterwards", f"{figures.in_flight_after}"),
        ("tasks of the loop", f"{figures.tasks_before} before, {figures.tasks_after} after"),
        ("connections at the provider", f"{figures.provider_connections_after} at rest"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows)


def plot(samples: Sequence[Sample], soak: Soak, path: Path) -> None:
    """Draw the memory over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 3.5))
    axes.plot([s.at_s / 60 for s in samples], [s.rss_mb for s in samples], color="#4c78a8")
    axes.axvspan(0, soak.warm_up_s / 60, color="#888888", alpha=0.15)
    axes.set_xlabel("minutes")
    axes.set_ylabel("resident memory, MB")
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> int:
    """Parse the arguments, run, print, draw; 1 where memory grew or something was left over."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description="A steady load for half an hour, a fifth of whose callers leave early.",
        epilog="Exit code: 0 flat and clean, 1 memory grew faster than "
        f"{GROWTH_BAR_MB_PER_HOUR:g} MB an hour, requests failed, or something was left over.",
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--plot", type=Path, help="where the picture goes")
    asked = parser.parse_args()
    seconds = asked.minutes * 60
    soak = Soak(seconds, min(300.0, seconds / 4), asked.rate)
    try:
        with tempfile.TemporaryDirectory(prefix="radgateway-soak-") as folder:
            figures, samples = uvloop.run(run(soak, (0, 1), Path(folder)))
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    print(table(figures))
    RESULTS.mkdir(exist_ok=True)
    picture = asked.plot or RESULTS / "soak.png"
    plot(samples, soak, picture)
    everything = {
        "soak": asdict(soak),
        "figures": asdict(figures),
        "rss_mb": [[round(s.at_s), round(s.rss_mb, 1)] for s in samples],
    }
    picture.with_suffix(".json").write_text(json.dumps(everything) + "\n")
    clean = figures.failed == 0 and figures.in_flight_after == 0
    return 0 if clean and figures.slope_mb_per_hour <= GROWTH_BAR_MB_PER_HOUR else 1


if __name__ == "__main__":
    sys.exit(main())
