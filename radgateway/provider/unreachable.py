"""Saying why a provider can't be reached, once for each reason and not once for each request.

Callers are told that it can't be; why (a certificate that has expired, a name that is not known)
is for whoever can mend it. A provider that is down fails thousands of calls for one reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from radgateway.asgi import Clock

QUIET_S = 60.0
"""Seconds in which the same reason is not repeated."""

Say = Callable[[str, int], None]
"""Takes the reason, and how many failures since the last time were left unsaid."""


class UnreachableNotice:
    """Decides when a failure to connect is worth saying; one for each provider."""

    __slots__ = ("_clock", "_last", "_reason", "_say", "_unsaid")

    def __init__(self, say: Say, clock: Clock = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._reason = ""
        self._last = float("-inf")
        self._unsaid = 0

    def failed(self, reason: str) -> None:
        """Take note of one failure."""
        now = self._clock()
        if reason == self._reason and now - self._last < QUIET_S:
            self._unsaid += 1
            return
        unsaid, self._unsaid = self._unsaid, 0
        self._reason, self._last = reason, now
        self._say(reason, unsaid)
