"""The measurement: all systems in turn, round after round, and the medians of the rounds.

Interleaving (A B C, A B C) spreads what else the machine is doing over all systems alike; a ratio
is taken within a round, where both sides saw the same machine.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import wrk
from benchmarks.processes import BenchmarkError, cpu_s, idle_s, on_core, rss_mb
from benchmarks.stream_load import Result as Streams
from benchmarks.systems import KEY, UPSTREAM, System

MANY = 64
"""Connections of the throughput runs."""
STREAMS = 16
"""Streams at once in the streaming runs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    rounds: int
    seconds: float
    """Of the run at 64 connections; the others take half of it."""


@dataclass(slots=True)
class Round:
    """One system in one round."""

    one: wrk.Load
    many: wrk.Load
    cpu_share: float
    """Share of a core that the system itself used while it had 64 connections."""
    idle_share: float
    """Share of its core that nobody used meanwhile: the system was waiting for the load."""
    streams: Streams
    stream_one: Streams
    """The same with a single stream at a time: what the first byte costs without a queue."""
    cpu_s_per_million_chunks: float


@dataclass(slots=True)
class Measured:
    """One system in all rounds."""

    name: str
    rounds: list[Round] = field(default_factory=list)
    rss_idle_mb: float = 0.0
    rss_after_mb: float = 0.0
    requests: int = 0
    """Everything sent to it, warm-up included."""
    evidence: dict[str, int] = field(default_factory=dict)
    """What the system says it did; see `__main__`."""

    def median(self, value: Callable[[Round], float]) -> float:
        """The median over the rounds."""
        return statistics.median(value(each) for each in self.rounds)

    @property
    def errors(self) -> int:
        """Answers that were none, in all rounds."""
        return sum(
            r.one.errors + r.many.errors + r.streams.errors + r.stream_one.errors
            for r in self.rounds
        )


def paired(system: Measured, other: Measured, value: Callable[[Round, Round], float]) -> float:
    """The median of a comparison made within each round."""
    return statistics.median(value(a, b) for a, b in zip(system.rounds, other.rounds, strict=True))


class Bench:
    """Runs the rounds. `say` reports progress; the load runs on one core, away from the systems."""

    def __init__(self, folder: Path, cores: tuple[int, int], say: Callable[[str], None]) -> None:
        self._wrk = wrk.find()
        self._script = wrk.write_script(folder, KEY)
        self._system_core, self._core = cores
        self._say = say

    def run(self, systems: Sequence[System], plan: Plan) -> dict[str, Measured]:
        """Warm every system up, then measure all of them in each round."""
        measured = {system.name: Measured(system.name) for system in systems}
        for system in systems:
            measured[system.name].rss_idle_mb = rss_mb(system.pid)
            self._say(f"warm-up   {system.name}")
            warm = self._load(system, MANY, 1.0)
            measured[system.name].requests += warm.requests
        for number in range(1, plan.rounds + 1):
            for system in systems:
                self._say(f"round {number}/{plan.rounds}  {system.name} ...")
                done = self._round(system, plan.seconds)
                entry = measured[system.name]
                entry.rounds.append(done)
                entry.requests += done.one.requests + done.many.requests
                entry.requests += done.streams.streams + done.stream_one.streams
                self._say(
                    f"round {number}/{plan.rounds}  {system.name}: "
                    f"{done.many.requests_per_s:,.0f} requests/s at {MANY} connections, "
                    f"p50 {done.one.p50_ms:.2f} ms at 1, {_per_s(done.streams):,.0f} streams/s"
                )
        for system in systems:
            measured[system.name].rss_after_mb = rss_mb(system.pid)
        return measured

    def _load(self, system: System, connections: int, seconds: float) -> wrk.Load:
        return wrk.run(
            self._wrk,
            self._script,
            system.port,
            connections=connections,
            seconds=max(1, round(seconds)),
            core=self._core,
        )

    def _round(self, system: System, seconds: float) -> Round:
        one = self._load(system, 1, seconds / 2)
        # The provider itself runs beside the load, on the other core.
        core = self._core if system.name == UPSTREAM else self._system_core
        before, idle_before, began = cpu_s(system.pid), idle_s(core), time.monotonic()
        many = self._load(system, MANY, seconds)
        elapsed_s = time.monotonic() - began
        cpu_share = (cpu_s(system.pid) - before) / elapsed_s
        idle_share = (idle_s(core) - idle_before) / elapsed_s
        before = cpu_s(system.pid)
        streams = self._streams(system, STREAMS, seconds / 2)
        chunk_cpu_s = (cpu_s(system.pid) - before) / max(streams.chunks, 1) * 1e6
        alone = self._streams(system, 1, seconds / 2)
        return Round(one, many, cpu_share, idle_share, streams, alone, chunk_cpu_s)

    def _streams(self, system: System, connections: int, seconds: float) -> Streams:
        command = [sys.executable, "-m", "benchmarks.stream_load", "--port", str(system.port)]
        command += ["--key", KEY, "--connections", str(connections), "--seconds", str(seconds)]
        with on_core(self._core):
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds + 90, check=False
            )
        if done.returncode != 0:
            raise BenchmarkError(f"the stream load failed: {done.stderr[-2000:]}")
        result = Streams(**json.loads(done.stdout))
        if result.errors:
            self._say(f"  {system.name}: {result.errors} failed streams: {result.first_error!r}")
        return result


def _per_s(streams: Streams) -> float:
    return streams.streams / streams.seconds if streams.seconds else 0.0


def requests_per_cpu_s(each: Round) -> float:
    """Requests for each CPU second of the system: what is left of throughput on a busy machine."""
    return each.many.requests_per_s / max(each.cpu_share, 0.001)


def others_share(each: Round) -> float:
    """Share of the system's core that went to somebody else."""
    return max(0.0, 1 - each.cpu_share - each.idle_share)


def streams_per_s(each: Round) -> float:
    """Whole streams a second at the streaming runs' concurrency."""
    return _per_s(each.streams)


def as_json(measured: Iterable[Measured]) -> list[dict[str, Any]]:
    """All numbers of all rounds."""
    return [asdict(each) for each in measured]
