"""The pybreaker circuit that holds a policy's state. It never moves by itself.

pybreaker does what it does well: the state, its storage, its listeners and commands by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import pybreaker

from radgateway.provider.circuit.standing import State

STATES: Final[Mapping[str, State]] = {
    pybreaker.STATE_CLOSED: "closed",
    pybreaker.STATE_OPEN: "open",
    pybreaker.STATE_HALF_OPEN: "half_open",
}
"""Our words for pybreaker's."""

_NEVER_BY_ITSELF = 2**31


class CallFailed(Exception):
    """What pybreaker's listeners get for a call that failed without an exception."""


class _Follower(pybreaker.CircuitBreakerListener):
    def __init__(self, follow: Callable[[State], None]) -> None:
        self._follow = follow

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        # pybreaker tells before it stores, so the new state is read from what it tells.
        self._follow(STATES[new_state.name])


def circuit(follow: Callable[[State], None], storage: Any, name: str | None) -> Any:
    """A pybreaker circuit whose every change of state `follow` hears of."""
    return pybreaker.CircuitBreaker(
        fail_max=_NEVER_BY_ITSELF,
        reset_timeout=_NEVER_BY_ITSELF,
        listeners=[_Follower(follow)],
        state_storage=storage,
        name=name,
        throw_new_error_on_trip=False,
    )


def tell(breaker: Any, *, failed: bool) -> None:
    """Let a circuit's listeners know how a call went."""
    for listener in breaker.listeners:
        if failed:
            listener.failure(breaker, CallFailed())
        else:
            listener.success(breaker)
