"""A replica is killed for want of memory: the usage of what it answered is kept (phase 2)."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from pathlib import Path

from radgateway.chaos.experiment import Experiment, Limit
from radgateway.chaos.lab import Lab
from radgateway.chaos.load import Call, LoadGenerator
from radgateway.chaos.memory_cage import memory_cage
from radgateway.chaos.sandbox import Process

_LOAD_S = 20.0
_RATE_PER_S = 300.0
"""Enough that rows wait for one another; at less, each is written as it comes."""
_ROOM_BYTES = 64 * 1024 * 1024
"""What the gateway may still take when it is caged."""
_LONG_PROMPTS, _PROMPT_BYTES = 12, 16 * 1024 * 1024
_OOM_WAIT_S = 10.0
_SETTLE_S = 5.0
"""Seconds a restarted gateway gets to bring what it finds of its predecessor into the ledger."""


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
    await lab.steady_before(target.load)
    rate = max(lab.rate, _RATE_PER_S)
    async with target.load.running(rate) as sample:
        await asyncio.sleep(lab.s(_LOAD_S, 2.0))
        await _kill(lab, process, target.load)
        killed_at = time.monotonic()
    lab.keep("during", sample)
    answered = [call for call in sample.calls if call.ok]
    lab.expect("answered before the kill", len(answered), ">=", 1)
    lab.say("starting it again, on the same files")
    again = await sandbox.gateway(config, "gateway-again")
    lost = await rows_missing(lab, answered, sandbox.folder / "usage.db")
    lab.expect("answered requests without a usage row", len(lost), "<=", lab.limit("lost_rows"))
    if lost:
        oldest_s = killed_at - min(call.ended for call in lost)
        lab.note(
            f"{len(lost)} of {len(answered)} rows were lost: requests answered in the last "
            f"{oldest_s * 1000:.0f} ms before the kill. Without a journal (storage.journal) rows "
            "wait that long in memory to share a transaction"
        )
    target = lab.target(again.url, model="m", key=sandbox.key, admin_key=sandbox.admin_key)
    await lab.steady_after(target.load)


async def _kill(lab: Lab, process: Process, load: LoadGenerator) -> None:
    """Have the kernel kill it for want of memory; where that can't be, do as the kernel does."""
    with memory_cage() as cage:
        if cage is not None:
            with contextlib.suppress(OSError):
                cage.hold(process.pid, _ROOM_BYTES)
                lab.say(f"{_LONG_PROMPTS} prompts of 16 MiB, and room for 64 MiB")
                await _until_killed(process, load)
                if cage.kills():
                    lab.note("the kernel's OOM killer ended it, at 64 MiB over what it held")
                    process.kill()  # what is left of its group
                    return
        process.kill()
        lab.note("ended by SIGKILL in the OOM killer's place: no memory limit could be set here")


async def _until_killed(process: Process, load: LoadGenerator) -> None:
    long_prompts = [
        asyncio.create_task(load.one(padding_bytes=_PROMPT_BYTES)) for _ in range(_LONG_PROMPTS)
    ]
    try:
        await process.ended(_OOM_WAIT_S)
    finally:
        for task in long_prompts:
            task.cancel()
        await asyncio.gather(*long_prompts, return_exceptions=True)


async def rows_missing(lab: Lab, answered: list[Call], file: Path) -> list[Call]:
    """The answered calls that have no row in the ledger, and get none in the next seconds."""
    until = time.monotonic() + lab.s(_SETTLE_S, 1.0)
    while True:
        kept = await asyncio.to_thread(request_ids, file)
        lost = [call for call in answered if call.request_id not in kept]
        if not lost or time.monotonic() > until:
            return lost
        await asyncio.sleep(0.2)


def request_ids(file: Path) -> set[str]:
    """The requests that have a row in a ledger; none in one that was never written to."""
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5)
    known = "SELECT count(*) FROM sqlite_master WHERE name = 'radgateway_requests'"
    try:
        if connection.execute(known).fetchone() == (0,):
            return set()
        return {row[0] for row in connection.execute("SELECT request_id FROM radgateway_requests")}
    finally:
        connection.close()


MEMORY_PRESSURE = Experiment(
    name="memory-pressure",
    phase="2: infrastructure resilience",
    hypothesis="A gateway that is killed and restarted loses no usage of what it had answered",
    blast_radius="one replica: what is in flight is lost with it",
    method=(
        "Under load the gateway gets a memory limit and prompts that exceed it, until the kernel "
        "kills it (SIGKILL where no limit can be set); it is started again, and the answers that "
        "callers got are compared with the rows in the SQLite ledger"
    ),
    abort="5 minutes",
    conduct=_conduct,
    limits={"lost_rows": Limit(0, "answered requests that may lack a usage row")},
)
