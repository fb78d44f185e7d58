"""The usage database hangs, and then it is down: requests do not notice (strategy 8.1, phase 3)."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util

from radgateway.chaos import postgres
from radgateway.chaos.experiment import Experiment
from radgateway.chaos.experiments.database import LIMITS, caught_up, none_lost
from radgateway.chaos.lab import Lab, Target
from radgateway.chaos.load import Figures, Sample

_HANGS_FOR_S = 20.0
_HANGS_AT_LEAST_S = 6.0
"""What the gateway takes to give up on a connection that does not answer, and some more."""
_DOWN_FOR_S = 20.0


async def _conduct(lab: Lab) -> None:
    sandbox = lab.sandbox()
    lab.say("starting PostgreSQL and a gateway in a sandbox")
    server = await sandbox.postgres()
    config = {
        "providers": {"mock": {"kind": "mock"}},
        "models": {"m": {"candidates": [{"provider": "mock"}]}},
        "storage": {"usage": server.dsn},
    }
    process = await sandbox.gateway(config)
    target = lab.target(process.url, model="m", key=sandbox.key, admin_key=sandbox.admin_key)
    before = await lab.steady_before(target.load)

    await asyncio.to_thread(server.hang)
    hung = await _served(lab, target, before, "hung", lab.s(_HANGS_FOR_S, _HANGS_AT_LEAST_S))
    server.resume()
    await caught_up(lab, hung, lambda: _request_ids(server), ", hung")

    await asyncio.to_thread(server.stop)
    down = await _served(lab, target, before, "down", lab.s(_DOWN_FOR_S, 1.5))
    await asyncio.to_thread(server.start)
    await caught_up(lab, down, lambda: _request_ids(server), ", down")

    await none_lost(lab, target.api)
    await lab.steady_after(target.load)


async def _served(lab: Lab, target: Target, before: Figures, how: str, seconds: float) -> Sample:
    """Requests for some seconds in which the database is of no use."""
    lab.say(f"PostgreSQL is {how} for {seconds:.1f} s")
    sample = await target.load.at_rate(lab.rate, seconds)
    said = (await target.api.readiness())["dependencies"].get("usage", "not shown")
    figures = lab.keep(how, sample)
    lab.note(f"{how}: at its end /health/ready said of usage: {said}")
    lab.expect(f"answered while {how}", figures.success_ratio, ">=", lab.limit("success_ratio"))
    slower_ms = max(0.0, figures.p95_ms - before.p95_ms)
    lab.expect(f"p95 slower while {how} by", slower_ms, "<=", lab.limit("slower_ms"), " ms")
    return sample


def _request_ids(server: postgres.PostgresServer) -> set[str]:
    """The requests that have a row; none where nobody made the table."""
    import psycopg  # noqa: PLC0415 - an extra

    with contextlib.suppress(psycopg.errors.UndefinedTable):
        with psycopg.connect(server.dsn) as connection:
            rows = connection.execute("SELECT request_id FROM radgateway_requests").fetchall()
        return {row[0] for row in rows}
    return set()


def _obstacle() -> str | None:
    if importlib.util.find_spec("psycopg") is None:
        return 'needs psycopg: pip install "radgateway[postgres]"'
    return postgres.MISSING if postgres.binaries() is None else None


DATABASE_POSTGRES = Experiment(
    name="database-postgres",
    phase="3: dependency resilience",
    hypothesis="While PostgreSQL hangs or is down, requests are served and their usage rows wait",
    blast_radius="the usage ledger",
    method=(
        "A PostgreSQL server of the sandbox's own, under load: it and its sessions are stopped in "
        "their tracks (SIGSTOP) for 20 s and let go; then it is ended (SIGQUIT) and started again "
        "20 s later. Each time the answers that callers got are compared with the rows"
    ),
    abort="5 minutes",
    conduct=_conduct,
    limits=LIMITS,
    obstacle=_obstacle,
)
