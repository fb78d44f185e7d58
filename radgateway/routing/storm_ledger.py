"""StormLedger: whether a provider answers well enough for further attempts to be worth making.

gRPC's retry throttling (proposal A6), once per provider: a failure takes a token, a success gives
a fraction of one back, and further attempts go to a provider only while more than half of its
tokens are left. Where more than that fraction of its calls fail, trying again is load and no help.

Two things differ from gRPC, whose target also gets first attempts. Tokens come back with time too,
or a provider that is only ever failed over to would stay shut out once it was; and what never
reached the provider is no outcome. First attempts are not asked about: those are the breaker's.
"""

from __future__ import annotations

from radgateway.asgi import Clock

_RECOVERY_S = 60.0
"""Seconds in which an empty ledger is half full again, whatever the traffic."""


class StormLedger:
    """Tokens by provider: `tokens` where nothing has failed, `give_back` for each success.

    `refill_per_s` tokens come back with time, or as many as half of them in a minute. Keeps an
    entry for those providers alone that have failed lately; their names are the configuration's.
    """

    __slots__ = ("_clock", "_give_back", "_missing", "_refill_per_s", "_tokens")

    def __init__(
        self, tokens: float, give_back: float, refill_per_s: float, *, clock: Clock
    ) -> None:
        self._tokens = tokens
        self._give_back = give_back
        self._refill_per_s = max(refill_per_s, tokens / 2 / _RECOVERY_S)
        self._clock = clock
        self._missing: dict[str, tuple[float, float]] = {}

    def failed(self, provider: str) -> None:
        """Note a failure."""
        missing = min(self._tokens, self._missing_of(provider) + 1.0)
        self._missing[provider] = (missing, self._clock())

    def succeeded(self, provider: str) -> None:
        """Note a success."""
        if provider not in self._missing:
            return
        missing = self._missing_of(provider) - self._give_back
        if missing > 0:
            self._missing[provider] = (missing, self._clock())
        else:
            del self._missing[provider]

    def allows(self, provider: str) -> bool:
        """Whether a further attempt may go to this provider."""
        return self._missing_of(provider) < self._tokens / 2

    def tokens(self, provider: str) -> float:
        """How many a provider has left."""
        return self._tokens - self._missing_of(provider)

    def recovers_in_s(self, provider: str) -> float:
        """Seconds until a further attempt would be allowed if nothing succeeded; 0 if it is."""
        over = self._missing_of(provider) - self._tokens / 2
        return max(0.0, over / self._refill_per_s)

    def _missing_of(self, provider: str) -> float:
        entry = self._missing.get(provider)
        if entry is None:
            return 0.0
        missing, at = entry
        return max(0.0, missing - (self._clock() - at) * self._refill_per_s)
