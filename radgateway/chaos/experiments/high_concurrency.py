"""A thousand streams at once, and more than may be: no errors but declared ones (strategy 2.2)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from radgateway.chaos.experiment import CannotRun, Experiment, Limit
from radgateway.chaos.gateway_api import GatewayAPI
from radgateway.chaos.lab import Lab
from radgateway.chaos.load import Sample

_STREAMS = 1000
_FEWEST = 50
_TOKENS_PER_S = 10.0
_MIB = 1024 * 1024


def _config(upstream: str, streams: int) -> dict[str, Any]:
    provider = {
        "kind": "openai",
        "base_url": f"{upstream}/v1",
        "api_key": "sandbox",
        "max_concurrency": streams,
    }
    return {
        "providers": {"up": provider},
        "models": {"m": {"candidates": [{"provider": "up"}]}},
        "admission": {"max_concurrency": streams, "max_queue": streams // 4, "max_wait_s": 0.5},
        "upstream": {"max_connections": streams + 16},
    }


async def _conduct(lab: Lab) -> None:
    streams = max(_FEWEST, round(_STREAMS * min(1.0, lab.options.scale)))
    _allow_files(4 * streams + 256)
    sandbox = lab.sandbox()
    lab.say(f"starting a provider and a gateway for {streams} streams at once")
    upstream = await sandbox.mock_upstream(tokens_per_s=_TOKENS_PER_S)
    process = await sandbox.gateway(_config(upstream.url, streams))
    target = lab.target(process.url, model="m", key=sandbox.key, admin_key=sandbox.admin_key)
    api, load = target.api, target.load
    before = await lab.steady_before(load)
    rest_mib = await _memory_mib(api)

    lab.say(f"{streams} streams at once")
    full, peak_mib = await _with_peak(api, load.at_once(streams, stream=True))
    figures = lab.keep("at the limit", full)
    lab.expect("streams answered in full, at the limit", figures.answered, "==", streams)

    lab.say(f"{streams * 3 // 2} at once, half as many again as may be")
    over, peak_over_mib = await _with_peak(api, load.at_once(streams * 3 // 2, stream=True))
    lab.keep("over the limit", over)
    undeclared = [call for call in over.calls if not call.ok and not call.shed]
    lab.expect("errors that are no declared refusal", len(undeclared), "==", 0)
    lab.expect("answered in full, over the limit", sum(c.ok for c in over.calls), ">=", streams)
    lab.expect("declined with Retry-After", sum(c.shed for c in over.calls), ">=", 1)

    if rest_mib is not None:
        grown = max(peak_mib, peak_over_mib) - rest_mib
        limit_mib = lab.limit("memory_mib") * max(1.0, streams / _STREAMS)
        lab.expect("memory grown at its peak", grown, "<=", limit_mib, " MiB")
    await _recovered(lab, api)
    after = await lab.steady_after(load)
    slower_ms = max(0.0, after.p95_ms - before.p95_ms)
    lab.expect("p95 slower after by", slower_ms, "<=", lab.limit("slower_ms"), " ms")


async def _recovered(lab: Lab, api: GatewayAPI) -> None:
    async def idle() -> bool:
        return bool((await api.readiness())["in_flight"] == 0)

    await lab.until(idle, 5.0)
    lab.expect("requests in flight after", (await api.readiness())["in_flight"], "==", 0)
    taken = (await api.providers())["up"]["inFlight"]
    lab.expect("places at the provider taken after", taken, "==", 0)


async def _with_peak(api: GatewayAPI, work: Any) -> tuple[Sample, float]:
    """What some work gives, and the gateway's memory at its highest meanwhile."""
    peak = 0.0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, await _memory_mib(api) or 0.0)
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    try:
        sample: Sample = await work
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError, CannotRun):
            await watching
    return sample, peak


async def _memory_mib(api: GatewayAPI) -> float | None:
    """Resident memory of the gateway; None where its system does not tell."""
    value = await api.metric("process_resident_memory_bytes")
    return value / _MIB if value is not None else None


def _allow_files(needed: int) -> None:
    """Let this process and those it starts open enough sockets. Raises `CannotRun`."""
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise CannotRun(f"needs {needed} open files, and may have {hard}; raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


HIGH_CONCURRENCY = Experiment(
    name="high-concurrency",
    phase="2.2: performance concerns",
    hypothesis="At 1,000 streams at once, and at more, nothing fails but what is declined openly",
    blast_radius="a sandbox only: a gateway at its limit",
    method=(
        "1,000 streams of some seconds begin at once, as many as the gateway may serve; "
        "then half as many again"
    ),
    abort="5 minutes",
    conduct=_conduct,
    limits={
        "memory_mib": Limit(200.0, "MiB that resident memory may grow for 1,000 streams"),
        "slower_ms": Limit(100.0, "milliseconds that the p95 may grow for good"),
    },
)
