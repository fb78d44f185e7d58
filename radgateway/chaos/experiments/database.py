"""The usage database is locked for a while: requests do not notice (strategy 8.1, phase 3)."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from radgateway.chaos.experiment import Experiment, Limit
from radgateway.chaos.experiments.memory_pressure import request_ids
from radgateway.chaos.gateway_api import GatewayAPI
from radgateway.chaos.lab import Lab
from radgateway.chaos.load import Sample

_LOCKED_FOR_S = 30.0


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold the write lock of a SQLite database, as a stuck process or a backup would."""
    connection = sqlite3.connect(file, timeout=10, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


async def _conduct(lab: Lab) -> None:
    sandbox = lab.sandbox()
    config = {
        "providers": {"mock": {"kind": "mock"}},
        "models": {"m": {"candidates": [{"provider": "mock"}]}},
        "storage": {"usage": "sqlite:///usage.db"},
    }
    lab.say("starting a gateway in a sandbox")
    process = await sandbox.gateway(config)
    target = lab.target(process.url, model="m", key=sandbox.key, admin_key=sandbox.admin_key)
    api, load = target.api, target.load
    file = sandbox.folder / "usage.db"
    before = await lab.steady_before(load)
    seconds = lab.s(_LOCKED_FOR_S, 1.5)
    rows_before = len(await asyncio.to_thread(request_ids, file))
    with _locked(file):
        lab.say(f"the ledger is locked for {seconds:.1f} s")
        sample = await load.at_rate(lab.rate, seconds)
        rows_locked = len(await asyncio.to_thread(request_ids, file))
        said = (await api.readiness())["dependencies"].get("usage", "not shown")
    during = lab.keep("during", sample)
    lab.note(f"at its end /health/ready said of usage: {said}")
    lab.expect("answered during", during.success_ratio, ">=", lab.limit("success_ratio"))
    slower_ms = max(0.0, during.p95_ms - before.p95_ms)
    lab.expect("p95 slower by", slower_ms, "<=", lab.limit("slower_ms"), " ms")
    lab.expect("rows written while locked", rows_locked - rows_before, "<=", during.requests / 2)
    await caught_up(lab, sample, lambda: request_ids(file))
    await none_lost(lab, api)
    await lab.steady_after(load)


async def caught_up(lab: Lab, sample: Sample, read: Callable[[], set[str]], when: str = "") -> None:
    """Every answered request of a sample gets its row, in time; `read` gives those that have one.

    `when` ends the findings' names, where there are several.
    """
    answered = {call.request_id for call in sample.calls if call.ok}
    began = time.monotonic()

    async def all_there() -> bool:
        return answered <= await asyncio.to_thread(read)

    # A writer that backs off may be in its longest pause, which no scale shortens.
    limit_s = lab.limit("caught_up_s")
    await lab.until(all_there, limit_s, 0.1)
    missing = answered - await asyncio.to_thread(read)
    lab.expect(f"answered requests without a row{when}", len(missing), "==", 0)
    lab.expect(f"seconds to catch up{when}", time.monotonic() - began, "<=", limit_s + 1, " s")


async def none_lost(lab: Lab, api: GatewayAPI) -> None:
    """The gateway counts no row as lost."""
    lost = await api.metric("rad_gateway_usage_records_lost_total")
    lab.expect("rows the gateway says it lost", lost or 0, "==", 0)


LIMITS = {
    "success_ratio": Limit(0.99, "share of requests answered meanwhile"),
    "slower_ms": Limit(50.0, "milliseconds that the p95 may grow"),
    "caught_up_s": Limit(15.0, "seconds until every row is in the ledger"),
}

DATABASE = Experiment(
    name="database",
    phase="3: dependency resilience",
    hypothesis="While the usage database takes no writes, requests are served and rows wait",
    blast_radius="the usage ledger",
    method=(
        "Another process holds the write lock of the SQLite ledger for 30 s, under load; "
        "then it lets go"
    ),
    abort="5 minutes",
    conduct=_conduct,
    limits=LIMITS,
)
