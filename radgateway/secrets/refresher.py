"""SecretsRefresher: looks after secrets beside the requests, and puts changes into force.

Files are looked at every `file_poll_s`, the store is asked every `refresh_s` and sooner after a
failure. What changed goes to `revise` as a function over the configuration in force, so that a
reload in between is not taken back; the file that was read at the start plays no part. Whatever
can't be read keeps its last value: a file without end, the store's for `max_stale_s`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from radgateway.config import checks
from radgateway.config.problems import dotted
from radgateway.config.references import local
from radgateway.config.schema import GatewayConfig
from radgateway.secrets.reading import STORE, SecretsUnavailable, StoreReading
from radgateway.secrets.report import SecretsReport
from radgateway.secrets.rotation import (
    LookedUp,
    Rotation,
    changing_references,
    looked_up,
    rotated,
)
from radgateway.secrets.watched_store import WatchedStore
from radgateway.task_end import end_task

_log = logging.getLogger("radgateway.secrets")

_SETTLES_S: Final = 0.2
"""A file that reads the same twice so far apart is not one that is just being written."""
_AFTER_A_BUG_S: Final = 1.0

Revise = Callable[[Callable[[GatewayConfig], GatewayConfig]], Awaitable[Any]]
"""Puts in force what a function makes of the configuration in force. Whatever it raises, nothing
has changed then."""
MakeStore = Callable[..., WatchedStore]


class SecretsRefresher:
    """The secrets of one process, that of `config` first; `current` is what is in force by then.

    `on_outcome` gets what each look came to that found a change or asked the store: unchanged,
    rotated, refused or failed. Starts with `start`, ends with `aclose`.
    """

    def __init__(
        self,
        config: GatewayConfig,
        current: Callable[[], GatewayConfig],
        revise: Revise,
        *,
        on_outcome: Callable[[str], object] = lambda outcome: None,
        make_store: MakeStore = WatchedStore,
        settles_s: float = _SETTLES_S,
    ) -> None:
        self._current = current
        self._revise = revise
        self._on_outcome = on_outcome
        self._make_store = make_store
        self._settles_s = settles_s
        self._store: WatchedStore | None = None
        self._settings = config.secrets
        self._seen = config
        self._references = changing_references(config)
        self._report = SecretsReport()
        self._faults: Mapping[str, str] = {}
        self._refused: tuple[GatewayConfig, LookedUp, float] | None = None
        self._task: asyncio.Task[None] | None = None
        if config.store_reading is not None:
            self._store = make_store(config.secrets, config.store_reading)

    @property
    def state(self) -> str:
        """ok, stale (last known ones serve) or expired (they are too old to)."""
        state = self._store.last.state if self._store is not None else "ok"
        return "stale" if state == "ok" and self._faults else state

    @property
    def age_s(self) -> float:
        """Seconds since the store was read; 0 without one."""
        return self._store.last.age_s if self._store is not None else 0.0

    @property
    def retry_in_s(self) -> float:
        """Seconds until the store is asked again."""
        return self._store.last.wait_s if self._store is not None else 0.0

    @property
    def reading(self) -> StoreReading | None:
        """What is known of the store."""
        return self._store.reading if self._store is not None else None

    def start(self) -> None:
        """Begin on the running loop; does nothing where that is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Stop."""
        task, self._task = self._task, None
        await end_task(task)
        store, self._store = self._store, None
        if store is not None:
            await store.aclose()

    async def _run(self) -> None:
        while True:
            wait_s = self._settings.file_poll_s
            if self._store is not None:
                wait_s = min(wait_s, self._store.last.wait_s)
            await asyncio.sleep(wait_s)
            try:
                await self.look()
            except Exception:
                # Were it to end here, a key that was revoked would go on until it expires.
                _log.exception("radgateway.secrets.look_failed")
                self._on_outcome("failed")
                await asyncio.sleep(_AFTER_A_BUG_S)

    async def look(self) -> None:
        """Look once: at the files, and at the store where that is due."""
        config = self._current()
        await self._follow(config)
        answered = await self._ask_store()
        if not self._references:
            self._faults = {}
            return
        # Files may be on a disk that is slow, and a thousand keys take a while to compare.
        found = await asyncio.to_thread(self._look_up)
        rotation = await asyncio.to_thread(rotated, config, found.texts)
        if rotation.changed:
            await asyncio.sleep(self._settles_s)
            if await asyncio.to_thread(self._look_up) != found:
                return  # the next look will find it whole
        self._faults = {**found.faults, **rotation.faults}
        self._report.unreadable(self._faults)
        self._report.waiting(rotation.waiting)
        if rotation.changed and not self._was_refused(config, found):
            self._on_outcome(await self._put_in_force(rotation, config, found))
        elif answered:
            self._on_outcome("unchanged")

    async def _follow(self, config: GatewayConfig) -> None:
        """Have the references and the store of the configuration in force."""
        if config is not self._seen:
            self._seen, self._references = config, changing_references(config)
        reading, store = config.store_reading, self._store
        if store is not None and reading is not None and config.secrets == self._settings:
            store.adopt(reading)
            return
        made = None
        if reading is not None:
            known = max(reading, self.reading or reading, key=lambda each: each.read_at)
            made = self._make_store(config.secrets, known)
        self._store, self._settings = made, config.secrets
        if store is not None:
            await store.aclose()

    async def _ask_store(self) -> bool:
        """Read the store where that is due; whether it answered."""
        store = self._store
        if store is None:
            return False
        answered = False
        if store.last.wait_s <= 0:
            try:
                await store.refresh(self._references)
                answered = True
                self._report.answered(await store.seal())
            except SecretsUnavailable as failure:
                self._on_outcome("failed")
                self._report.failed(str(failure))
        if store.last.state == "expired":
            self._report.expired(store.last.age_s)
        return answered

    def _look_up(self) -> LookedUp:
        store, read_file = self._store, local({})

        def read(reference: str) -> str:
            if store is not None and reference.startswith(STORE):
                return store.text(reference)
            return read_file(reference)

        return looked_up(self._references, read)

    def _was_refused(self, config: GatewayConfig, found: LookedUp) -> bool:
        """Whether just this was refused of late: it is tried again, but not at every look."""
        if self._refused is None:
            return False
        before, texts, again_at = self._refused
        now = asyncio.get_running_loop().time()
        return before is config and texts == found and now < again_at

    async def _put_in_force(
        self, rotation: Rotation, config: GatewayConfig, found: LookedUp
    ) -> str:
        """What came of it; nothing where another configuration has come into force since `config`.

        A reload has read the secrets later than we have: the next look goes by what it read.
        """
        overtaken = False

        def change(current: GatewayConfig) -> GatewayConfig:
            nonlocal overtaken
            overtaken = current is not config
            return current if overtaken else rotation.config

        fault = await asyncio.to_thread(lambda: next(checks.faults(rotation.config), None))
        reason = f"{dotted(fault[0])} {fault[1]}" if fault is not None else ""
        if not reason:
            try:
                await self._revise(change)
            except Exception as error:
                # Whatever it is, what serves goes on with what it has.
                reason = str(error) or type(error).__name__
        if reason:
            again_at = asyncio.get_running_loop().time() + self._settings.refresh_s
            self._refused = config, found, again_at
            self._report.refused(rotation.changed, reason)
            return "refused"
        self._refused = None
        if overtaken:
            return "unchanged"
        self._report.rotated(rotation.changed)
        return "rotated"
