"""How long usage is kept: rows the shortest, roll-ups by hour longer, those by day the longest."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from radgateway.asgi import Clock

_log = logging.getLogger("radgateway.usage")

DAY_S: Final = 86_400
EXPIRED_AT_ONCE: Final = 500
"""Rows, and roll-ups of each kind, deleted in one transaction: some ten milliseconds' worth."""


class Horizon(NamedTuple):
    """Unix seconds before which each kind is too old; None keeps it for ever."""

    rows: float | None
    hourly: float | None
    daily: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionConfig:
    """How long usage is kept. Each null means for ever."""

    rows_days: int | None = 30
    """Days a request and its attempts are kept as they were, at least 1."""
    hourly_days: int | None = 90
    """Days the roll-ups by hour are kept, no fewer than rows."""
    daily_days: int | None = 800
    """Days the roll-ups by day are kept, no fewer than those by hour; over two years, so that a
    month can be held against the same one of the year before."""

    def __post_init__(self) -> None:
        least, least_name = 1.0, "1"
        for name in ("rows_days", "hourly_days", "daily_days"):
            days = getattr(self, name)
            if days is not None and not least <= days <= 36_500:
                raise ValueError(f"{name} must be at least {least_name} and at most 36500, or null")
            least = days if days is not None else float("inf")
            least_name = name if days is not None else "null"

    def horizon(self, now: float) -> Horizon:
        """What is too old at a time, in Unix seconds. Roll-ups go by whole days."""
        today = now // DAY_S * DAY_S

        def before(days: int | None, since: float) -> float | None:
            return since - days * DAY_S if days is not None else None

        return Horizon(
            before(self.rows_days, now),
            before(self.hourly_days, today),
            before(self.daily_days, today),
        )


class Retention:
    """Deletes what is too old, some minutes after the start and every hour or so from then on.

    `expire` deletes a little and says how much. Between one piece and the next there is a pause
    for the writes, and no two processes of a deployment begin at the same time.
    """

    def __init__(
        self,
        config: RetentionConfig,
        expire: Callable[[Horizon], Awaitable[int]],
        *,
        interval_s: float = 3600.0,
        pause_s: float = 0.05,
        clock: Clock = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._config = config
        self._expire = expire
        self._interval_s = interval_s
        self._pause_s = pause_s
        self._clock = clock
        self._sleep = sleep
        self._rng = rng or random.Random()

    async def run(self) -> None:
        """For ever."""
        await self._sleep(self._interval_s * self._rng.uniform(0.0, 0.1))
        while True:
            await self.sweep()
            await self._sleep(self._interval_s * self._rng.uniform(0.5, 1.5))

    async def sweep(self) -> None:
        """Delete all that is too old now."""
        horizon = self._config.horizon(self._clock())
        deleted = 0
        while piece := await self._expire(horizon):
            deleted += piece
            await self._sleep(self._pause_s)
        if deleted:
            _log.info("radgateway.usage.expired", extra={"rows": deleted})
