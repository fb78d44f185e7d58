"""The dashboards hold to the rules of Grafana's dashboard-linter and to the metrics there are."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from slo.asked_series import VARIABLES, Asked, asked, plain
from slo.promql_labels import known_to, labels_of

from radgateway.slo.dashboards import boards, guide
from radgateway.slo.dashboards.board import Board
from radgateway.slo.dashboards.panel import Panel, Query
from radgateway.slo.dashboards.promql import (
    TARGET_LABELS,
    foreign,
    gauge,
    quantile,
    rate,
    recorded,
    share_within,
)
from radgateway.slo.objectives import Objective, Objectives
from radgateway.slo.settings import Settings
from radgateway.telemetry.declared import METRICS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DOCS_URL = "https://docs.example.invalid"
DEFAULT = Settings()
KNOWN = known_to(DEFAULT)
BOARDS = {board.uid: board for board in boards(DEFAULT)}
MODELS = {uid: board.to_json(DOCS_URL) for uid, board in BOARDS.items()}
PANELS = [(board, panel) for board in BOARDS.values() for panel in board.panels]
QUERIES = [
    (board, panel, query) for board, panel in PANELS for query in panel.queries if not query.logql
]
BY_NAME = {metric.name: metric for metric in METRICS.values()}
UNITS = {"short", "reqps", "s", "percentunit", "currencyUSD"}
WITH_EXEMPLARS = ("request_duration", "time_to_first_token", "provider_latency")

STRATEGY: dict[str, dict[str, tuple[str, ...]]] = {
    "radgateway-slo": {
        "Availability (99.5% target with burn rate)": ("Availability", "Burn rate"),
        "Error rate trend": ("Error rate",),
        "Latency percentiles (p50, p95, p99)": (
            "Overhead of the gateway",
            "Time to first byte of streams",
            "Total duration",
        ),
        "Error budget remaining": ("Error budget remaining", "Error budget over time"),
    },
    "radgateway-operations": {
        "Request rate by route": ("Request rate by route",),
        "Error rate by status code": ("Error rate by status code",),
        "Provider health status": ("Provider health",),
        "Failover frequency": ("Failover frequency",),
        "Active connections": ("Active connections",),
    },
    "radgateway-providers": {
        "Latency by provider": ("Latency by provider, p50", "Latency by provider, p95"),
        "Success rate by provider": ("Success rate by provider",),
        "Token throughput": ("Token throughput",),
        "Cost per provider": ("Cost per provider",),
    },
    "radgateway-business": {
        "Requests by API key": ("Requests by API key",),
        "Model popularity": ("Model popularity",),
        "Token consumption trends": ("Token consumption by model", "Tokens by kind"),
        "Error types": ("Error types", "Error codes"),
    },
}
"""The strategy's panels (its 5.4), and those that show them."""


def each(rows: list[Any]) -> pytest.MarkDecorator:
    """Parametrise by dashboard and panel."""
    return pytest.mark.parametrize(
        "row", rows, ids=[f"{row[0].uid}-{row[1].title}-{index}" for index, row in enumerate(rows)]
    )


def metric_of(series: Asked) -> str:
    """The declared metric that a series is of."""
    base = re.sub(r"_(bucket|sum|count)$", "", series.name)
    return base if base in BY_NAME and BY_NAME[base].kind == "histogram" else series.name


@pytest.mark.parametrize("uid", sorted(STRATEGY))
def test_every_panel_of_the_strategy_is_there(uid: str) -> None:
    """Four dashboards and their seventeen panels, each shown by one or more of ours."""
    titles = {panel.title for panel in BOARDS[uid].panels}
    for wanted, shown_by in STRATEGY[uid].items():
        assert set(shown_by) <= titles, wanted
    assert BOARDS.keys() == STRATEGY.keys()
    assert sum(len(panels) for panels in STRATEGY.values()) == 17


def test_every_metric_is_on_a_panel() -> None:
    """A metric that is declared and shown nowhere is found when it is too late."""
    shown = {metric_of(series) for _, _, query in QUERIES for series in asked(query.expr)}
    assert {name for name in BY_NAME if name not in shown} == set()


@each(QUERIES)
def test_a_query_asks_for_what_there_is(row: tuple[Board, Panel, Query]) -> None:
    """target-promql-rule, and more: the series exist and have the labels that are asked of them."""
    labels = labels_of(plain(row[2].expr), KNOWN)
    assert set(re.findall(r"{{(\w+)}}", row[2].legend)) <= labels, row[2].legend


@each(QUERIES)
def test_a_query_is_for_the_chosen_job_and_instance(row: tuple[Board, Panel, Query]) -> None:
    """target-job-rule and target-instance-rule; what is recorded by job has no instance."""
    selectors = re.findall(r"[\w:]+{([^}]*)}", row[2].expr)
    assert len(selectors) == len(asked(row[2].expr))  # none is bare
    for series, matchers in zip(asked(row[2].expr), selectors, strict=True):
        assert matchers.startswith('job=~"$job"')
        by_job = series.name.startswith("rad_gateway:") or series.name == "ALERTS"
        assert ('instance=~"$instance"' in matchers) is not by_job


@each(QUERIES)
def test_counters_are_rates_over_a_fitting_window(row: tuple[Board, Panel, Query]) -> None:
    """target-rate-interval-rule and target-counter-agg-rule.

    A rate takes $__rate_interval, an increase the time shown; no window is written as a number.
    """
    for function, window in re.findall(r"(\w+)\([\w:]+{[^}]*}\[([^\]]+)\]", row[2].expr):
        assert {"rate": "$__rate_interval", "increase": "$__range"}[function] == window
    for series in asked(row[2].expr):
        cumulative = series.name.endswith(("_total", "_bucket", "_sum", "_count"))
        assert bool(series.window) is cumulative
        if cumulative:
            assert series.within[-1] in ("rate", "increase")


@each(QUERIES)
def test_queries_of_one_moment_and_of_a_time_are_told_apart(
    row: tuple[Board, Panel, Query],
) -> None:
    """A stat, a bar or a table asks once; a curve asks for each step and never for `$__range`."""
    once = row[1].kind in ("stat", "bargauge", "table")
    target = row[2].to_json("A", row[1].kind)
    assert (target["instant"], target["range"]) == (once, not once)
    if not once:
        assert "$__range" not in row[2].expr


@each(QUERIES)
def test_latency_panels_lead_to_traces(row: tuple[Board, Panel, Query]) -> None:
    """Exemplars are asked for where, and only where, the gateway attaches them."""
    names = {series.name for series in asked(row[2].expr)}
    attached = any(
        name.endswith(f"{key}_seconds_bucket") for name in names for key in WITH_EXEMPLARS
    )
    assert row[2].exemplar is (attached and row[1].kind == "timeseries")


@each(PANELS)
def test_a_panel_says_what_it_is(row: tuple[Board, Panel]) -> None:
    """panel-title-description-rule and panel-units-rule; a bare link would lead nowhere."""
    panel = row[1]
    assert panel.title
    assert panel.answers.endswith(".")
    assert len(panel.answers) < 300
    assert "|" not in panel.title + panel.answers  # it is a cell of a table in the docs, too
    assert panel.unit in UNITS
    assert panel.queries
    if len(panel.queries) > 1:
        assert all(query.legend for query in panel.queries)
    if panel.guide:
        assert (DOCS / f"{panel.guide}.md").exists(), panel.guide


@pytest.mark.parametrize("uid", sorted(MODELS))
def test_panels_use_the_chosen_data_source(uid: str) -> None:
    """panel-datasource-rule: of each panel, each of its queries, each variable and annotation."""
    model = MODELS[uid]
    kinds = {v["query"] for v in model["templating"]["list"] if v["type"] == "datasource"}
    users = [
        *(panel for panel in model["panels"] if panel["type"] != "row"),
        *(target for panel in model["panels"] for target in panel.get("targets", ())),
        *(v for v in model["templating"]["list"] if v["type"] == "query"),
        *model["annotations"]["list"],
    ]
    for user in users:
        source = user["datasource"]
        assert source["type"] in kinds
        assert source["uid"] == f"${{{source['type']}_datasource}}"


@pytest.mark.parametrize("uid", sorted(MODELS))
def test_the_variables_are_those_of_every_mixin(uid: str) -> None:
    """template-datasource, -job, -instance, -label-promql and -on-time-change-reload rules."""
    variables = {variable["name"]: variable for variable in MODELS[uid]["templating"]["list"]}
    assert variables["prometheus_datasource"]["label"] == "Prometheus data source"
    assert {"job", "instance"} <= variables.keys()
    for name, variable in variables.items():
        if variable["type"] == "datasource":
            assert name == f"{variable['query']}_datasource"
            continue
        assert (variable["multi"], variable["includeAll"]) == (True, True)
        assert variable["allValue"] == ".+"
        assert variable["refresh"] == 2
        assert variable["label"]
        values = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
        assert values is not None
        (series,) = asked(values[1])
        assert values[2] == name
        assert name in {*BY_NAME[series.name].labels, *TARGET_LABELS}
    used = set(re.findall(r"\$(\w+)", json.dumps(MODELS[uid]["panels"])))
    ours = used - {name.removeprefix("$") for name in VARIABLES}
    assert ours == variables.keys() - {"prometheus_datasource", "loki_datasource"}


@pytest.mark.parametrize("uid", sorted(MODELS))
def test_a_dashboard_is_not_edited_by_hand(uid: str) -> None:
    """template-uneditable-rule: what is generated would be overwritten."""
    model = MODELS[uid]
    assert model["editable"] is False
    assert model["schemaVersion"] == 39
    assert re.fullmatch(r"[a-z-]{1,40}", uid)
    assert model["uid"] == uid
    for annotation in model["annotations"]["list"]:
        assert asked(annotation["expr"])


@pytest.mark.parametrize("uid", sorted(MODELS))
def test_dashboards_lead_to_each_other_and_to_the_documentation(uid: str) -> None:
    """The links at the top find the others by their tag and keep what was chosen."""
    others, documentation = MODELS[uid]["links"]
    assert others["type"] == "dashboards"
    assert set(others["tags"]) <= set(MODELS[uid]["tags"])
    assert (others["includeVars"], others["keepTime"]) == (True, True)
    page = documentation["url"].removeprefix(f"{DOCS_URL}/").rstrip("/")
    assert (DOCS / f"{page}.md").exists()
    for panel in MODELS[uid]["panels"]:
        for link in panel.get("links", ()):
            assert link["url"].startswith(f"{DOCS_URL}/")
            assert link["targetBlank"] is True


@pytest.mark.parametrize("uid", sorted(MODELS))
def test_panels_stand_beside_each_other(uid: str) -> None:
    """None covers another or stands beyond the edge, and no two have one number."""
    places = [panel["gridPos"] for panel in MODELS[uid]["panels"]]
    for place in places:
        assert 0 <= place["x"] <= place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    numbers = [panel["id"] for panel in MODELS[uid]["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_the_objectives_move_the_panels() -> None:
    """A service that promises more is measured against more, in queries and in colours."""
    strict = Objectives(
        availability=Objective(target=Decimal("0.999"), window_days=90),
        error_rate=Objective(target=Decimal("0.98"), window_days=14),
        overhead_p95=Objective(target=Decimal("0.9"), window_days=7, below_s=Decimal("0.5")),
        first_token_p95=Objective(target=Decimal("0.95"), window_days=7, below_s=Decimal(5)),
        first_token_p99=Objective(target=Decimal("0.99"), window_days=7, below_s=Decimal(10)),
    )
    settings = Settings(objectives=strict)
    (slo, *_) = boards(settings)
    panels = {panel.title: panel for panel in slo.panels}
    assert panels["Burn rate"].queries[0].expr.endswith(" / 0.001")
    assert "page at 43.2 (over an hour) and 18 (over" in panels["Burn rate"].answers
    assert panels["Burn rate"].steps[-1][0] == 43.2
    assert "99.9 %" in panels["Availability"].answers
    assert panels["Availability"].steps[-1][0] == 0.999
    assert 'le="0.5"' in panels["Overhead within 0.5 s"].queries[0].expr
    assert 'le="10.0"' in panels["First byte within 10 s"].queries[0].expr
    byte = panels["Time to first byte of streams"]
    assert "95 % within 5 s, 99 % within 10 s" in byte.answers
    assert [limit for limit, _ in byte.steps] == [None, 5.0, 10.0]
    assert "error_ratio:rate90d" in panels["Error budget remaining"].queries[0].expr
    assert "error_ratio:rate14d" in panels["Error rate"].queries[-1].expr
    assert "* 7776000" in panels["Outage the budget still allows"].queries[0].expr
    known = known_to(settings)
    for board in boards(settings):
        for query in (query for panel in board.panels for query in panel.queries):
            assert query.logql or labels_of(plain(query.expr), known) is not None


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: rate("nonsense_total"), "no metric rad_gateway_nonsense_total"),
        (lambda: rate("active_connections"), "is a gauge, not a counter"),
        (lambda: gauge("queue_depth", "route"), "has no label route"),
        (lambda: quantile(0.5, "requests_total"), "is a counter, not a histogram"),
        (lambda: share_within(Decimal("0.3"), "overhead_seconds"), "no edge"),
        (lambda: recorded("error_ratio:rate9m", DEFAULT), "no recording rule"),
        (lambda: foreign("node_load1"), "not among"),
    ],
)
def test_a_query_for_what_there_is_not_cannot_be_built(build: Any, complaint: str) -> None:
    """A metric that is renamed breaks the build of the dashboards, not the night on call."""
    with pytest.raises(ValueError, match=complaint):
        build()


def test_the_checks_above_see_a_wrong_query() -> None:
    """The reader of expressions is worth something: it finds names, labels, windows, functions."""
    (series,) = asked('sum by (a) (rate(x_total{job=~"$job",b!="c"}[$__rate_interval]))')
    assert series == Asked("x_total", {"job": ".+", "b": "c"}, "120", ["sum", "rate"])
    assert plain('x{m=~"$model"}[$__range]') == 'x{m=~".+"}[6h]'
    with pytest.raises(ValueError, match="unclosed"):
        asked("sum by (a (x)")


def test_the_guide_to_the_panels_is_the_documentations() -> None:
    """The page says of every panel what its description says."""
    page = (DOCS / "how-to/dashboards.md").read_text()
    _, begin, rest = page.partition("<!-- panels: generated -->\n")
    table, end, _ = rest.partition("<!-- /panels -->")
    assert begin
    assert end
    assert table.strip() == guide(DEFAULT).strip()
