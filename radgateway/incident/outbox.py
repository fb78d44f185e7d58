"""Sending what waits in the store: at least once, in order, never for ever.

A try is counted before it is made. So what a process was killed over is known to have been tried:
a sender that can ask whether it arrived does so, and one that can't sends it once more. Each
destination has a sender and a turn of its own, since one that hangs must hold up no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from radgateway.incident.deliveries import claimed, settled
from radgateway.incident.notices import Destination
from radgateway.incident.outcome import Delivered, Later, Outcome, Refused
from radgateway.incident.store import StoreUnavailable
from radgateway.incident.transaction import Job, Transaction
from radgateway.routing.backoff import full_jitter_s
from radgateway.task_end import end_task

_log = logging.getLogger("radgateway.incident")

ATTEMPTS_MAX: Final = 12
"""Tries of one message; the waits between them are 24 minutes in all on average, 47 at most."""
BASE_S: Final = 2.0
CAP_S: Final = 600.0
ASKED_MAX_S: Final = 3_600.0
"""Seconds that an answer may ask to be left alone for."""
_IDLE_S: Final = 30.0
"""Seconds until the store is looked at again where nobody said that there is something."""
_BROKEN_S: Final = 2.0


class Sender(Protocol):
    """Takes a message to its destination."""

    async def send(self, job: Job) -> Outcome:
        """Send it within a limited time. What is in `job.attempts` may have arrived."""

    async def aclose(self) -> None:
        """Let go of connections."""


def wait_s(attempts: int, asked_s: float | None, rng: random.Random) -> float | None:
    """Seconds until the next try after so many, or None where there is none.

    What the answer asked for is a lower bound, with the jitter on top.
    """
    if attempts >= ATTEMPTS_MAX:
        return None
    jitter_s = full_jitter_s(attempts, BASE_S, CAP_S, rng)
    return min(asked_s or 0.0, ASKED_MAX_S) + jitter_s


class Outbox:
    """One destination's turn."""

    def __init__(
        self,
        destination: Destination,
        sender: Sender,
        transact: Callable[[Callable[[Transaction], Any]], Awaitable[Any]],
        *,
        on_outcome: Callable[[Destination, str], object],
        clock: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._destination = destination
        self._sender = sender
        self._transact = transact
        self._on_outcome = on_outcome
        self._clock = clock
        self._rng = rng
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        """Say that there may be something to send."""
        self._news.set()

    async def aclose(self) -> None:
        """End; what waits stays in the store."""
        task, self._task = self._task, None
        await end_task(task)
        await self._sender.aclose()

    async def _run(self) -> None:
        while True:
            self._news.clear()
            try:
                found = await self._transact(lambda tx: claimed(tx, self._destination))
                if isinstance(found, Job):
                    await self._send(found)
                    continue
                wait = _IDLE_S if found is None else min(_IDLE_S, found - self._clock())
            except StoreUnavailable as error:
                _log.error("radgateway.incident.store_unavailable", extra={"reason": str(error)})
                wait = _BROKEN_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, wait)):
                    await self._news.wait()

    async def _send(self, job: Job) -> None:
        try:
            outcome = await self._sender.send(job)
        except Exception as error:
            # A bug must not silence all that comes after; the tries of this one are counted.
            _log.exception("radgateway.incident.sender_failed")
            outcome = Later(f"a bug: {type(error).__name__}")
        if isinstance(outcome, Later):
            wait = wait_s(job.attempts + 1, outcome.after_s, self._rng)
            if wait is not None:
                _log.warning(
                    "radgateway.incident.message_delayed",
                    extra={
                        "destination": self._destination,
                        "subject": job.subject,
                        "reason": outcome.reason,
                        "attempts": job.attempts + 1,
                    },
                )
                self._on_outcome(self._destination, "delayed")
                due_at = self._clock() + wait
                await self._transact(lambda tx: tx.put_off(job, due_at))
                return
            outcome = Refused(f"given up after {job.attempts + 1} tries: {outcome.reason}")

        if isinstance(outcome, Refused):
            _log.error(
                "radgateway.incident.message_failed",
                extra={
                    "destination": self._destination,
                    "subject": job.subject,
                    "reason": outcome.reason,
                },
            )
        ended = outcome
        await self._transact(lambda tx: settled(tx, self._destination, job, ended))
        delivered = isinstance(ended, Delivered)
        self._on_outcome(self._destination, "delivered" if delivered else "failed")
