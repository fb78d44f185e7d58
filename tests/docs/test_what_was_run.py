"""The page on what was not run: each row says what was checked instead, and by which tests."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "explanation" / "what-was-run.md").read_text()
ROWS = re.findall(r"^\| (?!What did|---)(.+) \| (.+) \| (`.+`) \|$", PAGE, re.MULTILINE)


def test_every_row_leads_to_tests_that_there_are() -> None:
    """A folder with tests in it, or the command that asks people."""
    assert len(ROWS) == PAGE.count("\n| ") - 1
    for what, _, by in ROWS:
        for name in re.findall(r"`(.+?)`", by):
            if name != "radgateway readiness":
                assert list((ROOT / name).glob("test_*.py")), what


def test_what_the_strategy_names_and_nothing_here_can_run_is_listed() -> None:
    """Its tools and services, each by name, so that nobody takes one for tried."""
    for name in (
        "Kubernetes", "Argo", "Litmus", "Grafana", "Loki", "Tempo", "Jaeger", "PagerDuty", "Slack",
        "Statuspage", "Infisical", "GitHub", "Grype", "CDN", "WAF", "DNS", "penetration test",
    ):  # fmt: skip
        assert any(name in what for what, _, _ in ROWS), name
