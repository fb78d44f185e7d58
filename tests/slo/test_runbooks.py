"""The runbooks and the pages on objectives: what they say is true of the code."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from drive import drive, http_scope
from slo.promql_labels import known_to, labels_of
from slo_tools import ROOT, run

from radgateway.app import create_gateway
from radgateway.slo.alerts import alerts
from radgateway.slo.settings import Settings
from radgateway.slo.settings_file import load_settings
from radgateway.slo.tables import tables

DOCS = ROOT / "docs"
PAGES = sorted((DOCS / "runbooks").glob("*.md"))
HEADINGS = ["What it means", "First", "What to do", "When it is over"]
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
    assert set(led) == {page.stem for page in PAGES}
    for page in PAGES:
        first = page.read_text().partition("\n## ")[0]
        assert set(re.findall(r"`([A-Z]\w+)`", first)) >= led[page.stem], page.stem


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_runbook_is_of_one_form_and_its_commands_can_be_run(page: Path) -> None:
    """Four headings, three things to look at first, queries that find something, shell that is."""
    text = page.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    first = text.partition("## First")[2].partition("## What to do")[0]
    assert len(blocks(first, "promql")) + len(blocks(first, "sh")) >= 3
    there = known_to(Settings())
    for query in blocks(text, "promql"):
        labels_of(query, there)
    for recorded in re.findall(r"`(rad_gateway:[\w:]+)", text):
        assert recorded in there
    for script in blocks(text, "sh"):
        checked = subprocess.run(["bash", "-n"], input=script, text=True, check=False)
        assert checked.returncode == 0, script


def test_what_the_runbooks_ask_the_gateway_it_answers() -> None:
    """Every path of a curl is served, to an admin where it is sent with the admin's key."""
    text = "\n".join(page.read_text() for page in PAGES)
    calls = [
        line for page in PAGES for script in blocks(page.read_text(), "sh")
        for line in script.splitlines() if line.startswith("curl ")
    ]  # fmt: skip
    assert len(calls) > 8
    assert "$GATEWAY" in text

    async def story() -> None:
        gateway = create_gateway(
            {
                "keys": [],
                "admin_keys": [{"name": "ops", "secret": "an-admin-key-of-a-test"}],
                "providers": {"one": {"kind": "mock"}},
                "models": {"m": {"candidates": [{"provider": "one"}]}},
                "storage": {"usage": "memory://"},
                "telemetry": {"metrics": True},
            }
        )
        # What drains comes last.
        for call in sorted(calls, key=lambda line: "/drain" in line):
            found = re.search(r'"\$GATEWAY(/[^"]*)"', call)
            assert found is not None, call
            path = found[1].replace("$PROVIDER", "one")
            body = re.search(r"-d '([^']*)'", call)
            headers = [("x-api-key", "an-admin-key-of-a-test")] if "$ADMIN_KEY" in call else []
            method = "POST" if "-X POST" in call else "GET"
            scope = http_scope(path, method=method, headers=headers)
            answer = await drive(gateway, scope, body=body[1].encode() if body else b"")
            assert answer.status in (200, 202), (call, answer.body)
        await gateway.aclose()

    asyncio.run(story())


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
