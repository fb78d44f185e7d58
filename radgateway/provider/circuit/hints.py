"""BreakerHints: what other replicas found out about a provider, as a hint and off the request path.

A breaker's state stays its own: what one replica sees may be its own network, and a store that is
slow or gone must not decide who is served. So a circuit that opens says so in Redis, under a key
that expires with its open time, and whoever reads a new one there probes the provider before
trusting it further (`BreakerPolicy.hint`). Each is heeded once; circuits that open again after a
failed probe say nothing new. A request never waits for any of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from radgateway.asgi import Clock
from radgateway.task_end import end_task


class Hinted(Protocol):
    """What can be hinted at: a `BreakerPolicy`."""

    def hint(self) -> bool:
        """Take the hint, or not."""


def hints_client(uri: str, timeout_s: float = 0.5) -> Any:
    """A Redis client for `BreakerHints`, each of whose waits has a limit."""
    from redis.asyncio import Redis  # noqa: PLC0415 - an extra, needed where hints are shared
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    return Redis.from_url(
        uri,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        max_connections=2,
        retry=Retry(NoBackoff(), 1),  # a connection that has died while idle
    )


class BreakerHints:
    """Shares the openings of some breakers through a Redis, by the providers' names.

    `client` is a redis.asyncio one, which it closes. It is read every `interval_s` seconds and
    given `timeout_s` for an answer; `on_change(available, reason)` hears once that it does not
    come, and once that it does again. `on_heeded(name)` hears of each hint that was taken.
    """

    def __init__(
        self,
        client: Any,
        *,
        prefix: str = "radgateway:breaker:",
        interval_s: float = 1.0,
        timeout_s: float = 0.5,
        on_change: Callable[[bool, str], None] | None = None,
        on_heeded: Callable[[str], None] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        if not interval_s > 0:
            raise ValueError(f"interval_s must be more than 0, not {interval_s}")
        self.available = True
        self._client = client
        self._prefix = prefix
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._on_change = on_change
        self._on_heeded = on_heeded
        self._clock = clock
        self._me = secrets.token_hex(8)
        self._published = 0
        self._policies: dict[str, Hinted] = {}
        self._pending: dict[str, float] = {}
        self._seen: dict[str, bytes] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def watch(self, name: str, policy: Hinted) -> None:
        """Hint at this policy what others say about the provider of that name."""
        self._policies[name] = policy

    def watch_only(self, policies: Mapping[str, Hinted]) -> None:
        """Hint at these, and at no others."""
        self._policies = dict(policies)

    def publish(self, name: str, open_s: float) -> None:
        """Tell the others that a circuit has opened for so many seconds. Does not wait."""
        self._pending[name] = self._clock() + open_s
        self._wake.set()

    def start(self) -> None:
        """Begin on the running loop; does nothing where it runs already."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Stop, and close the connection."""
        task, self._task = self._task, None
        await end_task(task)
        with contextlib.suppress(Exception):
            await self._client.aclose()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                async with asyncio.timeout(self._timeout_s):
                    found = await self._exchange()
            except TimeoutError:
                self._turn(False, f"no answer in {self._timeout_s:g} s")
            except Exception as error:
                # A client has errors of many kinds; this task must survive all of them.
                self._turn(False, f"{type(error).__name__}: {error}")
            else:
                self._turn(True, "")
                self._heed(found)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._wake.wait()

    async def _exchange(self) -> Mapping[str, bytes | None]:
        """Write what is to be published, and read what all say, in one round trip."""
        names = list(self._policies)
        if not names:
            return {}
        pending, self._pending = self._pending, {}
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for name, until in pending.items():
                    left_ms = int((until - self._clock()) * 1000)
                    if left_ms > 0:
                        self._published += 1
                        token = f"{self._me}:{self._published}"
                        pipeline.set(self._prefix + name, token, px=left_ms)
                pipeline.mget([self._prefix + name for name in names])
                *_, values = await pipeline.execute()
        except BaseException:
            self._pending = {**pending, **self._pending}
            raise
        return dict(zip(names, values, strict=True))

    def _heed(self, found: Mapping[str, bytes | None]) -> None:
        for name, token in found.items():
            if token is None:
                self._seen.pop(name, None)
            elif token != self._seen.get(name):
                self._seen[name] = token
                theirs = not token.startswith(self._me.encode())
                policy = self._policies.get(name)  # it may have gone while this was asked
                heeded = theirs and policy is not None and policy.hint()
                if heeded and self._on_heeded is not None:
                    self._on_heeded(name)

    def _turn(self, available: bool, reason: str) -> None:
        changed, self.available = available != self.available, available
        if changed and self._on_change is not None:
            self._on_change(available, reason)
