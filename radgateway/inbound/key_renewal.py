"""RenewedKeys: the keys of an issuer, fetched beside the requests and renewed while they are used.

Issuers replace their keys: some every day, all of them after a theft. The set is fetched when the
gateway starts and again every `refresh_s`. A token by a key that is not in it asks for the set out
of turn and waits for it no longer than `wait_s`; however many ask, it is fetched once, and not
again within `cooldown_s`, so made-up key ids can't make us flood the issuer. While the issuer can't
be reached the last good set holds, for at most `max_stale_s`: a set that may have been withdrawn is
not believed for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from radgateway.asgi import Clock
from radgateway.inbound.bearer_tokens import Keys
from radgateway.inbound.signing_keys import JwkSet
from radgateway.task_end import end_task

_BACKOFF_MAX = 6
"""Doublings of the wait after failures in a row; `refresh_s` ends them before in most cases."""


class KeysUnavailable(Exception):
    """The set could not be had; the message says why, and is fit for a log."""


class Fetched(NamedTuple):
    """A JWK Set as it came."""

    document: bytes
    skew_s: float | None = None
    """By how many seconds the clock of who sent it is ahead of ours, where that is known."""


Fetch = Callable[[], Awaitable[Fetched]]
"""Gets the set, within a time of its own, or raises `KeysUnavailable`."""


class RenewedKeys:
    """A `KeySource` over `fetch`. All times in seconds.

    `on_change(available, reason)` is called when fetching begins to fail, and when it succeeds
    again; `on_skew` gets what each fetch tells of the issuer's clock. Starts with `start`, or with
    the first token that needs it; ends with `aclose`.
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        refresh_s: float = 300.0,
        max_stale_s: float = 86_400.0,
        cooldown_s: float = 10.0,
        wait_s: float = 1.0,
        on_change: Callable[[bool, str], None] | None = None,
        on_skew: Callable[[float], None] | None = None,
        clock: Clock = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        for name, value in (("refresh_s", refresh_s), ("max_stale_s", max_stale_s)):
            if not value > 0:
                raise ValueError(f"{name} must be over 0, not {value}")
        self._fetch = fetch
        self._refresh_s = refresh_s
        self._max_stale_s = max_stale_s
        self._cooldown_s = min(cooldown_s, refresh_s)
        self._wait_s = wait_s
        self._on_change = on_change
        self._on_skew = on_skew
        self._clock = clock
        self._rng = rng or random.Random()
        self._task: asyncio.Task[None] | None = None
        self._document: bytes | None = None
        self._keys: JwkSet | None = None
        self._good_at = 0.0
        self._failures = 0
        self._wanted: asyncio.Event
        self._round: asyncio.Future[None]

    def current(self) -> Keys | None:
        """The newest set, or None where there is none, or none young enough."""
        if self._keys is None or self._clock() - self._good_at > self._max_stale_s:
            return None
        return self._keys

    @property
    def state(self) -> str:
        """ok, stale (the last good set holds), unusable or unavailable; the log says why."""
        if self.current() is None:
            return "unavailable"
        if self._failures:
            return "stale"
        return "ok" if self._keys else "unusable"

    def start(self) -> None:
        """Begin to fetch on the running loop; does nothing where that is under way."""
        if self._task is None or self._task.done():
            self._wanted = asyncio.Event()
            self._begin_round()
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def fetched(self, wait_s: float) -> bool:
        """Begin, and wait so many seconds for the first fetch; False where no good keys came."""
        self.start()
        await asyncio.wait([self._round], timeout=wait_s)
        return self.state == "ok"

    async def renewed(self) -> bool:
        """Wait for the fetch that is under way, or for one made at once, for at most `wait_s`.

        In the cool-down the round is over and nothing is waited for; a fetch comes at its end.
        """
        self.start()
        self._wanted.set()
        before = self.current()
        await asyncio.wait([self._round], timeout=self._wait_s)
        return self.current() is not before

    async def aclose(self) -> None:
        """Stop."""
        task, self._task = self._task, None
        await end_task(task)

    def _begin_round(self) -> None:
        self._round = asyncio.get_running_loop().create_future()

    async def _run(self) -> None:
        while True:
            await self._fetch_once()
            self._round.set_result(None)
            self._wanted.clear()
            rest_s = self._pause_s() - self._cooldown_s
            await asyncio.sleep(self._cooldown_s)
            self._begin_round()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, rest_s)):
                    await self._wanted.wait()

    def _pause_s(self) -> float:
        """Until the next fetch nobody asked for; spread, so that replicas don't go together."""
        pause_s = self._refresh_s
        if self._failures:
            pause_s = min(pause_s, self._cooldown_s * 2 ** min(self._failures, _BACKOFF_MAX))
        return pause_s * self._rng.uniform(0.9, 1.1)

    async def _fetch_once(self) -> None:
        try:
            fetched = await self._fetch()
            # The same set stays the same object: tokens verified with it need not be again.
            if fetched.document != self._document:
                self._keys = JwkSet(fetched.document)
                self._document = fetched.document
        except (KeysUnavailable, ValueError) as error:
            self._failures += 1
            if self._failures == 1 and self._on_change is not None:
                self._on_change(False, str(error))
            return
        failed, self._failures = self._failures, 0
        self._good_at = self._clock()
        if fetched.skew_s is not None and self._on_skew is not None:
            self._on_skew(fetched.skew_s)
        if failed and self._on_change is not None:
            self._on_change(True, "")
