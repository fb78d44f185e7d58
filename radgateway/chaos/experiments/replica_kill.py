"""One of two replicas is killed behind a balancer: requests go on (strategy 8.1, phase 2)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from radgateway.chaos.experiment import Experiment, Limit
from radgateway.chaos.lab import Lab
from radgateway.chaos.load import LoadGenerator, Sample
from radgateway.chaos.sandbox import Process, Sandbox, free_port

_LOAD_S = 30.0
_LIMIT = 1_000_000


def _replica(sandbox: Sandbox, lab: Lab, limits: str) -> dict[str, Any]:
    # Slow enough that some requests are always under way, some of them streams.
    mock = {"kind": "mock", "latency_ms": 50, "tokens_per_s": 40}
    return {
        "keys": [{"name": "chaos", "secret": sandbox.key, "limits": [f"{_LIMIT}/month"]}],
        "providers": {"mock": mock},
        "models": {"m": {"candidates": [{"provider": "mock"}]}},
        "storage": {"usage": "memory://", "limits": limits},
        # What is asked is whether the shared count holds, and not whether this machine is busy.
        "limits": {"storage_timeout_s": 2},
    }


async def _conduct(lab: Lab) -> None:
    sandbox = lab.sandbox()
    limits = await sandbox.valkey()
    ports = [free_port(), free_port()]
    config = _replica(sandbox, lab, limits)
    lab.say("starting two replicas with shared limits in Valkey, and nginx before them")
    replicas = await asyncio.gather(
        *(
            sandbox.gateway(config, f"replica-{number}", port=port)
            for number, port in enumerate(ports)
        )
    )
    balancer = await sandbox.balancer([replica.url for replica in replicas])
    target = lab.target(balancer.url, model="m", key=sandbox.key, admin_key=sandbox.admin_key)
    load = target.load
    before = await lab.steady_before(load)
    sample, killed_at = await _kill_under_load(lab, load, replicas[0])
    during = lab.keep("during", sample)
    _judge(lab, sample, killed_at, replicas)
    forgotten = before.answered + during.answered - await _count_in_store(load)
    lab.expect("answers the shared limit forgot", max(0, forgotten), "==", 0)
    lab.say("starting the replica again")
    await sandbox.gateway(config, "replica-0-again", port=ports[0])
    # nginx leaves a server that failed alone for its fail_timeout of 1 s.
    await asyncio.sleep(1.2)
    again = await load.at_rate(lab.rate, lab.s(10, 1.0))
    after = lab.keep("after", again)
    lab.expect("answered after", after.success_ratio, ">=", 0.99)
    lab.expect("replicas that answer after", len({c.replica for c in again.calls}), "==", 2)


async def _kill_under_load(lab: Lab, load: LoadGenerator, victim: Process) -> tuple[Sample, float]:
    seconds = lab.s(_LOAD_S, 3.0)
    async with load.running(lab.rate, streams=0.3) as sample:
        await asyncio.sleep(seconds / 3)
        lab.say(f"SIGKILL to {victim.name}, {len(sample.pending)} requests under way")
        killed_at = time.monotonic()
        victim.kill()
        await asyncio.sleep(seconds * 2 / 3)
    return sample, killed_at


def _judge(lab: Lab, sample: Sample, killed_at: float, replicas: list[Process]) -> None:
    in_flight = [c for c in sample.calls if c.due <= killed_at <= c.ended]
    failed = [c for c in sample.calls if not c.ok]
    # A request due at the very moment may have been on its way to the one that died.
    late = [c for c in failed if c not in in_flight]
    survivor = replicas[1].url.removeprefix("http://")
    after = [c for c in sample.calls if c.due > killed_at and c.ok]
    lab.expect("failed beyond those in flight", len(late), "<=", lab.limit("failed_beyond"))
    lab.expect("failed of those in flight", len(failed) - len(late), "<=", len(in_flight))
    lab.expect("answered after the kill", len(after), ">=", 1)
    by_survivor = sum(c.replica.rpartition(", ")[2] == survivor for c in after)
    lab.expect("of them by the survivor", by_survivor, "==", len(after))
    lab.note(
        f"{len(in_flight)} requests were in flight at the kill, {len(failed) - len(late)} of them "
        f"failed: {sorted({c.failure for c in failed}) or 'none'}"
    )


async def _count_in_store(load: LoadGenerator) -> int:
    """How many requests the limit in the store has seen."""
    call = await load.one()
    return _LIMIT - int(call.left) if call.left else 0


REPLICA_KILL = Experiment(
    name="replica-kill",
    phase="2: infrastructure resilience",
    hypothesis="When a replica dies, no request fails beyond those it had in flight",
    blast_radius="one of two replicas",
    method=(
        "Two replicas behind nginx share limits in Valkey; under load of plain requests and "
        "streams, one gets SIGKILL; later it is started again"
    ),
    abort="5 minutes; never fewer than one replica runs",
    conduct=_conduct,
    limits={"failed_beyond": Limit(0, "requests that failed though they were not in flight")},
)
