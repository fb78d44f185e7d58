"""Degraded modes: what the gateway does while something it depends on is not well.

Declared here once, for every dependency and every state it can be in. `/health/ready` shows the
ones in force, the metrics count them, the documentation has the same table, and one test puts each
dependency into each state and checks that what is declared is what happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from radgateway.task_end import end_task

Check = Callable[[], str]
"""Says the state of a dependency in a word. Must not wait."""


class Mode(NamedTuple):
    """What is done while a dependency is in a state."""

    dependency: str
    """limits, breaker_hints, usage, journal, secrets, tokens, traces or provider."""
    state: str
    available: bool
    """Whether the dependency does its work."""
    behaviour: str
    """What the gateway does meanwhile; empty where that is nothing special."""
    ready: bool = True
    """Whether it can serve at all; readiness is 503 where it can't."""


MODES: Final[tuple[Mode, ...]] = (
    Mode("limits", "ok", True, ""),
    Mode(
        "limits",
        "unchecked",
        False,
        "requests are served without their limits being checked; a check waits "
        "limits.storage_timeout_s at most",
    ),
    Mode(
        "limits",
        "refused",
        False,
        "requests that have limits are answered 503 overloaded; a check waits "
        "limits.storage_timeout_s at most",
    ),
    Mode(
        "limits",
        "local",
        False,
        "each process counts by itself, up to its share of each limit",
    ),
    Mode("breaker_hints", "ok", True, ""),
    Mode(
        "breaker_hints",
        "unavailable",
        False,
        "each replica's circuit breakers judge by their own calls alone",
    ),
    Mode("usage", "ok", True, ""),
    Mode(
        "usage",
        "unavailable",
        False,
        "requests are served; usage rows wait in the journal and in memory and are written when "
        "the ledger is back; the management API's usage and traces answer 503",
    ),
    Mode("journal", "ok", True, ""),
    Mode(
        "journal",
        "unavailable",
        False,
        "requests are served; until the ledger has them, usage rows are in memory only: a process "
        "that is killed loses up to a fifth of a second of them, or all while the ledger is away",
    ),
    Mode("secrets", "ok", True, ""),
    Mode(
        "secrets",
        "unreadable",
        False,
        "the process does not start, and names each secret that can't be read",
    ),
    Mode(
        "secrets",
        "stale",
        False,
        "the last known secrets serve: those of a file for as long as it can't be read, those of "
        "the store for at most secrets.infisical.max_stale_s",
    ),
    Mode(
        "secrets",
        "expired",
        False,
        "new requests are answered 503 secrets_expired with Retry-After, and readiness is 503: a "
        "key that was revoked must not work for ever; what is under way goes on",
        ready=False,
    ),
    Mode("tokens", "ok", True, ""),
    Mode(
        "tokens",
        "stale",
        False,
        "the issuer's keys can't be fetched: the last good set holds, for at most jwt.max_stale_s",
    ),
    Mode(
        "tokens",
        "unavailable",
        False,
        "there are no keys to check tokens by: they are answered 503 auth_unavailable; API keys "
        "are taken as ever",
    ),
    Mode(
        "tokens",
        "unusable",
        False,
        "the issuer's set holds no key that can be used: tokens are refused",
    ),
    Mode(
        "tokens",
        "clocks_differ",
        True,
        "tokens are judged by this machine's clock, with the configured leeway; beyond it they are "
        "refused as expired or not yet valid",
    ),
    Mode("traces", "ok", True, ""),
    Mode("traces", "off", True, ""),
    Mode(
        "traces",
        "unavailable",
        False,
        "requests are served; spans wait in a bounded queue, and the oldest are dropped",
    ),
    Mode("provider", "ok", True, ""),
    Mode(
        "provider",
        "failing",
        False,
        "it is asked first all the same; a request that fails there goes to the next candidate, "
        "within the retry budget",
    ),
    Mode(
        "provider",
        "open",
        False,
        "it is passed over without an attempt; where no candidate is left, requests are answered "
        "503 no_provider_available with Retry-After",
    ),
    Mode(
        "provider",
        "half_open",
        False,
        "a few requests try it, and all others pass it over",
    ),
    Mode(
        "provider",
        "resting",
        False,
        "it asked to be left alone, or refuses our key: it is passed over until then, and its "
        "circuit stays closed",
    ),
    Mode(
        "provider",
        "isolated",
        False,
        "it is passed over until an administrator lets it in again",
    ),
    Mode(
        "provider",
        "full",
        True,
        "it is passed over until one of its calls has ended",
    ),
    Mode(
        "provider",
        "unreachable",
        False,
        "only its probes fail: requests are sent to it as ever, and fail over if they must",
    ),
)
"""All of them. A state without a behaviour is not a degraded one."""

_BY_STATE: Final = {(mode.dependency, mode.state): mode for mode in MODES}


def mode_of(dependency: str, state: str) -> Mode:
    """The mode declared for a state; `provider:NAME` is a provider.

    A state that nobody declared is degraded, and said to be undeclared.
    """
    kind = dependency.partition(":")[0]
    mode = _BY_STATE.get((kind, state))
    return mode if mode is not None else Mode(kind, state, False, "undeclared")


class DependencyWatch:
    """Reads the state of every dependency, once a second and whenever somebody looks.

    `on_change` is told of each dependency's first mode and of every change, with the mode before.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        on_change: Callable[[str, Mode | None, Mode], object] | None = None,
        *,
        interval_s: float = 1.0,
    ) -> None:
        self._checks = dict(checks)
        self._on_change = on_change
        self._interval_s = interval_s
        self._modes: dict[str, Mode] = {}
        self._task: asyncio.Task[None] | None = None

    def watch(self, checks: Mapping[str, Check]) -> None:
        """Look at these from now on. What nothing depends on any more is well, as of now: what
        shows it may be taken away before the next look."""
        self._checks = dict(checks)
        for name in self._modes.keys() - checks.keys():
            before = self._modes.pop(name)
            if self._on_change is not None:
                self._on_change(name, before, mode_of(name, "ok"))

    def read(self) -> dict[str, Mode]:
        """Each dependency's mode now."""
        modes = {name: mode_of(name, check()) for name, check in self._checks.items()}
        before, self._modes = self._modes, dict(modes)
        if self._on_change is not None and modes != before:
            for name, mode in modes.items():
                if before.get(name) != mode:
                    self._on_change(name, before.get(name), mode)
        return modes

    def start(self) -> None:
        """Begin to look by itself, on the running loop."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Stop looking."""
        task, self._task = self._task, None
        await end_task(task)

    async def _run(self) -> None:
        while True:
            self.read()
            await asyncio.sleep(self._interval_s)


def shown(modes: Mapping[str, Mode]) -> dict[str, Any]:
    """The modes as readiness shows them: every state, and the behaviours now in force."""
    return {
        "dependencies": {name: mode.state for name, mode in modes.items()},
        "degraded": [
            {"dependency": name, "state": mode.state, "behaviour": mode.behaviour}
            for name, mode in modes.items()
            if mode.behaviour
        ],
    }
