"""What the breaker's tests share: a clock to move by hand, and circuits in a state."""

from __future__ import annotations

from typing import Any

from radgateway.provider.breaker import CircuitBreaker
from radgateway.provider.circuit.config import BreakerConfig
from radgateway.provider.circuit.policy import Admission, BreakerPolicy
from radgateway.provider.circuit.standing import Verdict


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


CONFIG = BreakerConfig(min_calls=4, open_s=30, open_jitter=0, half_open_calls=2, half_open_max_s=60)


def call(policy: BreakerPolicy, verdict: Verdict, *times: float, **more: Any) -> None:
    """One call from its admission to its end."""
    admission = policy.acquire()
    assert admission is not None
    policy.release(admission, verdict, *times, **more)


def state_of(holder: BreakerPolicy | CircuitBreaker) -> str:
    """The state, for a type checker that would remember the last one."""
    return holder.state


def opened(clock: Clock, config: BreakerConfig = CONFIG, **options: Any) -> BreakerPolicy:
    """A circuit that has just opened."""
    policy = BreakerPolicy(config, clock=clock, **options)
    for _ in range(config.min_calls):
        call(policy, "fail")
    assert state_of(policy) == "open"
    return policy


def probes(policy: BreakerPolicy, callers: int = 100) -> list[Admission]:
    """What is admitted of a herd."""
    admitted = [policy.acquire() for _ in range(callers)]
    return [admission for admission in admitted if admission is not None]
