"""Places that a bulkhead hands out: a number of them, or so many for each key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from radgateway.asgi import Scope
from radgateway.exchange import exchange_of


class Places(Protocol):
    """What a request takes a place of: `Slots`, or those of one key."""

    limit: int
    in_use: int

    def take(self) -> bool:
        """Take a place; False where none is free."""

    def give_back(self) -> None:
        """Free a place that was taken."""


def caller_name(scope: Scope) -> str:
    """The principal's name where one is known, else the address the request comes from."""
    exchange = exchange_of(scope)
    if exchange is not None and exchange.principal is not None:
        return exchange.principal.name
    client = scope.get("client")
    return f"client:{client[0]}" if client else "client:unknown"


class Slots:
    """A number of places, each free or taken. Layers that share one share its places."""

    __slots__ = ("in_use", "limit")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"max_concurrency must be at least 1, not {limit}")
        self.limit = limit
        """May be moved; who has a place when it falls keeps it."""
        self.in_use = 0

    def take(self) -> bool:
        """Take a place; False where none is free."""
        if self.in_use >= self.limit:
            return False
        self.in_use += 1
        return True

    def give_back(self) -> None:
        """Free a place that was taken."""
        self.in_use -= 1


class KeyedSlots:
    """So many places for each key, by default each caller: `Bulkhead(app, slots_of=KeyedSlots(5))`.

    A key is known only while a request of its is in progress, so there are never more of them than
    requests.
    """

    def __init__(self, limit: int, key: Callable[[Scope], str] = caller_name) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self.limit = limit
        self._key = key
        self._known: dict[str, _OneKeys] = {}

    def __len__(self) -> int:
        """How many keys have requests in progress."""
        return len(self._known)

    def __call__(self, scope: Scope) -> Places:
        """The places for a request, of which it takes one now or none."""
        key = self._key(scope)
        return self._known.get(key) or _OneKeys(self.limit, key, self._known)


class _OneKeys:
    """The places of one key; known from the first that is taken to the last given back."""

    __slots__ = ("_key", "_known", "in_use", "limit")

    def __init__(self, limit: int, key: str, known: dict[str, _OneKeys]) -> None:
        self.limit = limit
        self.in_use = 0
        self._key = key
        self._known = known

    def take(self) -> bool:
        """Take a place; False where none is free."""
        if self.in_use >= self.limit:
            return False
        self.in_use += 1
        self._known[self._key] = self
        return True

    def give_back(self) -> None:
        """Free a place that was taken."""
        self.in_use -= 1
        if not self.in_use:
            del self._known[self._key]
