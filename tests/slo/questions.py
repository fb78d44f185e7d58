"""What a Prometheus in front of a gateway that is used is asked: all dashboards, all records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slo.asked_series import plain

from radgateway.slo.dashboards import boards
from radgateway.slo.rules import groups
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


def of_dashboards() -> dict[str, str]:
    """Each query that has data in front of a gateway that is used, with its panel's title."""
    panels = [panel for board in boards(Settings()) for panel in board.panels]
    assert QUIET.keys() <= {panel.title for panel in panels}
    return {
        plain(query.expr): panel.title
        for panel in panels
        if panel.title not in QUIET
        for query in panel.queries
        if not query.logql
    }


def of_records() -> dict[str, str]:
    """A query for each recorded series that finds it unless it is no number, with its name."""
    found = {}
    for group in groups(Settings()):
        for record in group.records:
            labels = ",".join(f'{name}="{text}"' for name, text in record.labels.items())
            query = f'{record.name}{{job="{Settings().job}",{labels}}} > -Inf'
            found[query] = record.name
    return found


def answered(query: Callable[[str], Any], questions: dict[str, str]) -> bool:
    """Whether each had data at some time; those that had are taken out."""
    for expression in list(questions):
        if query(expression):
            del questions[expression]
    return not questions
