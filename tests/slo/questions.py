"""What a Prometheus in front of a gateway that is used is asked: all dashboards, all records."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

from slo.asked_series import plain

from radgateway.slo.dashboards import boards
from radgateway.slo.rules import groups
from radgateway.slo.settings import Settings

_PANELS = [panel for board in boards(Settings()) for panel in board.panels]
_TITLES = {panel.title for panel in _PANELS}
TROUBLE = {
    "Alerts firing": "nothing is that wrong yet",
    "Breakers set by hand or held": "nobody sets one, and none would be open",
    "Budget lasts, at this pace": "failover leaves no error to the caller",
    "Faults injected on purpose": "nobody injects any",
    "Refused by the provider's quota": "the mock has none",
    "Retries": "another candidate takes over first",
}
"""Panels that are empty while all is well, which is what their `nothing` says."""
POOLED = {"Database connections"}
"""Panels that are empty where the ledger is a SQLite file, which has no pool."""


def of_dashboards() -> dict[str, str]:
    """Each query that has data in front of a gateway that is used, with its panel's title."""
    return _asked_by(_TITLES - TROUBLE.keys())


def of_trouble() -> dict[str, str]:
    """Each query that has data only once something is wrong, with its panel's title."""
    return _asked_by(TROUBLE.keys())


def _asked_by(titles: Set[str]) -> dict[str, str]:
    assert titles <= _TITLES
    return {
        plain(query.expr): panel.title
        for panel in _PANELS
        if panel.title in titles
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
