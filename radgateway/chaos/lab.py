"""What an experiment works with: its gateway, load, scaled time, and a place for what it finds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from radgateway.chaos.experiment import (
    Aborted,
    CannotRun,
    Comparison,
    Finding,
    Report,
)
from radgateway.chaos.gateway_api import GatewayAPI
from radgateway.chaos.load import Figures, LoadGenerator, Sample
from radgateway.chaos.sandbox import Sandbox
from radgateway.upstream.connect import connect

STEADY_RATIO = 0.99
"""Share of requests that are answered in a steady state."""
_STEADY_S = 10.0
_SHORTEST_STEADY_S = 1.0
_ABORT_RATIO = 0.5
"""Share of failed requests at which an experiment that expects none is ended."""
_ABORT_CALLS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A gateway that runs already."""

    url: str
    admin_key: str
    key: str
    model: str
    provider: str | None = None
    """The provider to break; None for the one that serves the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run an experiment."""

    live: Live | None = None
    """None for the sandbox."""
    scale: float = 1.0
    """What every duration is multiplied by, over 0."""
    rate_per_s: float = 20.0
    """Requests a second of the load."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Thresholds that replace the experiment's own."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Keys of the sandbox's configuration, to see what would happen with others."""


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway to try, and load for it."""

    api: GatewayAPI
    load: LoadGenerator


class Lab:
    """One run of one experiment. `say` gets a line of progress."""

    def __init__(self, report: Report, options: Options, say: Callable[[str], None]) -> None:
        self.report = report
        self.options = options
        self.rate = options.rate_per_s
        self._say = say
        self._began = time.monotonic()
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Lab:
        return self

    async def __aexit__(self, *exception: Any) -> bool | None:
        return await self._stack.__aexit__(*exception)

    def say(self, text: str) -> None:
        """A line of progress, with the time since the start."""
        self._say(f"[{time.monotonic() - self._began:6.1f} s] {text}")

    def s(self, seconds: float, at_least: float = 0.0) -> float:
        """Seconds at this run's scale; `at_least` is what no machine can be asked to undercut."""
        return max(seconds * self.options.scale, at_least)

    def limit(self, name: str) -> float:
        """A threshold of the hypothesis."""
        return self.options.limits.get(name, self.report.experiment.limits[name].value)

    def expect(
        self, name: str, measured: float, comparison: Comparison, expected: float, unit: str = ""
    ) -> bool:
        """Add a finding, and say it."""
        found = Finding(
            name=name,
            measured=round(measured, 4),
            comparison=comparison,
            expected=round(expected, 4),
            unit=unit,
        )
        self.report.findings.append(found)
        word = "as expected" if found.holds else "NOT AS EXPECTED"
        self.say(f"{name}: {found.measured:g}{unit} ({comparison} {found.expected:g}) {word}")
        return found.holds

    def note(self, text: str) -> None:
        """Something to know that decides nothing."""
        self.report.notes.append(text)
        self.say(text)

    def keep(self, phase: str, sample: Sample) -> Figures:
        """Put a sample's figures into the report."""
        figures = self.report.figures[phase] = sample.figures()
        self.say(
            f"{phase}: {figures.answered} of {figures.requests} requests answered, "
            f"p95 {figures.p95_ms:g} ms, by {figures.providers or 'nobody'}"
        )
        return figures

    def sandbox(self) -> Sandbox:
        """A folder for processes, until the experiment ends."""
        return self._stack.enter_context(Sandbox(self.options.settings))

    def target(self, url: str, *, model: str, key: str, admin_key: str) -> Target:
        """Load and management of a gateway at an address."""
        client = connect(max_connections=8192)
        self._stack.push_async_callback(client.aclose)
        return Target(GatewayAPI(client, url, admin_key), LoadGenerator(client, url, model, key))

    async def gateway(self, config: Mapping[str, Any], model: str = "m") -> Target:
        """The gateway to try: the one that runs, or one of this configuration in a sandbox."""
        live = self.options.live
        if live is not None:
            self.say(f"against {live.url}")
            target = self.target(live.url, model=live.model, key=live.key, admin_key=live.admin_key)
            # Before any load, which real providers are paid for.
            await target.api.check_armable()
            return target
        sandbox = self.sandbox()
        self.say("starting a gateway in a sandbox")
        process = await sandbox.gateway(config)
        return self.target(process.url, model=model, key=sandbox.key, admin_key=sandbox.admin_key)

    async def steady_before(self, load: LoadGenerator) -> Figures:
        """The steady state, without which there is nothing to disturb. Raises `CannotRun`."""
        seconds = self.s(_STEADY_S, _SHORTEST_STEADY_S)
        self.say(f"steady state: {self.rate:g} requests/s for {seconds:.1f} s")
        figures = self.keep("before", await load.at_rate(self.rate, seconds))
        if figures.success_ratio < STEADY_RATIO:
            raise CannotRun(
                f"there is no steady state: {figures.answered} of {figures.requests} requests "
                f"were answered before anything was broken ({figures.failures})"
            )
        return figures

    async def steady_after(self, load: LoadGenerator, *, by: str | None = None) -> Figures:
        """The steady state again, as a finding; `by` is who should answer as before."""
        seconds = self.s(_STEADY_S, _SHORTEST_STEADY_S)
        figures = self.keep("after", await load.at_rate(self.rate, seconds))
        self.expect("answered after", figures.success_ratio, ">=", STEADY_RATIO)
        if by is not None:
            share = figures.providers.get(by, 0) / max(1, figures.answered)
            self.expect(f"answered after by {by}", share, ">=", STEADY_RATIO)
        return figures

    async def until(
        self, condition: Callable[[], Awaitable[bool]], seconds: float, every_s: float = 0.05
    ) -> float | None:
        """Seconds until a condition holds; None where it does not within the time given."""
        began = time.monotonic()
        while not await condition():
            if time.monotonic() - began > seconds:
                return None
            await asyncio.sleep(every_s)
        return time.monotonic() - began

    @contextlib.asynccontextmanager
    async def armed(
        self,
        api: GatewayAPI,
        providers: Mapping[str, Mapping[str, Any]],
        for_s: float,
        abort: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[None]:
        """Break providers while the block runs; disarmed whatever happens.

        Raises `Aborted` where the gateway had ended it itself.
        """
        aborted: str | None = None
        try:
            for provider, faults in providers.items():
                self.say(f"arming {dict(faults)} at {provider}, for {for_s:.1f} s at most")
                await api.arm(provider, dict(faults), for_s, dict(abort or {}))
            yield
        finally:
            try:
                aborted = await api.disarm()
                self.say("disarmed")
            except CannotRun as error:
                self.note(f"could not disarm, so it ends by its time limit: {error}")
        if aborted is not None:
            raise Aborted(f"the gateway disarmed itself: {aborted}")

    def guard(self, sample: Sample) -> None:
        """End an experiment in which callers should not notice, where half of them do."""
        last = sample.calls[-_ABORT_CALLS:]
        failed = sum(not call.ok for call in last)
        if len(last) == _ABORT_CALLS and failed >= _ABORT_RATIO * _ABORT_CALLS:
            raise Aborted(f"{failed} of the last {_ABORT_CALLS} requests failed")
