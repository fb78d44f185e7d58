"""The strategy's four Grafana dashboards (its 5.4), generated from the metrics' declarations."""

from __future__ import annotations

from collections.abc import Mapping

from radgateway.slo.dashboards.board import Board
from radgateway.slo.dashboards.business import business
from radgateway.slo.dashboards.operations import operations
from radgateway.slo.dashboards.providers import providers
from radgateway.slo.dashboards.service_levels import service_levels
from radgateway.slo.settings import Settings

__all__ = ["artefacts", "boards", "guide"]

FOLDER = "grafana/dashboards"


def boards(settings: Settings) -> tuple[Board, ...]:
    """All dashboards."""
    return (service_levels(settings), operations(settings.objectives), providers(), business())


def artefacts(settings: Settings) -> Mapping[str, str]:
    """Their files: path below the output folder, and text."""
    docs_url = settings.docs_url.rstrip("/")
    return {
        f"{FOLDER}/{board.uid.removeprefix('radgateway-')}.json": board.to_text(docs_url)
        for board in boards(settings)
    }


def guide(settings: Settings) -> str:
    """What each panel answers, as the tables of the documentation."""
    parts = []
    for board in boards(settings):
        parts.append(f"### {board.title}\n\n{board.reader}\n")
        parts.append("| Panel | What it answers |\n|---|---|")
        parts += [f"| {panel.title} | {panel.answers} |" for panel in board.panels]
        parts.append("")
    return "\n".join(parts)
