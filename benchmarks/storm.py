"""`python -m benchmarks.storm`: one of two providers fails completely; what do callers notice?

A steady load, open loop, through the reference app to two providers. After a while the preferred
one answers every request with a 500, and some time later it is well again. Measured are the share
of callers that got an answer, the load that failures added, and how long it took to leave the
broken provider and to return to it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from benchmarks import systems
from benchmarks.open_load import Load, Shot, shots
from benchmarks.processes import BenchmarkError, get

RESULTS = Path(__file__).parent / "results"

_CONFIG = """\
environment: staging
server: {{host: 127.0.0.1}}
keys: [{{name: bench, secret: env:BENCHMARK_API_KEY}}]
providers:
  first:
    kind: openai
    base_url: http://127.0.0.1:{first}/v1
    breaker: {{open_s: {open_s:g}}}
  second: {{kind: openai, base_url: "http://127.0.0.1:{second}/v1"}}
models:
  bench-model:
    strategy: {strategy}
    candidates:
      - {{provider: first, model: bench-model, weight: 80}}
      - {{provider: second, model: bench-model, weight: 20}}
retry_budget: {{max_attempts: 2, ratio: 0.2, min_per_s: 10}}
storage: {{usage: "sqlite:///{folder}/usage.db"}}
telemetry: {{log_level: error}}
"""


@dataclass(frozen=True, slots=True)
class Storm:
    """How the run goes, in seconds."""

    rate_per_s: float = 500.0
    before_s: float = 10.0
    failing_s: float = 30.0
    after_s: float = 40.0
    open_s: float = 5.0
    """The breaker's first open duration."""
    strategy: str = "priority"

    @property
    def ends_s(self) -> float:
        """When the provider is well again."""
        return self.before_s + self.failing_s

    @property
    def seconds(self) -> float:
        """The whole run."""
        return self.ends_s + self.after_s


@dataclass(slots=True)
class Second:
    """One second of the run."""

    requests: int = 0
    answered: int = 0
    at_first: int = 0
    """Answers that came from the provider that fails."""
    latencies_s: list[float] | None = None

    def p99_ms(self) -> float:
        """99 of 100 answers were faster, in milliseconds."""
        values = sorted(self.latencies_s or [0.0])
        return values[min(len(values) - 1, int(len(values) * 0.99))] * 1000


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of it."""

    requests: int
    answered_ratio: float
    """Of all requests that were due while the provider failed."""
    worst_second_ratio: float
    unanswered: int
    added_load_ratio: float
    """Attempts beyond one for each request, while the provider failed."""
    attempts_at_failing: int
    left_after_s: float
    """From the first failure until every second's requests were answered."""
    returned_after_s: float | None
    """From the recovery until the provider had nine tenths of its share again; None: never."""
    p99_before_ms: float
    p99_failing_ms: float


async def run(storm: Storm, cores: tuple[int, int], folder: Path) -> tuple[Figures, list[Second]]:
    """Start everything, send the load, and take the figures."""
    with ExitStack() as stack:
        first = stack.enter_context(systems.upstream(folder / "first", cores[1]))
        second = stack.enter_context(systems.upstream(folder / "second", cores[1]))
        text = _CONFIG.format(
            first=first.port,
            second=second.port,
            open_s=storm.open_s,
            strategy=storm.strategy,
            folder=folder,
        )
        gateway = stack.enter_context(systems.serving("storm", folder / "gateway", cores[0], text))
        seconds = [Second(latencies_s=[]) for _ in range(int(storm.seconds) + 1)]
        load = Load(gateway.port, systems.KEY, storm.rate_per_s, storm.seconds)
        attempts: list[int] = []

        async def weather() -> None:
            loop = asyncio.get_running_loop()
            for wait_s, path in ((storm.before_s, "/fail"), (storm.failing_s, "/serve")):
                await asyncio.sleep(wait_s)
                counted = await loop.run_in_executor(None, _counts, first.port, path)
                other = await loop.run_in_executor(None, _counts, second.port, "/received")
                attempts.append(counted["chats"] + counted["refused"] + other["chats"])

        changing = asyncio.create_task(weather())
        async for shot in shots(load):
            _note(seconds[int(shot.at_s)], shot)
        await changing
        refused = _counts(first.port, "/received")["refused"]
    return _figures(storm, seconds, attempts[1] - attempts[0], refused), seconds


def _counts(port: int, path: str) -> dict[str, int]:
    status, body = get(port, path)
    if status != 200:
        raise BenchmarkError(f"the upstream answered {status} to {path}")
    counts: dict[str, int] = json.loads(body)
    return counts


def _note(second: Second, shot: Shot) -> None:
    second.requests += 1
    assert second.latencies_s is not None
    if shot.ending == "ok":
        second.answered += 1
        second.latencies_s.append(shot.latency_s)
        second.at_first += shot.provider == "first"


def _figures(storm: Storm, seconds: Sequence[Second], attempts: int, refused: int) -> Figures:
    began, ended = int(storm.before_s), int(storm.ends_s)
    before, failing, after = seconds[1:began], seconds[began:ended], seconds[ended:]
    asked = sum(each.requests for each in failing)
    answered = sum(each.answered for each in failing)
    hurt = [at for at, each in enumerate(failing) if each.answered < each.requests]
    share = statistics.mean(each.at_first / max(each.requests, 1) for each in before)
    back = next(
        (
            at
            for at, each in enumerate(after)
            if each.requests and each.at_first >= 0.9 * share * each.requests
        ),
        None,
    )
    return Figures(
        requests=sum(each.requests for each in seconds),
        answered_ratio=answered / max(asked, 1),
        worst_second_ratio=min(each.answered / max(each.requests, 1) for each in failing),
        unanswered=sum(each.requests - each.answered for each in seconds),
        added_load_ratio=attempts / max(asked, 1) - 1,
        attempts_at_failing=refused,
        left_after_s=hurt[-1] + 1 if hurt else 0,
        returned_after_s=back,
        p99_before_ms=statistics.median(each.p99_ms() for each in before),
        p99_failing_ms=statistics.median(each.p99_ms() for each in failing),
    )


def table(figures: Figures, storm: Storm) -> str:
    """The figures, one a line."""
    returned = figures.returned_after_s
    rows = [
        ("requests sent", f"{figures.requests:,} at {storm.rate_per_s:g} a second"),
        ("answered while one of two failed", f"{figures.answered_ratio:.4%}"),
        ("answered in the worst second", f"{figures.worst_second_ratio:.2%}"),
        ("not answered in the whole run", f"{figures.unanswered:,}"),
        ("load added by failures", f"{figures.added_load_ratio:.2%} more attempts"),
        ("attempts at the failing provider", f"{figures.attempts_at_failing:,}"),
        ("last second with a failed request", f"{figures.left_after_s:g} s after it began to fail"),
        (
            "back at the recovered provider",
            "not within the run" if returned is None else f"within {returned + 1:g} s of recovery",
        ),
        ("p99 before", f"{figures.p99_before_ms:.1f} ms"),
        ("p99 while failing", f"{figures.p99_failing_ms:.1f} ms"),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows)


def plot(storm: Storm, seconds: Sequence[Second], path: Path) -> None:
    """Draw who was answered by whom, second by second."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    whole = seconds[:-1]
    at = range(len(whole))
    figure, (top, bottom) = pyplot.subplots(2, 1, figsize=(9, 5.5), sharex=True)
    by_first = [each.at_first for each in whole]
    by_second = [each.answered - each.at_first for each in whole]
    failed = [each.requests - each.answered for each in whole]
    top.stackplot(
        at,
        by_first,
        by_second,
        failed,
        labels=("answered by the first", "answered by the second", "not answered"),
        colors=("#4c78a8", "#72b7b2", "#e45756"),
    )
    top.set_ylabel("requests a second")
    top.legend(loc="lower right", fontsize=8)
    bottom.plot(at, [each.p99_ms() for each in whole], color="#4c78a8")
    bottom.set_ylabel("p99, ms")
    bottom.set_yscale("log")
    bottom.set_xlabel("seconds")
    for axes in (top, bottom):
        axes.axvspan(storm.before_s, storm.ends_s, color="#e45756", alpha=0.12)
        axes.margins(x=0)
    top.set_title("The first provider fails every request in the shaded time")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> int:
    """Parse the arguments, run, print, draw."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.storm",
        description="One of two providers fails completely for a while; what do callers notice?",
        epilog="Takes 80 s; --quick a quarter of that. The plot and all figures are written to "
        "benchmarks/results/.",
    )
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second (default 500)")
    parser.add_argument("--strategy", default="priority", help="of the model (default: priority)")
    parser.add_argument("--quick", action="store_true", help="5 s + 10 s + 10 s")
    parser.add_argument("--plot", type=Path, help="where the picture goes")
    asked = parser.parse_args()
    storm = Storm(rate_per_s=asked.rate, strategy=asked.strategy)
    if asked.quick:
        storm = Storm(asked.rate, 5.0, 10.0, 12.0, 2.0, asked.strategy)
    print(f"{storm.seconds:g} s of load ...", file=sys.stderr, flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="radgateway-storm-") as folder:
            figures, seconds = uvloop.run(run(storm, (0, 1), Path(folder)))
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    print(table(figures, storm))
    RESULTS.mkdir(exist_ok=True)
    picture = asked.plot or RESULTS / f"storm-{storm.strategy}.png"
    plot(storm, seconds, picture)
    numbers = {"storm": asdict(storm), "figures": asdict(figures)}
    picture.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"plot: {picture}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
