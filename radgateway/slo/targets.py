"""What the dashboards and the sampling of traces measure against: the strategy's numbers (its 6.1).

Latency is held to what the gateway owns, its own overhead and the time to the first byte; the
total duration is shown beside it, as a generation of minutes is no fault of the gateway.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The objectives as the panels draw them."""

    availability: Decimal = Decimal("0.995")
    """Share of valid requests that are answered well, over `availability_days`."""
    availability_days: int = 30
    error_ratio: Decimal = Decimal("0.01")
    """Share of valid requests that may fail over seven days."""
    p95_s: Decimal = Decimal("1")
    """Seconds that 95 % of requests stay below; an edge of the histograms' buckets."""
    p99_s: Decimal = Decimal("2")
    """Seconds that 99 % of requests stay below; an edge of the histograms' buckets."""

    def __post_init__(self) -> None:
        if not 0 < self.availability < 1:
            raise ValueError(f"availability must be between 0 and 1, not {self.availability}")
        if not 1 <= self.availability_days <= 366:
            raise ValueError("availability_days must be 1 to 366")
        if not 0 < self.error_ratio < 1:
            raise ValueError(f"error_ratio must be between 0 and 1, not {self.error_ratio}")
        if not 0 < self.p95_s <= self.p99_s:
            raise ValueError("p95_s must be over 0 and not over p99_s")

    @property
    def budget(self) -> Decimal:
        """Share of valid requests that may fail over `availability_days`."""
        return 1 - self.availability

    @property
    def period_s(self) -> int:
        """Seconds the availability objective is measured over."""
        return self.availability_days * DAY_S


STRATEGY = Targets()
"""The strategy's own numbers."""
