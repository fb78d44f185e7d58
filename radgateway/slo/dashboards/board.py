"""A dashboard: rows of panels, the variables they are asked for, and the ways to other pages.

The JSON is Grafana's classic model, schema version 39, which every Grafana from 10 to 13 imports.
It is the same for the same input, byte by byte: no time, no version of Grafana, no order that
depends on anything but the source.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from radgateway.slo.dashboards.panel import PROMETHEUS, Json, Panel, link
from radgateway.slo.dashboards.promql import JOB, OF
from radgateway.slo.stack import GENERATED
from radgateway.telemetry.declared import METRICS

SCHEMA_VERSION: Final = 39
TAG: Final = "radgateway"
COLUMNS: Final = 24
_BUILD: Final = METRICS["build_info"].name
_JOBS: Final = f"label_values({_BUILD}, job)"
_INSTANCES: Final = f"label_values({_BUILD}{{{JOB}}}, instance)"


@dataclass(frozen=True, slots=True)
class Row:
    """Panels below one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A variable beside job and instance: a label's values, any number of which may be chosen."""

    label: str
    title: str
    metric: str
    """The declared metric whose label it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A dashboard."""

    uid: str
    """In its address, so it never changes."""
    title: str
    reader: str
    """Whom it is for and what for."""
    rows: tuple[Row, ...]
    since: str = "now-6h"
    """The time shown at first."""
    refresh: str = "1m"
    choices: tuple[Choice, ...] = ()

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All its panels, in order."""
        return tuple(panel for row in self.rows for panel in row.panels)

    def to_json(self, docs_url: str) -> Json:
        """Grafana's model of it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": f"{self.reader} {GENERATED}",
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "timezone": "utc",
            "refresh": self.refresh,
            "time": {"from": self.since, "to": "now"},
            "timepicker": {},
            "fiscalYearStartMonth": 0,
            "liveNow": False,
            "links": [_ways_to_the_others(), link("Documentation", f"{docs_url}/{_GUIDE}/")],
            "annotations": {"list": [_FIRING, _NEW_VERSIONS]},
            "templating": {"list": self._variables()},
            "panels": self._placed(docs_url),
        }

    def to_text(self, docs_url: str) -> str:
        """The same as a file's text."""
        return json.dumps(self.to_json(docs_url), indent=2, ensure_ascii=False) + "\n"

    def _variables(self) -> list[Json]:
        variables = [_datasource("prometheus", "Prometheus")]
        if any(query.logql for panel in self.panels for query in panel.queries):
            variables.append(_datasource("loki", "Loki"))
        variables += [_values("job", "Job", _JOBS), _values("instance", "Instance", _INSTANCES)]
        for choice in self.choices:
            name = METRICS[choice.metric].name
            query = f"label_values({name}{{{OF}}}, {choice.label})"
            variables.append(_values(choice.label, choice.title, query))
        return variables

    def _placed(self, docs_url: str) -> list[Json]:
        """Panels from left to right and from top to bottom, each row below a heading."""
        placed: list[Json] = []
        y = 0
        for row in self.rows:
            placed.append(_heading(row.title, len(placed) + 1, y))
            x, y, tallest = 0, y + 1, 0
            for panel in row.panels:
                if x + panel.width > COLUMNS:
                    x, y, tallest = 0, y + tallest, 0
                placed.append(panel.to_json(len(placed) + 1, x, y, docs_url))
                x, tallest = x + panel.width, max(tallest, panel.height)
            y += tallest
        return placed


_GUIDE: Final = "how-to/dashboards"


def _heading(title: str, number: int, y: int) -> Json:
    return {
        "id": number,
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
        "panels": [],
    }


def _ways_to_the_others() -> Json:
    return {
        "type": "dashboards",
        "title": "RAD Gateway",
        "icon": "external link",
        "tooltip": "",
        "tags": [TAG],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
    }


def _datasource(kind: str, name: str) -> Json:
    return {
        "type": "datasource",
        "name": f"{kind}_datasource",
        "label": f"{name} data source",
        "query": kind,
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "refresh": 1,
        "regex": "",
        "options": [],
    }


def _values(name: str, label: str, query: str) -> Json:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": PROMETHEUS,
        "query": query,
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "regex": "",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
    }


_FIRING: Final[Json] = {
    "name": "Alerts",
    "enable": True,
    "hide": False,
    "iconColor": "red",
    "datasource": PROMETHEUS,
    "expr": f'ALERTS{{{JOB},alertstate="firing"}}',
    "titleFormat": "{{alertname}}",
    "step": "60s",
}
_NEW_VERSIONS: Final[Json] = {
    "name": "New versions",
    "enable": True,
    "hide": False,
    "iconColor": "blue",
    "datasource": PROMETHEUS,
    "expr": (
        f"sum by (version) ({_BUILD}{{{OF}}}) unless sum by (version) ({_BUILD}{{{OF}}} offset 5m)"
    ),
    "titleFormat": "{{version}}",
    "step": "60s",
}
