"""Objectives and their error budgets, in decimal arithmetic without I/O.

An objective promises that a share of the requests of a rolling window is good. The rest is the
error budget. A burn rate of 1 spends it in exactly the window, 2 in half of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from decimal import Decimal
from itertools import pairwise
from typing import Final, NamedTuple

from radgateway.telemetry.declared import BUCKETS

DAY_S: Final = 86_400
_EDGES: Final = tuple(Decimal(repr(edge)) for edge in BUCKETS)
_EDGE_AFTER: Final = dict(pairwise(_EDGES))
_PROMISED: Final = _EDGES[:-2]
"""Edges with two more above: one to alert at, and one to see that it was passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One promise. Raises `ValueError` where it can't be meant, as the field and what is wrong."""

    target: Decimal
    """Share of the requests that are good, over 0 and under 1."""
    window_days: int
    """Days of the rolling window, 1 to 92."""
    below_s: Decimal | None = None
    """Seconds within which a request is good; None where good means answered."""

    def __post_init__(self) -> None:
        if not Decimal("0.5") <= self.target <= Decimal("0.99999"):
            raise ValueError(f"target must be at least 0.5 and at most 0.99999, not {self.target}")
        if not 1 <= self.window_days <= 92:
            raise ValueError(f"window_days must be 1 to 92, not {self.window_days}")
        if self.below_s is not None and self.below_s not in _PROMISED:
            # Between two edges a histogram can only guess; beyond the last it knows nothing.
            raise ValueError(f"below_s must be one of the buckets' edges: {_listed(_PROMISED)}")

    @property
    def budget(self) -> Decimal:
        """Share of the requests that may be bad."""
        return 1 - self.target

    @property
    def budget_s(self) -> Decimal:
        """The budget as seconds of complete outage, at even traffic."""
        return self.budget * self.window_days * DAY_S

    def burn_rate(self, share: Decimal, days: Decimal) -> Decimal:
        """How fast the budget burns when a share of it is spent within some days."""
        return share * self.window_days / days

    def threshold(self, share: Decimal, days: Decimal) -> Decimal:
        """The share of bad requests over some days that spends a share of the budget."""
        return self.burn_rate(share, days) * self.budget

    def spent(self, bad: Decimal, days: Decimal) -> Decimal:
        """The share of the budget that a share of bad requests spends in some days."""
        return bad * days / (self.budget * self.window_days)

    def lasts_days(self, burn_rate: Decimal) -> Decimal:
        """Days until a whole budget is spent at a burn rate."""
        return self.window_days / burn_rate

    def noticed_after_s(self, share: Decimal, days: Decimal) -> Decimal:
        """Seconds of a complete outage until the threshold of `share` in `days` is reached."""
        return self.threshold(share, days) * days * DAY_S

    @property
    def limit_s(self) -> Decimal:
        """`below_s` of an objective about time."""
        assert self.below_s is not None
        return self.below_s

    @property
    def alert_above_s(self) -> Decimal:
        """The next edge beyond `below_s`: slower than promised, and not by chance."""
        return edge_after(self.limit_s)


class Indicator(NamedTuple):
    """What a latency objective measures."""

    metric: str
    """A declared histogram."""
    label: str
    """As labels and names of records have it."""
    words: str


INDICATORS: Final[dict[str, Indicator]] = {
    "overhead": Indicator("rad_gateway_overhead_seconds", "overhead", "time in the gateway itself"),
    "first_token": Indicator(
        "rad_gateway_time_to_first_token_seconds",
        "time_to_first_token",
        "time to a stream's first byte",
    ),
}
"""What the gateway owns, by what the names of its objectives begin with. The length of a whole
generation is the model's and the question's: it is reported without an objective."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """All objectives; the defaults are the strategy's (its 6.1)."""

    availability: Objective = Objective(target=Decimal("0.995"), window_days=30)
    """Answered without a fault of ours or of a provider. Burn rates and budgets are of this one."""
    error_rate: Objective = Objective(target=Decimal("0.99"), window_days=7)
    """The same indicator over a shorter window, with more room."""
    overhead_p95: Objective = Objective(target=Decimal("0.95"), window_days=7, below_s=Decimal(1))
    overhead_p99: Objective = Objective(target=Decimal("0.99"), window_days=7, below_s=Decimal(2))
    first_token_p95: Objective = Objective(
        target=Decimal("0.95"), window_days=7, below_s=Decimal(1)
    )
    first_token_p99: Objective = Objective(
        target=Decimal("0.99"), window_days=7, below_s=Decimal(2)
    )

    def __post_init__(self) -> None:
        for name, objective in self:
            timed = name not in ("availability", "error_rate")
            if timed and objective.below_s is None:
                raise ValueError(f"{name} must say below_s, in seconds")
            if not timed and objective.below_s is not None:
                raise ValueError(f"{name} has no below_s: it is about answers, not their time")
        for kind in INDICATORS:
            p95, p99 = getattr(self, f"{kind}_p95"), getattr(self, f"{kind}_p99")
            if p95.below_s > p99.below_s:
                raise ValueError(f"{kind}_p99 must not have a below_s under that of {kind}_p95")
        if self.availability.target < Decimal("0.95"):
            # 14.4 times a budget of more than 6.9 % is more than all requests: never an alert.
            raise ValueError("availability must have a target of 0.95 or more")
        if self.availability.window_days < 28:
            raise ValueError(
                "availability must have window_days of 28 or more: "
                "the budget alerts watch a part of it over 7 days"
            )

    def __iter__(self) -> Iterator[tuple[str, Objective]]:
        """Each with its name, in order."""
        return ((field.name, getattr(self, field.name)) for field in fields(self))

    def latencies(self) -> Iterator[tuple[str, Objective, Indicator]]:
        """Those about time, with what they measure."""
        for name, objective in self:
            if objective.below_s is not None:
                yield name, objective, INDICATORS[name.rpartition("_")[0]]


class BurnPair(NamedTuple):
    """A part of the budget spent in a long window, while a short one says that it goes on."""

    share: Decimal
    long: str
    short: str
    hold: str
    """How long the condition holds before the alert fires."""


BURN_PAIRS: Final = (
    BurnPair(Decimal("0.02"), "1h", "5m", "2m"),
    BurnPair(Decimal("0.05"), "6h", "30m", "15m"),
    BurnPair(Decimal("0.10"), "1d", "2h", "1h"),
    BurnPair(Decimal("0.10"), "3d", "6h", "3h"),
)
"""The workbook's recommended parameters, and a third ticket in between: 14.4, 6, 3 and 1 times
the even burn for a window of 30 days."""

WARNING_SHARE: Final = Decimal("0.30")
CRITICAL_SHARE: Final = Decimal("0.60")
BUDGET_DAYS: Final = Decimal(7)
"""The strategy's budget alerts: these shares of the budget, spent within this many days."""


def edge_after(edge: Decimal) -> Decimal:
    """The next edge of the buckets."""
    return _EDGE_AFTER[edge]


def _listed(edges: tuple[Decimal, ...]) -> str:
    return ", ".join(f"{edge.normalize():f}" for edge in edges)
