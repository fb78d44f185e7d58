"""Which queries of the dashboards have no data in front of a gateway that is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slo.asked_series import plain

from radgateway.slo.dashboards import boards
from radgateway.slo.settings import Settings

QUIET = {
    "Alerts firing": "nothing is that wrong yet",
    "Breakers set by hand or held": "nobody sets one",
    "Budget lasts, at this pace": "failover leaves no error to the caller",
    "Database connections": "SQLite has no pool",
    "Faults injected on purpose": "nobody injects any",
    "Refused by the provider's quota": "the mock has none",
    "Retries": "another candidate takes over first",
}
"""Panels that are empty while that does not happen, which is what their `nothing` says."""


def unanswered(query: Callable[[str], Any]) -> dict[str, str]:
    """The expressions without data, by the panel's title, from what `query` gives for each."""
    panels = [panel for board in boards(Settings()) for panel in board.panels]
    assert QUIET.keys() <= {panel.title for panel in panels}
    return {
        panel.title: each.expr
        for panel in panels
        if panel.title not in QUIET
        for each in panel.queries
        if not each.logql and not query(plain(each.expr))
    }
