"""CredentialRest: how long a provider is left alone for its credential's sake.

A full quota (429) and a refused key (401) say nothing about the provider's health, but a call made
meanwhile is wasted, and each wasted call costs the retry budget its failover. A 403 is about the
one request, and is the caller's.
"""

from __future__ import annotations

from typing import Literal

from radgateway.provider.circuit.config import BreakerConfig

Refused = Literal["limited", "unauthorized"]


class CredentialRest:
    """Keeps the moment until which the credential rests."""

    __slots__ = ("_config", "refusals", "until")

    def __init__(self, config: BreakerConfig) -> None:
        self._config = config
        self.forget()

    def forget(self) -> None:
        """Begin as if nothing had been refused."""
        self.until = 0.0
        self.refusals = 0
        """Answers of 401 without a success between them; the policy sets it back."""

    def note(self, verdict: Refused, wait_s: float | None, now: float) -> bool:
        """Take note of an answer that may ask to wait; True where a rest begins with it."""
        config = self._config
        if verdict == "unauthorized":
            self.refusals += 1
            most = config.credential_refusals
            if wait_s is None and most is not None and self.refusals >= most:
                wait_s = config.open_s
        if not wait_s or config.rest_max_s is None:
            return False
        begins = now >= self.until
        self.until = max(self.until, now + min(wait_s, config.rest_max_s))
        return begins
