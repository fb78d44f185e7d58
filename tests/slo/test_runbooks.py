"""The alerts' way to the runbooks, and the pages on objectives: what they say is true of the code.

What the runbooks themselves say is held by tests/runbooks.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from slo_tools import ROOT, run

from radgateway.slo.alerts import alerts
from radgateway.slo.settings import Settings
from radgateway.slo.settings_file import load_settings
from radgateway.slo.tables import tables

DOCS = ROOT / "docs"
PAGES = sorted((DOCS / "runbooks").glob("*.md"))
BY_HAND = {"key-rotation", "security-incident"}
"""Those that no alert leads to: a calendar does, or a person."""
HOW_TO = (DOCS / "how-to" / "slo-pack.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_every_alert_leads_to_a_page_and_every_page_is_led_to() -> None:
    """By the address in the alert, below where the site is; each names its alerts."""
    settings = Settings(docs_url="https://docs.example.invalid")
    led: dict[str, set[str]] = {}
    for alert in alerts(settings):
        url = alert.annotations(settings)["runbook_url"]
        name = url.removeprefix("https://docs.example.invalid/runbooks/").removesuffix("/")
        led.setdefault(name, set()).add(alert.name)
    assert set(led) | BY_HAND == {page.stem for page in PAGES}
    for name, alerts_of_it in led.items():
        first = (DOCS / "runbooks" / f"{name}.md").read_text().partition("\n## ")[0]
        assert set(re.findall(r"`([A-Z]\w+)`", first)) >= alerts_of_it, name


def test_the_tables_are_those_the_command_shows() -> None:
    """A threshold on the page is the one in the rules: `radgateway slo show --markdown`."""
    page = (DOCS / "explanation" / "slos.md").read_text()
    shown = dict(re.findall(r"<!-- slo: (\w+) -->\n(.*?)\n<!-- end -->", page, re.DOTALL))
    assert shown == {name: table.as_markdown() for name, table in tables(Settings()).items()}


def test_the_objectives_of_the_how_to_can_be_used(tmp_path: Path) -> None:
    """And its table of keys has every key of the file, with its default."""
    (example,) = (block for block in blocks(HOW_TO, "yaml") if "objectives:" in block)
    file = tmp_path / "my.yaml"
    file.write_text(example)
    settings = load_settings(file)
    assert settings.objectives != Settings().objectives
    for name in ("job", "least_bad", "docs_url"):
        assert f"| `{name}` | `{getattr(Settings(), name)}` |" in HOW_TO
    for name, _ in Settings().objectives:
        assert f"`{name}`" in HOW_TO
    for name in Settings().contacts.__dataclass_fields__:
        assert name in HOW_TO or name.endswith(("_email", "_channel")), name


def test_the_prometheus_of_the_how_to_is_valid(tmp_path: Path) -> None:
    """As promtool reads it, with the rules beside it."""
    (example,) = (block for block in blocks(HOW_TO, "yaml") if "scrape_configs:" in block)
    (tmp_path / "rules").symlink_to(ROOT / "examples/observability/prometheus/rules")
    file = tmp_path / "prometheus.yml"
    file.write_text(example)
    checked = run("promtool", "check", "config", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "2 rule files" in checked.stdout
    jobs = [job["job_name"] for job in yaml.safe_load(example)["scrape_configs"]]
    assert Settings().job in jobs


def test_the_routes_of_the_how_to_are_those_of_the_configuration() -> None:
    """Its question gets its answer."""
    found = re.search(r"^\$ (amtool config routes test .*)\n(.+)$", HOW_TO, re.MULTILINE)
    assert found is not None
    words = [word for word in found[1].split()[1:] if not word.startswith("--config.file")]
    config = ROOT / "examples/observability/alertmanager/alertmanager.yml"
    assert run("amtool", *words, f"--config.file={config}").stdout.strip() == found[2]
