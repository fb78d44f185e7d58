"""The secrets store can't be reached: the last known secrets serve (strategy 8.1, phase 2)."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Any

from radgateway.chaos.experiment import Experiment, Limit
from radgateway.chaos.fake_infisical import FakeInfisical
from radgateway.chaos.lab import Lab, Target
from radgateway.chaos.sandbox import Process

_AWAY_S = 60.0
_REFRESH_S = 1.0
"""The least there is; so even a short outage is several of them."""
_REFRESHES = 3.5


def _config(store: FakeInfisical) -> dict[str, Any]:
    return {
        "keys": [{"name": "chaos", "secret": "infisical:CALLER"}],
        "admin_keys": [{"name": "chaos-admin", "secret": "infisical:ADMIN"}],
        "providers": {"mock": {"kind": "mock"}},
        "models": {"m": {"candidates": [{"provider": "mock"}]}},
        "secrets": {"refresh_s": _REFRESH_S, "infisical": store.settings(timeout_s=0.5)},
    }


async def _conduct(lab: Lab) -> None:
    with FakeInfisical() as store:
        sandbox = lab.sandbox()
        store.values["/"] = {"CALLER": sandbox.key, "ADMIN": sandbox.admin_key}
        lab.say("starting a secrets store, and a gateway in a sandbox that has its keys from it")
        process = await sandbox.gateway(_config(store), environ=store.environ)
        target = lab.target(process.url, model="m", key=sandbox.key, admin_key=sandbox.admin_key)
        await lab.steady_before(target.load)
        ways: dict[str, Callable[[], AbstractContextManager[None]]] = {
            "refusing": store.refusing,
            "hanging": store.hanging,
        }
        for way, broken in ways.items():
            await _outage(lab, target, store, way, broken)
        await _rotated(lab, target, process, store)


async def _outage(
    lab: Lab,
    target: Target,
    store: FakeInfisical,
    way: str,
    broken: Callable[[], AbstractContextManager[None]],
) -> None:
    """The store is away in one way, under load, and comes back."""
    seconds = lab.s(_AWAY_S, _REFRESHES * _REFRESH_S)
    async with _elsewhere(broken):
        lab.say(f"the store is {way}, for {seconds:.1f} s")
        sample = await target.load.at_rate(lab.rate, seconds)
        said = (await target.api.readiness())["dependencies"]["secrets"]
        age_s = await target.api.metric("rad_gateway_secrets_age_seconds") or 0.0
    during = lab.keep(f"store {way}", sample)
    lab.expect(f"answered, {way}", during.success_ratio, ">=", lab.limit("success_ratio"))
    lab.expect(f"/health/ready says stale, {way}", said == "stale", "==", 1)
    lab.expect(f"age of the secrets, {way}", age_s, ">=", seconds - 2 * _REFRESH_S, " s")
    took_s = await lab.until(lambda: _is_ok(target), lab.limit("recovery_s"))
    lab.expect(f"knows of its return, {way}", took_s is not None, "==", 1)


async def _rotated(lab: Lab, target: Target, process: Process, store: FakeInfisical) -> None:
    """A key that is rotated while the store is away comes into force on its return."""
    old, new = target.load, secrets.token_urlsafe(24)
    async with _elsewhere(store.refusing):
        store.values["/"]["CALLER"] = new
        await asyncio.sleep(2 * _REFRESH_S)
        still = await old.one()
        lab.expect("the old key serves meanwhile", still.ok, "==", 1)
    load = lab.target(process.url, model="m", key=new, admin_key="").load

    async def in_force() -> bool:
        return (await load.one()).ok

    limit_s = lab.limit("recovery_s")
    took_s = await lab.until(in_force, limit_s, 0.2)
    lab.expect("seconds until the new key serves", took_s or limit_s + 1, "<=", limit_s, " s")
    refused = await old.one()
    lab.expect("the old key is refused then", refused.status, "==", 401)
    await lab.steady_after(load)


async def _is_ok(target: Target) -> bool:
    said: bool = (await target.api.readiness())["dependencies"]["secrets"] == "ok"
    return said


@contextlib.asynccontextmanager
async def _elsewhere(manager: Callable[[], AbstractContextManager[None]]) -> AsyncIterator[None]:
    """Enter and leave what may wait for threads, beside the loop."""
    entered = manager()
    await asyncio.to_thread(entered.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(entered.__exit__, None, None, None)


SECRETS_STORE = Experiment(
    name="secrets-store",
    phase="2: infrastructure resilience",
    hypothesis="With the secrets store unreachable, the gateway serves with the secrets it knows",
    blast_radius="the connection of a sandbox to its store",
    method=(
        "The store refuses connections, then leaves requests without an answer, each under load "
        "and for several refreshes; then a key is rotated while it is away"
    ),
    abort="5 minutes",
    conduct=_conduct,
    limits={
        "success_ratio": Limit(1.0, "share of requests answered meanwhile"),
        "recovery_s": Limit(5.0, "seconds after its return until the gateway has read it"),
    },
)
