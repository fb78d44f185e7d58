"""In which order a model's candidates are tried. Pure functions of what is known at that moment.

Every strategy returns all candidates: the first is the choice, the rest are where a failover goes.
Health is not judged here; the router passes over a candidate whose breaker is open, so a sticky
session yields to it and returns when it closes.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from decimal import Decimal

from radgateway.routing.latency import LatencyBook
from radgateway.routing.models import Candidate, StrategyName

Strategy = Callable[
    [Sequence[Candidate], random.Random, LatencyBook, Callable[[], bytes], float],
    Sequence[Candidate],
]
"""(candidates, random source, latencies, the session's key on demand, Unix seconds) -> order of
trial."""


def priority(
    candidates: Sequence[Candidate],
    rng: random.Random,
    latencies: LatencyBook,
    session: Callable[[], bytes],
    unix_s: float,
) -> Sequence[Candidate]:
    """Highest weight first; as configured among equals. The original gateway's meaning."""
    return sorted(candidates, key=_negative_weight)


def weighted(
    candidates: Sequence[Candidate],
    rng: random.Random,
    latencies: LatencyBook,
    session: Callable[[], bytes],
    unix_s: float,
) -> Sequence[Candidate]:
    """Each first in proportion to its weight, and so on among the rest (Efraimidis, Spirakis)."""
    return sorted(candidates, key=lambda c: -math.log(1.0 - rng.random()) / c.weight)


def least_latency(
    candidates: Sequence[Candidate],
    rng: random.Random,
    latencies: LatencyBook,
    session: Callable[[], bytes],
    unix_s: float,
) -> Sequence[Candidate]:
    """The better of two random ones first (Mitzenmacher), the rest by expected first byte.

    Two choices rather than the best of all: replicas that share no state would otherwise all
    turn to the same candidate at the same moment.
    """
    by_latency = sorted(candidates, key=latencies.expect_s)
    if len(by_latency) > 2:
        pair = rng.sample(range(len(by_latency)), 2)
        by_latency.insert(0, by_latency.pop(min(pair)))
    return by_latency


def least_cost(
    candidates: Sequence[Candidate],
    rng: random.Random,
    latencies: LatencyBook,
    session: Callable[[], bytes],
    unix_s: float,
) -> Sequence[Candidate]:
    """Cheapest first by input plus output price of then; an unknown price is last, not free."""
    return sorted(candidates, key=lambda c: _cost(c, unix_s))


def sticky(
    candidates: Sequence[Candidate],
    rng: random.Random,
    latencies: LatencyBook,
    session: Callable[[], bytes],
    unix_s: float,
) -> Sequence[Candidate]:
    """Weighted rendezvous hashing of the session: every replica picks alike without shared state.

    Removing a candidate moves only its own sessions (Thaler, Ravishankar; weights after Schindler).
    """
    key = session()
    return sorted(candidates, key=lambda c: _rendezvous(key, c))


BY_NAME: dict[StrategyName, Strategy] = {
    "priority": priority,
    "weighted": weighted,
    "least_latency": least_latency,
    "least_cost": least_cost,
    "sticky": sticky,
}


def _negative_weight(candidate: Candidate) -> float:
    return -candidate.weight


def _cost(candidate: Candidate, unix_s: float) -> Decimal:
    if candidate.price is None:
        return Decimal("Infinity")
    return candidate.price.at(unix_s).level


def _rendezvous(key: bytes, candidate: Candidate) -> float:
    # blake2b, not hash(): Python's is salted per process, and replicas must agree.
    name = f"{candidate.provider}\0{candidate.model}".encode()
    digest = hashlib.blake2b(key + b"\0" + name, digest_size=8).digest()
    uniform = (int.from_bytes(digest) + 1) / (2**64 + 1)
    return -math.log(uniform) / candidate.weight
