"""What Grafana would say of the dashboards, by its own types and its own grammar of LogQL.

Grafana itself does not run here; its package @grafana/schema has the types that its panels are
written in, and @grafana/lezer-logql the grammar of its query editor.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from slo.asked_series import plain
from slo.grafana_check import HERE, LOCK, check

from radgateway.slo.dashboards import boards
from radgateway.slo.dashboards.panel import Query
from radgateway.slo.settings import Settings

MODELS: dict[str, Any] = {
    board.uid: board.to_json("https://docs.example.invalid") for board in boards(Settings())
}
LOGQL: dict[str, Query] = {
    f"{board.uid}: {panel.title}": query
    for board in boards(Settings())
    for panel in board.panels
    for query in panel.queries
    if query.logql
}


def spoilt() -> dict[str, Any]:
    """A dashboard with a mistake of each kind, by what the complaint has to name."""

    def one() -> Any:
        return json.loads(json.dumps(MODELS["radgateway-slo"]))

    broken = {
        name: one()
        for name in ("nonsense", "gridPos", "colorMode", "surplus", "drawStyle", "type", "logs")
    }
    broken["nonsense"]["nonsense"] = 1
    broken["gridPos"]["panels"][1]["gridPos"]["h"] = "8"
    broken["colorMode"]["panels"][1]["options"]["colorMode"] = "pink"
    broken["surplus"]["panels"][1]["surplus"] = True
    broken["drawStyle"]["panels"][5]["fieldConfig"]["defaults"]["custom"]["drawStyle"] = "wavy"
    del broken["type"]["templating"]["list"][0]["type"]
    broken["logs"]["panels"][1]["type"] = "unheard-of"
    return broken


@pytest.fixture(scope="module")
def complaints() -> dict[str, dict[str, list[str]]]:
    """All that is asked, in one start of the compiler."""
    texts = {name: plain(query.expr) for name, query in LOGQL.items()}
    return check({**MODELS, **spoilt()}, {**texts, "wrong": "{service_name=}"})


@pytest.mark.parametrize("uid", sorted(MODELS))
def test_a_dashboard_is_of_grafanas_types(
    complaints: dict[str, dict[str, list[str]]], uid: str
) -> None:
    """Each panel, its options and fields, each variable, link and annotation."""
    assert complaints["dashboards"][uid] == []


@pytest.mark.parametrize("name", sorted(LOGQL))
def test_a_query_of_the_log_is_logql(
    complaints: dict[str, dict[str, list[str]]], name: str
) -> None:
    """As Grafana's editor would parse it; a range takes $__auto (target-logql-auto-rule)."""
    assert complaints["logql"][name] == []
    assert all(window == "$__auto" for window in re.findall(r"\[([^\]]+)\]", LOGQL[name].expr))


@pytest.mark.parametrize("mistake", sorted(spoilt()))
def test_a_mistake_is_found(complaints: dict[str, dict[str, list[str]]], mistake: str) -> None:
    """The check is worth something: wrong values, missing keys and one too many are refused."""
    assert complaints["dashboards"][mistake]


def test_a_wrong_query_of_the_log_is_found(complaints: dict[str, dict[str, list[str]]]) -> None:
    """The grammar refuses what Loki would."""
    assert complaints["logql"]["wrong"]


def test_the_packages_are_pinned_without_an_address() -> None:
    """Each by its version and digest; wherever it is fetched from, it is the same."""
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    packages = json.loads(LOCK.read_text())["packages"]
    packages.pop("")
    assert {name.removeprefix("node_modules/") for name in packages} >= wanted.keys()
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
        assert "resolved" not in package
    assert "://" not in LOCK.read_text()
