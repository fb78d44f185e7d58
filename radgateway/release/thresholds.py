"""The thresholds of releases: the strategy's by default, others from a YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final

from radgateway.config.bind import Binder
from radgateway.config.load import read_file
from radgateway.config.problems import Report
from radgateway.config.tree import note_places
from radgateway.release.windows import Windows
from radgateway.slo.promql import seconds
from radgateway.slo.settings import Settings
from radgateway.slo.triggers import TRIGGERS

_LIMITS: Final = {trigger.name: trigger.limit for trigger in TRIGGERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """Between environments: within how many seconds one is back, the rollback SLA (4.2)."""

    staging_rollback_s: int = 15 * 60
    production_rollback_s: int = 5 * 60

    def __post_init__(self) -> None:
        for name in ("staging_rollback_s", "production_rollback_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoNoGo:
    """Of staging, before production (the strategy's 9.4)."""

    window: str = "1d"
    """Over which staging is measured."""
    error_ratio: Decimal = Decimal("0.005")
    """Under it: go."""
    error_ratio_conditional: Decimal = Decimal("0.01")
    """Up to it: go where somebody has assessed the risk. Over it: no-go."""
    p95_s: Decimal = Decimal("0.8")
    """Seconds that the gateway owns. Under it: go."""
    p95_watch_s: Decimal = Decimal(1)
    """Up to it: go with an extended canary. Over it: no-go."""
    soak_h: Decimal = Decimal(24)
    """Hours in which staging has served this version."""
    soak_window: str = "7d"
    """Within which those are looked for."""

    def __post_init__(self) -> None:
        for name in ("window", "soak_window"):
            try:
                seconds(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{name} is wrong: {error}") from None
        for low, high in (("error_ratio", "error_ratio_conditional"), ("p95_s", "p95_watch_s")):
            if not 0 < getattr(self, low) <= getattr(self, high):
                raise ValueError(f"{high} must not be under {low}, which is over 0")
        if not 0 <= self.soak_h * 3600 <= seconds(self.soak_window):
            raise ValueError("soak_h must be 0 or more and fit into soak_window")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """Of what runs (the strategy's 9.5); over which time is the trigger's own."""

    error_ratio: Decimal = _LIMITS["error-rate"]
    """Over it: back."""
    p95_s: Decimal = _LIMITS["overhead-p95"]
    """Seconds that the gateway owns. Over it: back."""
    availability: Decimal = _LIMITS["availability"]
    """Under it: back."""

    def __post_init__(self) -> None:
        for name in ("error_ratio", "availability"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be between 0 and 1")
        if not self.p95_s > 0:
            raise ValueError("p95_s must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """From alpha to beta (the strategy's 10.3)."""

    availability: Decimal = Decimal("0.995")
    availability_days: int = 7
    """Days in a row."""
    p95_s: Decimal = Decimal("0.8")
    p95_hours: int = 48
    """Hours in a row."""
    p1_false_positive_ratio: Decimal = Decimal("0.05")
    """Under it."""

    def __post_init__(self) -> None:
        if not 0 < self.availability <= 1:
            raise ValueError("availability must be over 0 and at most 1")
        if not 1 <= self.availability_days <= 92:
            raise ValueError("availability_days must be 1 to 92")
        if not self.p95_s > 0:
            raise ValueError("p95_s must be over 0")
        if not 1 <= self.p95_hours <= 744:
            raise ValueError("p95_hours must be 1 to 744")
        if not 0 < self.p1_false_positive_ratio <= 1:
            raise ValueError("p1_false_positive_ratio must be over 0 and at most 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """All of them, and where they are measured."""

    job: str = "rad-gateway"
    """The gateway's job in the Prometheus of the environment."""
    evidence_max_age_h: int = 168
    """Hours after which what was attested of a release is too old, 1 to 8784."""
    standing_max_age_d: int = 366
    """The same in days for what stands for longer than a release: a penetration test, a rota."""
    gates: Gates = Gates()
    go_no_go: GoNoGo = GoNoGo()
    rollback: Rollback = Rollback()
    exit: Exit = Exit()
    windows: Windows = field(default_factory=Windows)

    def __post_init__(self) -> None:
        Settings(job=self.job)
        for name, most in (("evidence_max_age_h", 8784), ("standing_max_age_d", 1098)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be 1 to {most}")


def load_thresholds(file: Path | None) -> Thresholds:
    """The thresholds of a file, or the strategy's where there is none. Raises `ConfigError`."""
    if file is None:
        return Thresholds()
    root = read_file(file)
    report = Report()
    note_places(root, report)
    thresholds = Binder(report).section(Thresholds, root)
    report.raise_if_any()
    assert isinstance(thresholds, Thresholds)
    return thresholds
