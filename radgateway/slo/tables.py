"""Objectives, budgets, thresholds and alerts as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from radgateway.slo.alerts import alerts, burn_name
from radgateway.slo.objectives import (
    BUDGET_DAYS,
    BURN_PAIRS,
    CRITICAL_SHARE,
    WARNING_SHARE,
    Objective,
)
from radgateway.slo.promql import days, number, percent
from radgateway.slo.routing import receivers_of
from radgateway.slo.settings import Settings


class Table(NamedTuple):
    """Rows of cells under a title."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_text(self) -> str:
        """For a terminal."""
        return "\n".join([self.title, "", *_columns((self.head, *self.rows))])

    def as_markdown(self) -> str:
        """For a page."""
        lines = [self.head, ("---",) * len(self.head), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(settings: Settings) -> dict[str, Table]:
    """All of them, by a name."""
    return {
        "objectives": _objectives(settings),
        "budget": _budget(settings.objectives.availability),
        "burn": _burn(settings.objectives.availability),
        "alerts": _alerts(settings),
    }


def _objectives(settings: Settings) -> Table:
    words = {
        "availability": "answered, without a 5xx and to the end",
        "error_rate": "the same, over a shorter window",
    }
    for name, objective, indicator in settings.objectives.latencies():
        words[name] = f"{indicator.words} within {number(objective.limit_s)} s"
    return Table(
        "Objectives",
        ("Objective", "A good request is", "Share", "Window", "Budget"),
        tuple(
            (
                name,
                words[name],
                percent(objective.target),
                f"{objective.window_days} d",
                percent(objective.budget),
            )
            for name, objective in settings.objectives
        ),
    )


def _budget(objective: Objective) -> Table:
    head = ("Budget", "Share", "Seconds", "Minutes", "Minutes a day", "Burn rate", "Bad requests",
            "Whole budget gone after")  # fmt: skip
    window = Decimal(objective.window_days)
    whole = (f"of {objective.window_days} d", Decimal(1), window)
    parts = (
        whole,
        (f"ErrorBudgetBurn, in {BUDGET_DAYS} d", WARNING_SHARE, BUDGET_DAYS),
        (f"ErrorBudgetCritical, in {BUDGET_DAYS} d", CRITICAL_SHARE, BUDGET_DAYS),
    )
    rows = []
    for name, share, within in parts:
        spent_s = objective.budget_s * share
        burn = objective.burn_rate(share, within)
        rows.append(
            (
                name,
                percent(share),
                number(spent_s),
                number(spent_s / 60),
                _places(spent_s / 60 / within, 2),
                _places(burn, 3),
                f"{_places(objective.threshold(share, within) * 100, 3)} %",
                f"{_places(objective.lasts_days(burn), 1)} d",
            )
        )
    return Table("Error budget of the availability", head, tuple(rows))


def _burn(objective: Objective) -> Table:
    head = ("Alert", "Burn rate", "Bad requests", "Windows", "For", "Budget spent",
            "Outage noticed after")  # fmt: skip
    rows = []
    for pair in BURN_PAIRS:
        within = days(pair.long)
        noticed_s = objective.noticed_after_s(pair.share, within)
        rows.append(
            (
                burn_name(pair.long),
                f"{number(objective.burn_rate(pair.share, within))}x",
                percent(objective.threshold(pair.share, within)),
                f"{pair.long} and {pair.short}",
                pair.hold,
                percent(pair.share),
                f"{_places(noticed_s / 60, 1)} min",
            )
        )
    return Table("Burn rates of the availability", head, tuple(rows))


def _alerts(settings: Settings) -> Table:
    rows = []
    for alert in alerts(settings):
        to = receivers_of(alert.delivery, alert.labels["team"])
        sli = alert.more_labels.get("sli")
        rows.append(
            (
                f"{alert.name} ({sli})" if sli else alert.name,
                alert.priority,
                alert.hold or "at once",
                alert.delivery,
                ", ".join(to),
                alert.runbook,
            )
        )
    head = ("Alert", "Priority", "For", "Delivery", "Receivers", "Runbook")
    return Table("Alerts", head, tuple(rows))


def _places(value: Decimal, places: int) -> str:
    return str(value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP))


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    head, *rest = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return [head, "  ".join("-" * width for width in widths), *rest]
