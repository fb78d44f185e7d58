"""The handbook's tables and templates are those that the code goes by."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from incident.stories import alert
from slo_tools import ROOT

from radgateway.incident.record import Priority
from radgateway.incident.severity import AUDIENCES, MATRIX, triage
from radgateway.incident.words import span, template
from radgateway.slo.alert import TEAMS
from radgateway.slo.alerts import alerts
from radgateway.slo.routing import ESCALATION, receivers_of
from radgateway.slo.settings import Settings
from radgateway.slo.tables import Table

OPERATIONS = ROOT / "docs" / "operations"
_DATA = re.compile(r"<!-- data: (\w+) -->\n(.*?)\n?<!-- end -->", re.DOTALL)
_TEMPLATES = re.compile(r"<!-- templates: ([\w. -]+?) -->\n(.*?)\n?<!-- end -->", re.DOTALL)


def severities() -> Table:
    rows = tuple(
        (
            severity,
            duty.criteria,
            span(duty.response_s),
            duty.communication,
            "yes" if duty.postmortem else "no",
        )
        for severity, duty in MATRIX.items()
    )
    return Table("", ("Severity", "Criteria", "Answered in", "Communication", "Postmortem"), rows)


def escalation() -> Table:
    rows = [("the team's on-call", "at once"), *(_paged(role, after) for role, after in ESCALATION)]
    return Table("", ("Who", "Paged after"), tuple(rows))


def _paged(role: str, after: str) -> tuple[str, str]:
    return role.replace("_", " "), f"{after.removesuffix('m')} minutes"


def teams() -> Table:
    rows = []
    for category, team in TEAMS.items():
        named = dict.fromkeys(
            a.name for a in alerts(Settings()) if a.labels["category"] == category
        )
        rows.append((f"`{category}`", f"`{team}`", ", ".join(f"`{name}`" for name in named)))
    return Table("", ("Category", "Team", "Alerts"), tuple(rows))


def notification() -> Table:
    rows = tuple(
        (
            severity,
            *("yes" if audience in duty.audiences else "" for audience in AUDIENCES),
            "a draft, published by a person" if duty.status_page else "",
        )
        for severity, duty in MATRIX.items()
    )
    heads = (audience.replace("_", " ") for audience in AUDIENCES)
    return Table("", ("Severity", *heads, "status page"), rows)


MADE: dict[str, Callable[[], Table]] = {
    "severities": severities,
    "escalation": escalation,
    "teams": teams,
    "notification": notification,
}


def shown(names: str) -> str:
    """Templates as a page has them: each under its name."""
    parts = (f"`{name}`:\n\n```text\n{template(name)}\n```" for name in names.split())
    return "\n\n".join(parts)


def test_the_tables_are_those_of_routing_and_of_the_incident_app() -> None:
    """Each once, and the same as the data."""
    found = _DATA.findall((OPERATIONS / "escalation.md").read_text())
    assert dict(found) == {name: made().as_markdown() for name, made in MADE.items()}


@pytest.mark.parametrize(
    ("row", "name", "priority", "ratio"),
    [
        ("P1, and 99 % or more fail", "HighErrorRate", "P1", 0.99),
        ("`RadGatewayAbsent`", "RadGatewayAbsent", "P1", None),
        ("P1", "HighErrorRate", "P1", 0.98),
        ("P1", "DBConnectionExhausted", "P1", None),
        ("P2, and more than 25 % fail", "BurnRate1d", "P2", 0.26),
        ("P2", "BurnRate1d", "P2", 0.25),
        ("P3", "HighMemoryUsage", "P3", None),
    ],
)
def test_an_alert_has_the_severity_of_its_row(
    row: str, name: str, priority: Priority, ratio: float | None
) -> None:
    """What the incident app makes of it is what the page says, at the edges too."""
    page = (OPERATIONS / "escalation.md").read_text()
    found = triage([alert(name, priority, ratio=ratio)])
    assert f"| {row} | {found} |" in page


def test_the_game_days_are_the_strategys() -> None:
    """How often, where, who and how long (its 8.3)."""
    page = (ROOT / "docs" / "how-to" / "game-day.md").read_text()
    for row in (
        "| weekly | a laptop | chaos engineer | 1 hour |",
        "| every two weeks | staging | the team | 2 hours |",
        "| monthly | production, limited | the team and stakeholders | 4 hours |",
        "| quarterly | everything | the organization | a day |",
    ):
        assert row in page


def test_whoever_is_paged_is_in_the_table() -> None:
    """In the order in which Alertmanager's receivers are."""
    for team in set(TEAMS.values()):
        roles = [role for role, _ in ESCALATION]
        assert receivers_of("page", team) == (f"{team}_oncall", *roles)


@pytest.mark.parametrize(("page", "count"), [("communication", 10), ("postmortem", 1)])
def test_the_templates_are_the_files(page: str, count: int) -> None:
    """Word for word: no second wording to keep in step."""
    found = _TEMPLATES.findall((OPERATIONS / f"{page}.md").read_text())
    assert sum(len(names.split()) for names, _ in found) == count
    for names, text in found:
        assert text == shown(names)


def test_the_strategys_words_are_on_the_page() -> None:
    """Its two messages for the status page (its 7.4), with its places."""
    page = (OPERATIONS / "communication.md").read_text()
    for words in (
        "[Investigating] RAD Gateway - ",
        "Started: {{timestamp}}\nNext update: 30 minutes",
        "[Resolved] RAD Gateway - Service Restored\n"
        "The issue has been resolved. All services are operating normally.\n"
        "Duration: {{duration}}\nRoot cause: {{brief_description}}\nPostmortem: {{link}}",
    ):
        assert words in page
