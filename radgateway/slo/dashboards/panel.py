"""One panel of a dashboard: what it asks, in which unit, and what its answer means.

A plain value that knows how to become Grafana's JSON. The five kinds are those that the
dashboards use, and their options are written out in full, so that a panel looks the same
whichever version of Grafana fills in the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

Json = dict[str, Any]
Kind = Literal["timeseries", "stat", "state-timeline", "bargauge", "table", "logs"]

PROMETHEUS: Final[Json] = {"type": "prometheus", "uid": "${prometheus_datasource}"}
LOKI: Final[Json] = {"type": "loki", "uid": "${loki_datasource}"}

GOOD: Final = "green"
FAIR: Final = "orange"
BAD: Final = "red"
NEUTRAL: Final = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One expression of a panel and what its lines are called."""

    expr: str
    legend: str = ""
    """Grafana's template of a line's name, such as `{{route}}`."""
    exemplar: bool = False
    """Also show the traces that were kept as examples."""
    logql: bool = False
    """Asked of Loki, not of Prometheus."""

    def to_json(self, ref_id: str, kind: Kind) -> Json:
        """The target of a panel of `kind`."""
        if self.logql:
            asked = "instant" if kind in ("bargauge", "stat") else "range"
            return {
                "datasource": LOKI,
                "refId": ref_id,
                "expr": self.expr,
                "queryType": asked,
                "legendFormat": self.legend,
            }
        once = kind in ("stat", "bargauge", "table")
        target: Json = {
            "datasource": PROMETHEUS,
            "refId": ref_id,
            "expr": self.expr,
            "editorMode": "code",
            "instant": once,
            "range": not once,
            "legendFormat": self.legend,
        }
        if kind == "table":
            target["format"] = "table"
        if self.exemplar:
            target["exemplar"] = True
        return target


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel, as the dashboards write it."""

    title: str
    answers: str
    """The question it answers and how to read it; shown as its description."""
    unit: str
    """One of Grafana's units, such as `reqps`, `s` or `percentunit`."""
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    width: int = 8
    """Columns of 24."""
    height: int = 8
    steps: tuple[tuple[float | None, str], ...] = ()
    """Colours by value, the first one from None; drawn as lines where there is an axis."""
    words: tuple[tuple[float, str, str], ...] = ()
    """Values, what they are called, and their colours."""
    least: float | None = 0
    """Where the axis begins; None lets Grafana choose."""
    most: float | None = None
    """Where the axis ends; None lets Grafana choose."""
    stacked: bool = False
    decimals: int | None = None
    nothing: str = ""
    """What stands there where there is no data, if that means something."""
    guide: str = ""
    """The page of the documentation about it, below its root."""
    columns: tuple[tuple[str, str], ...] = field(default=())
    """Of a table: labels and what their columns are called; the rest is hidden."""

    def to_json(self, number: int, x: int, y: int, docs_url: str) -> Json:
        """Grafana's JSON of it, at a place of the grid."""
        logs = any(query.logql for query in self.queries)
        panel: Json = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.answers,
            "datasource": LOKI if logs else PROMETHEUS,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": _OPTIONS[self.kind],
            "targets": [
                query.to_json(chr(ord("A") + index), self.kind)
                for index, query in enumerate(self.queries)
            ],
        }
        if self.guide:
            panel["links"] = [link(self.guide_title, f"{docs_url}/{self.guide}/")]
        if self.columns:
            panel["transformations"] = [_only(dict(self.columns))]
        return panel

    @property
    def guide_title(self) -> str:
        """What the link to its page is called."""
        return "Runbook" if self.guide.startswith("runbooks/") else "Documentation"

    def _defaults(self) -> Json:
        defaults: Json = {
            "unit": self.unit,
            "color": {"mode": "thresholds" if self._by_threshold else "palette-classic"},
            "thresholds": {
                "mode": "absolute",
                "steps": [
                    {"color": color, "value": value}
                    for value, color in self.steps or ((None, NEUTRAL),)
                ],
            },
            "mappings": self._mappings(),
            "custom": self._custom(),
        }
        if self.kind == "timeseries" or self.most is not None:
            defaults |= {"min": self.least} if self.least is not None else {}
            defaults |= {"max": self.most} if self.most is not None else {}
        if self.decimals is not None:
            defaults["decimals"] = self.decimals
        if self.nothing:
            defaults["noValue"] = self.nothing
        return defaults

    @property
    def _by_threshold(self) -> bool:
        return self.kind in ("stat", "state-timeline", "table") or (
            self.kind == "bargauge" and bool(self.steps)
        )

    def _mappings(self) -> list[Json]:
        if not self.words:
            return []
        options = {
            f"{value:g}": {"text": text, "color": color, "index": index}
            for index, (value, text, color) in enumerate(self.words)
        }
        return [{"type": "value", "options": options}]

    def _custom(self) -> Json:
        if self.kind == "state-timeline":
            return {"fillOpacity": 70, "lineWidth": 0}
        if self.kind != "timeseries":
            return {}
        return {
            "drawStyle": "line",
            "lineInterpolation": "linear",
            "lineWidth": 1,
            "fillOpacity": 30 if self.stacked else 5,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if self.steps else "off"},
        }


def link(title: str, url: str) -> Json:
    """A link out of Grafana, opened beside it."""
    return {
        "type": "link",
        "title": title,
        "url": url,
        "icon": "doc",
        "tooltip": "",
        "tags": [],
        "asDropdown": False,
        "includeVars": False,
        "keepTime": False,
        "targetBlank": True,
    }


def _only(columns: dict[str, str]) -> Json:
    return {
        "id": "organize",
        "options": {
            "includeByName": dict.fromkeys(columns, True),
            "indexByName": {label: index for index, label in enumerate(columns)},
            "renameByName": columns,
        },
    }


_LAST: Final[Json] = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: Final[dict[Kind, Json]] = {
    "timeseries": {
        "legend": {
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "calcs": ["mean", "max"],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": _LAST,
        "orientation": "auto",
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "auto",
        "textMode": "auto",
        "percentChangeColorMode": "standard",
        "showPercentChange": False,
        "wideLayout": True,
    },
    "state-timeline": {
        "legend": {
            "displayMode": "list",
            "placement": "bottom",
            "showLegend": False,
            "calcs": [],
        },
        "tooltip": {"mode": "single", "sort": "none"},
        "alignValue": "left",
        "mergeValues": True,
        "rowHeight": 0.9,
        "showValue": "auto",
    },
    "bargauge": {
        "reduceOptions": _LAST,
        "orientation": "horizontal",
        "displayMode": "gradient",
        "legend": {
            "displayMode": "list",
            "placement": "bottom",
            "showLegend": False,
            "calcs": [],
        },
        "maxVizHeight": 300,
        "minVizHeight": 16,
        "minVizWidth": 8,
        "namePlacement": "auto",
        "showUnfilled": True,
        "sizing": "auto",
        "valueMode": "color",
    },
    "table": {"cellHeight": "sm", "frameIndex": 0, "showHeader": True},
    "logs": {
        "dedupStrategy": "none",
        "enableLogDetails": True,
        "prettifyLogMessage": False,
        "showCommonLabels": False,
        "showLabels": False,
        "showLogContextToggle": False,
        "showTime": True,
        "sortOrder": "Descending",
        "wrapLogMessage": True,
    },
}
