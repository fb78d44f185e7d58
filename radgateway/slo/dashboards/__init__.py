"""The strategy's four Grafana dashboards (its 5.4), generated from the metrics' declarations."""

from __future__ import annotations

from collections.abc import Mapping

from radgateway.slo.dashboards.board import Board
from radgateway.slo.dashboards.business import business
from radgateway.slo.dashboards.operations import operations
from radgateway.slo.dashboards.providers import providers
from radgateway.slo.dashboards.service_levels import service_levels
from radgateway.slo.targets import STRATEGY, Targets

__all__ = ["artefacts", "boards", "guide"]

DOCS_URL = "https://radgateway.example.invalid"
"""Where the documentation is served, unless told otherwise."""
FOLDER = "grafana/dashboards"


def boards(targets: Targets = STRATEGY) -> tuple[Board, ...]:
    """All dashboards, for some objectives."""
    return (service_levels(targets), operations(targets), providers(), business())


def artefacts(targets: Targets = STRATEGY, docs_url: str = DOCS_URL) -> Mapping[str, str]:
    """Their files: path below the output folder, and text."""
    return {
        f"{FOLDER}/{board.uid.removeprefix('radgateway-')}.json": board.to_text(docs_url)
        for board in boards(targets)
    }


def guide(targets: Targets = STRATEGY) -> str:
    """What each panel answers, as the tables of the documentation."""
    parts = []
    for board in boards(targets):
        parts.append(f"### {board.title}\n\n{board.reader}\n")
        parts.append("| Panel | What it answers |\n|---|---|")
        parts += [f"| {panel.title} | {panel.answers} |" for panel in board.panels]
        parts.append("")
    return "\n".join(parts)
