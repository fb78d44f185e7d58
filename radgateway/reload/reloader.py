"""Reloader: reads a configuration again, and swaps all that a gateway serves for what it says.

Validated first, then made, then put in force in one step of the event loop. Up to that step
nothing that serves has been touched, so whatever goes wrong before it leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial, reduce
from operator import or_
from typing import Any, NamedTuple, Protocol, TypeVar

from radgateway.asgi import Clock
from radgateway.config.changes import Change, Diff, differences
from radgateway.config.problems import ConfigError
from radgateway.config.read_files import Marks, file_marks, rewritten
from radgateway.config.restart import needing_restart
from radgateway.config.schema import GatewayConfig
from radgateway.config.secrets import secrets_in
from radgateway.inbound.drain import Drain
from radgateway.reload.refusals import NeedsRestart, ReloadFailed
from radgateway.reload.retirement import Retirement, closed
from radgateway.secrets.rotation import held_back
from radgateway.telemetry.instruments import Instruments, LabelSets
from radgateway.telemetry.redaction import remember

_log = logging.getLogger("radgateway.secrets")
_audit = logging.getLogger("radgateway.audit")

_READ_S = 60.0
"""Seconds that reading a configuration may take, and making what it says."""

Read = Callable[[], GatewayConfig]
Closer = Callable[[], Awaitable[object]]
T = TypeVar("T")


class Loaded(NamedTuple):
    """Which configuration is in force since when, and why."""

    generation: int
    at: float
    """Unix seconds."""
    by: str
    """`start`, `signal`, `secrets`, `host`, or the name of the admin key that asked."""


class Leftovers(NamedTuple):
    """What is left of a generation when another one serves."""

    at_once: list[Closer]
    after_requests: list[Closer]
    """Closed when its last request has ended, or after `limit_s` seconds."""
    limit_s: float


class Generation(Protocol):
    """All that one configuration is made of."""

    @property
    def loaded(self) -> Loaded:
        """Since when it is in force, and why."""

    @property
    def config(self) -> GatewayConfig:
        """What it was made from."""

    @property
    def marks(self) -> Marks:
        """What was in the files that names."""

    @property
    def labels(self) -> LabelSets:
        """The names that its metrics may have."""

    @property
    def closers(self) -> list[Closer]:
        """How it ends together with everything, in order."""

    async def prepare(self, before: Any) -> None:
        """Have ready what the first request may need. Raises `ReloadFailed`."""

    def begin(self) -> None:
        """Serve from now on. Does not wait."""

    def give_way(self, after: Any) -> Leftovers:
        """Stop what can't go on beside the next one; gives what does not go on in that."""


Make = Callable[[GatewayConfig, Loaded, Any], Generation]
"""Makes the generation of a configuration that goes on from the one before; in a thread."""


class Reloader:
    """Keeps the generation that is in force. One reload at a time; others wait for it.

    `read` reads the configuration again, None where there is nothing to read it from.
    """

    def __init__(
        self,
        first: Generation,
        make: Make,
        *,
        read: Read | None,
        drain: Drain,
        instruments: Instruments,
        wall: Clock = time.time,
    ) -> None:
        self.current = first
        self._make = make
        self._read = read
        self._drain = drain
        self._instruments = instruments
        self._wall = wall
        self._lock = asyncio.Lock()
        self._retirement = Retirement(drain)
        # A thousand series take a tenth of a second, so they are made and removed in a thread.
        self._labelling = asyncio.Lock()
        self._labels: dict[int, LabelSets] = {first.loaded.generation: first.labels}
        instruments.config_in_force(first.loaded.at)

    async def reload(self, by: str) -> Diff:
        """Read the source again and put it in force; gives what has changed.

        Raises `ConfigError`, `NeedsRestart` or `ReloadFailed`, and nothing has changed then.
        `by` is who asked for it, for the audit. It goes on where its caller is cancelled.
        """
        return await asyncio.shield(self._told(self._reread(by), by))

    async def apply(self, config: GatewayConfig, by: str) -> Diff:
        """The same with a configuration whose secrets have been read."""
        return await asyncio.shield(self._told(self._apply(config, by), by))

    async def revise(self, change: Callable[[GatewayConfig], GatewayConfig], by: str) -> Diff:
        """The same with what `change` makes of the configuration that is in force by then."""
        return await asyncio.shield(self._told(self._revised(change, by), by))

    async def check(self, by: str) -> Diff:
        """What a reload would change. Raises what it would, except for what only trying shows."""
        return await asyncio.shield(self._told(self._checked(), by))

    async def aclose(self) -> None:
        """Wait for a reload under way; then close what earlier generations have left, and this."""
        async with self._lock, contextlib.AsyncExitStack() as stack:
            for close in reversed((self._retirement.aclose, *self.current.closers)):
                stack.push_async_callback(close)

    async def _told(self, work: Awaitable[Diff], by: str) -> Diff:
        """Do it, and where it is refused say so."""
        try:
            return await work
        except ConfigError as error:
            self._refused("invalid", by, str(error))
            raise
        except NeedsRestart as error:
            self._refused("needs_restart", by, str(error))
            raise
        except ReloadFailed as error:
            self._refused("failed", by, str(error))
            raise
        except Exception as error:
            # Whatever it is, those who serve go on; who asked must hear that it was not done.
            self._refused("failed", by, f"{type(error).__name__}: {error}")
            raise ReloadFailed(f"it could not be put in force: {type(error).__name__}") from error

    async def _reread(self, by: str) -> Diff:
        async with self._lock:
            return await self._put_in_force(await self._source(), by)

    async def _apply(self, config: GatewayConfig, by: str) -> Diff:
        async with self._lock:
            return await self._put_in_force(config, by)

    async def _revised(self, change: Callable[[GatewayConfig], GatewayConfig], by: str) -> Diff:
        async with self._lock:
            return await self._put_in_force(change(self.current.config), by)

    async def _checked(self) -> Diff:
        async with self._lock:
            config = await self._source()
            return (await in_thread(partial(_judged, self.current, config))).diff

    async def _source(self) -> GatewayConfig:
        if self._read is None:
            raise ReloadFailed("there is no file to read again; give the new configuration")
        return await in_thread(self._read)

    async def _put_in_force(self, config: GatewayConfig, by: str) -> Diff:
        before = self.current
        if self._drain.leaving:
            raise ReloadFailed("this process is shutting down")
        config, diff, waiting = await in_thread(partial(_judged, before, config))
        if waiting:
            _log.warning("radgateway.secrets.needs_restart", extra={"changed": waiting})
        if not diff.changes:
            self._unchanged(by)
            return diff
        loaded = Loaded(before.loaded.generation + 1, self._wall(), by)
        made = await in_thread(partial(self._made, config, loaded, before))
        try:
            await self._let_in(made)
            await made.prepare(before)
        except BaseException:
            await self._take_back(loaded.generation)
            raise
        for close in self._swap(before, made):
            await closed(close)
        self._report(loaded, diff)
        return diff

    def _made(self, config: GatewayConfig, loaded: Loaded, before: Generation) -> Generation:
        # Hidden from now on wherever they turn up, so also in what may go wrong here.
        remember(secrets_in(config))
        return self._make(config, loaded, before)

    def _swap(self, before: Generation, made: Generation) -> list[Closer]:
        """The one step in which everything changes; gives what is to be closed right after it."""
        ended = before.loaded.generation
        left = before.give_way(made)
        # What it begins is no part of the request that asked for it.
        Context().run(made.begin)
        self.current = made
        forget = partial(self._take_back, ended)
        self._retirement.retire([*left.after_requests, forget], left.limit_s)
        return left.at_once

    async def _let_in(self, made: Generation) -> None:
        """Have the names of a generation be values of labels, and its series begin at 0."""
        async with self._labelling:
            self._labels[made.loaded.generation] = made.labels
            await in_thread(partial(self._instruments.widen, made.labels))

    async def _take_back(self, ended: int) -> None:
        """Take back the names that only one generation had, whose last request has ended."""
        async with self._labelling:
            self._labels.pop(ended, None)
            # The newest last: it says whether keys show.
            left = reduce(or_, (self._labels[number] for number in sorted(self._labels)))
            await in_thread(partial(self._instruments.narrow, left))

    def _unchanged(self, by: str) -> None:
        self._instruments.reloaded("unchanged", self._wall())
        generation = self.current.loaded.generation
        _audit.info("radgateway.config.unchanged", extra={"by": by, "generation": generation})

    def _report(self, loaded: Loaded, diff: Diff) -> None:
        self._instruments.reloaded("applied", loaded.at)
        fields = {"by": loaded.by, "generation": loaded.generation, **diff.shown()}
        _audit.warning("radgateway.config.reloaded", extra=fields)

    def _refused(self, outcome: str, by: str, reason: str) -> None:
        self._instruments.reloaded(outcome)
        fields = {"by": by, "outcome": outcome, "reason": reason}
        _audit.warning("radgateway.config.reload_refused", extra=fields)


class _Judged(NamedTuple):
    """A configuration that can come into force."""

    config: GatewayConfig
    diff: Diff
    waiting: list[str]
    """Secrets that are other ones after a restart, and stay what they are until then."""


def _judged(current: Generation, config: GatewayConfig) -> _Judged:
    """What a configuration would change. Raises `NeedsRestart`."""
    config, waiting = held_back(config, current.config)
    diff = differences(current.config, config)
    stuck = needing_restart(diff.paths)
    if stuck:
        raise NeedsRestart(stuck)
    files = rewritten(current.marks, file_marks(config))
    more = (Change(key, hidden=True) for key in files)
    return _Judged(config, Diff((*diff.changes, *more)), waiting)


async def in_thread(work: Callable[[], T]) -> T:
    """Do what reads files or takes long beside the requests. Raises `ReloadFailed` where it hangs.

    What hangs can't be stopped; what comes of it is dropped.
    """
    try:
        async with asyncio.timeout(_READ_S):
            return await asyncio.to_thread(work)
    except TimeoutError:
        raise ReloadFailed(f"it took longer than {_READ_S:g} s to read") from None
