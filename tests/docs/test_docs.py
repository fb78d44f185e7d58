from __future__ import annotations

import ast
import asyncio
import pkgutil
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import httpx
import pytest

import radgateway
from radgateway.config.defaults import MATRIX
from radgateway.config.restart import NEEDS_RESTART
from radgateway.config.schema import GatewayConfig
from radgateway.config.shape import Shape, keys_of
from radgateway.errors import CATALOGUE
from radgateway.inbound.drain import DrainLimits
from radgateway.incident.orders import ORDERS
from radgateway.incident.settings import IncidentConfig
from radgateway.incident.severity import MATRIX as SEVERITIES
from radgateway.incident.telemetry import INCIDENT_METRICS
from radgateway.incident.words import span
from radgateway.openapi.document import document
from radgateway.operations.degraded import MODES
from radgateway.operations.query_parameters import PARAMETERS
from radgateway.provider.adaptive_limit import AdaptiveConfig
from radgateway.provider.circuit.config import BreakerConfig
from radgateway.provider.faults import Faults
from radgateway.provider.mock import MockConfig
from radgateway.provider.probe import ProbeConfig
from radgateway.routing.hedge import HedgeConfig
from radgateway.routing.retry_budget import RetryBudgetConfig
from radgateway.telemetry.declared import METRICS
from radgateway.telemetry.declared_logs import ATTEMPT_FIELDS, LINES, REQUEST_FIELDS, SCHEMA
from radgateway.telemetry.declared_spans import ATTRIBUTES, SPANS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
README = ROOT / "README.md"
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in [*PAGES, README]}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ALL = re.MULTILINE | re.DOTALL
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADINGS = [
    "What it does",
    "When not to use it",
    "Usage",
    "Settings",
    "Answers and events",
    "Order and interactions",
    "Sources",
]


def page(name: str) -> str:
    return TEXTS[f"docs/{name}"]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every table row, backticks kept."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def programs() -> list[tuple[str, str]]:
    """Every fenced block of Python, by where it stands."""
    return [
        (f"{name}#{number}", block)
        for name, text in TEXTS.items()
        for number, (language, block) in enumerate(_FENCE.findall(text))
        if language == "python"
    ]


def complete(block: str) -> bool:
    return block.lstrip().startswith(("import ", "from "))


def shown(value: Any) -> str:
    """A default as the reference writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:.10g}"
    if isinstance(value, tuple):
        return "[]" if not value else repr(value)
    if isinstance(value, Mapping):
        return "{}" if not value else repr(value)
    return str(value)


def config_keys(of: type[Any] = GatewayConfig) -> dict[str, str]:
    """Every key's path and default, from the schema itself."""
    found: dict[str, str] = {}

    def walk(section: Any, prefix: str, base: Any = None) -> None:
        made = {field.name: field for field in fields(section)}
        for key in keys_of(section).values():
            path, field = f"{prefix}{key.name}", made[key.name]
            default = "required"
            if base is not None:
                default = f"`{shown(getattr(base, key.name))}`"
            elif field.default is not MISSING:
                default = f"`{shown(field.default)}`"
            elif field.default_factory is not MISSING:
                default = f"`{shown(field.default_factory())}`"
            shape: Shape = key.shape
            if shape.kind == "section":
                if shape.optional:
                    found[path] = default if default == "`null`" else "on"
                walk(shape.type, f"{path}.", key.base)
                continue
            found[path] = default
            if shape.item is not None and shape.item.kind == "section":
                walk(shape.item.type, path + ("[]." if shape.kind == "list" else ".NAME."))

    walk(of, "")
    return found


def test_the_configuration_reference_has_every_key_and_its_default() -> None:
    """A key that is added, renamed or given another default without the page fails here."""
    written = {
        cells[0].strip("`"): cells[2]
        for cells in rows(page("reference/configuration.md"))
        if len(cells) == 4
    }
    assert written == config_keys()


def test_the_reference_of_the_incident_app_has_all_of_it() -> None:
    """Its keys with their defaults, its orders, and its metrics."""
    text = page("reference/incidents.md")
    parts = {
        name: rows(part) for name, part in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, _ALL)
    }
    keys = {cells[0].strip("`"): cells[2] for cells in parts["Configuration"]}
    assert keys == config_keys(IncidentConfig)
    orders = {
        cells[0].strip("`").rpartition("/")[2]
        for cells in parts["HTTP"]
        if cells[0].startswith("`POST /v0/incidents/ID/")
    }
    assert orders == set(ORDERS)
    metrics = {cells[0].strip("`"): [cells[1], cells[3]] for cells in parts["Metrics"]}
    assert metrics == {each.name: [each.kind, each.help] for each in INCIDENT_METRICS.values()}


def test_the_how_to_of_incidents_has_the_matrix() -> None:
    """Whom each severity concerns, as the app goes by it."""
    written = [cells for cells in rows(page("how-to/incidents.md")) if len(cells) == 6]
    assert written == [
        [
            f"`{severity}`",
            duty.criteria,
            span(duty.response_s),
            ", ".join(duty.audiences),
            "draft" if duty.status_page else "",
            "yes" if duty.postmortem else "",
        ]
        for severity, duty in SEVERITIES.items()
    ]


def test_the_walk_finds_what_is_nested() -> None:
    """The comparison above is worth something: sections below lists, mappings and null are seen."""
    keys = config_keys()
    assert keys["models.NAME.candidates[].price.input"] == "required"
    assert keys["providers.NAME.faults.error_status"] == f"`{Faults().error_status}`"
    assert "notices" not in keys


def test_the_reference_has_the_matrix_of_environments() -> None:
    """What an environment sets by default is what the table says."""
    table = {
        cells[0].strip("`"): cells[1:]
        for cells in rows(page("reference/configuration.md"))
        if len(cells) == 5
    }
    for path, cells in table.items():
        _, *steps = path.split(".")
        for cell, settings in zip(cells, MATRIX.values(), strict=True):
            value: Any = settings["telemetry"]
            for step in steps:
                value = value[step]
            assert cell == shown(value), path
    assert len(table) == 3


def test_the_reference_says_what_needs_a_restart() -> None:
    """What a reload refuses is what the table has, with the reason."""
    text = page("reference/configuration.md").partition("## What needs a restart")[2]
    written = {cells[0].strip("`"): cells[1] for cells in rows(text.partition("\n## ")[0])}
    assert written == NEEDS_RESTART


COMPONENTS: list[tuple[str, str, Any]] = [
    ("bulkhead", "AdaptiveConfig.", AdaptiveConfig),
    ("circuit-breaker", "", BreakerConfig),
    ("drain-guard", "DrainLimits.", DrainLimits),
    ("fault-injector", "", Faults),
    ("mock-provider", "", MockConfig),
    ("provider-health", "probe.", ProbeConfig),
    ("retry-budget", "", RetryBudgetConfig),
    ("router", "HedgeConfig.", HedgeConfig),
]
"""Pages of components, what their rows begin with, and whose defaults those are."""


@pytest.mark.parametrize(("name", "prefix", "config"), COMPONENTS, ids=[c[0] for c in COMPONENTS])
def test_a_components_page_has_every_setting_and_its_default(
    name: str, prefix: str, config: Any
) -> None:
    """A setting that is added, renamed or given another default without its page fails here."""
    text = page(f"components/{name}.md").partition("## Settings")[2].partition("\n## ")[0]
    written: dict[str, str] = {}
    for cells in rows(text):
        names = re.findall(r"`([\w.]+)`", cells[0])
        written |= dict(
            zip(names, cells[2].split(", ") if len(names) > 1 else cells[2:3], strict=True)
        )
    words = {"None": "null", "none": "[]", "none: all": "[]"}
    assert {
        key.removeprefix(prefix): words.get(value, value)
        for key, value in written.items()
        if key.startswith(prefix)
    } == {field.name: shown(getattr(config(), field.name)) for field in fields(config)}


def test_the_error_reference_is_the_catalogue() -> None:
    """Every code stands there with its status and advice, and none that does not exist."""
    advice = {None: "", False: "no", True: "yes"}
    written = {
        cells[0].strip("`"): (cells[1], cells[2]) for cells in rows(page("reference/errors.md"))
    }
    assert written == {
        code: (str(kind.status), advice[kind.should_retry]) for code, kind in CATALOGUE.items()
    }


def test_the_metric_reference_is_the_list_of_metrics() -> None:
    """Every metric stands there with its type and labels, and none that does not exist."""
    written = {
        cells[0].strip("`"): (cells[1], tuple(re.findall(r"`(\w+)`", cells[2])))
        for cells in rows(page("reference/metrics.md"))
    }
    assert written == {metric.name: (metric.kind, metric.labels) for metric in METRICS.values()}


def test_the_span_reference_is_the_declaration() -> None:
    """Every span with its kind, parent, attributes and events; every attribute with its type."""
    tables = {True: {}, False: {}}  # type: dict[bool, dict[str, Any]]
    for cells in rows(page("reference/spans.md")):
        tables[len(cells) == 6][cells[0].strip("`")] = cells[1:]
    assert {
        name: (kind, below.strip("`") or None, set(re.findall(r"`([\w.]+)`", attributes)), events)
        for name, (kind, below, attributes, events, _) in tables[True].items()
    } == {
        span.name: (span.kind, span.parent, set(span.attributes), shown_events(span.events))
        for span in SPANS.values()
    }
    assert tables[False] == {name: [each.type, each.help] for name, each in ATTRIBUTES.items()}


def shown_events(events: Mapping[str, frozenset[str]]) -> str:
    """Events as the reference writes them."""
    return ", ".join(
        f"`{name}`" + (" with " + ", ".join(f"`{a}`" for a in sorted(given)) if given else "")
        for name, given in events.items()
    )


def test_the_log_reference_is_the_declaration() -> None:
    """The schema, every line with its levels and fields, and the fields of a request's own."""
    written = {cells[0].strip("`"): cells[1:] for cells in rows(page("reference/logs.md"))}
    expected: dict[str, list[str]] = {name: [text] for name, text in SCHEMA.items()}
    for line in LINES.values():
        named = ", ".join(f"`{name}`" for name in sorted(line.fields))
        always = "yes" if line.always else "no"
        expected[line.name] = [", ".join(line.levels), always, named, line.help]
    expected |= {f"fields.{name}": [text] for name, text in REQUEST_FIELDS.items()}
    expected |= {f"attempts[].{name}": [text] for name, text in ATTEMPT_FIELDS.items()}
    assert written == expected


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_no_page_names_a_log_line_that_does_not_exist(name: str) -> None:
    """Who searches the logs for it finds something."""
    for found in re.findall(r"`(radgateway\.[a-z_]+\.[a-z_]+)`", TEXTS[name]):
        assert found in LINES or found in ATTRIBUTES or is_python(found), found


def is_python(name: str) -> bool:
    """Whether a dotted name is a module of ours or something in one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_the_table_of_degraded_modes_is_the_one_in_force() -> None:
    """Every mode stands there as it is declared, in order, and none that is not."""
    written = [tuple(cells) for cells in rows(page("explanation/degraded-modes.md"))]
    assert written == [
        (
            f"`{mode.dependency}`",
            f"`{mode.state}`",
            "yes" if mode.available else "no",
            mode.behaviour or "nothing special",
        )
        for mode in MODES
    ]


def test_the_http_reference_has_every_path_and_parameter() -> None:
    """Those of the OpenAPI document, and none that is not served."""
    text = page("reference/http.md")
    named: set[tuple[str, str]] = set()
    for cells in rows(text):
        for path in re.findall(r"(?<= )/[^`]+", cells[0]):
            named |= {(path, method) for method in re.findall(r"[A-Z]{3,}", cells[0])}
    documented = {
        (path, method.upper())
        for path, item in document()["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert named == documented
    section = text.partition("### Usage and traces")[2].partition("\n###")[0]
    written: set[str] = set()
    for cells in rows(section.partition("They answer")[0]):
        written |= set(re.findall(r"`(\w+)`", cells[0]))
    assert written == set(PARAMETERS)


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_no_page_names_a_metric_that_does_not_exist(name: str) -> None:
    """A query copied from any page finds something."""
    known = {metric.name for metric in METRICS.values()}
    for found in re.findall(r"\brad_gateway_[a-z_]+", TEXTS[name]):
        assert re.sub(r"_(bucket|count|sum)$", "", found) in known, found


def test_every_public_name_is_documented() -> None:
    """The page of Python names has all of `__all__`, each importable, and no other."""
    written: set[str] = set()
    for cells in rows(page("reference/python.md")):
        written |= set(re.findall(r"`(\w+)", cells[0]))
    assert written == set(radgateway.__all__)
    for name in written:
        assert getattr(radgateway, name) is not None


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_relative_links_lead_somewhere(name: str) -> None:
    """What a page links to exists; a link from docs/ stays in docs/, where the site can follow."""
    here = ROOT / name
    for target in _LINK.findall(_FENCE.sub("", TEXTS[name])):
        if re.match(r"[a-z]+:", target) or target.startswith("#"):
            continue
        assert not target.startswith("/"), target
        there = (here.parent / target.partition("#")[0]).resolve()
        assert there.exists(), target
        assert here == README or there.is_relative_to(DOCS), target


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_paths_named_in_text_exist(name: str) -> None:
    """A file or folder of the repository that a page names is there."""
    named = r"`((?:docs|examples|radgateway|tests|benchmarks)/[\w./-]*)`"
    for path in re.findall(named, TEXTS[name]):
        if not path.startswith("benchmarks/results"):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize(("where", "block"), programs(), ids=[where for where, _ in programs()])
def test_python_in_the_pages_is_python(where: str, block: str) -> None:
    """Every block parses; one that is a program also imports only what there is, and runs."""
    ast.parse(block, where)


@pytest.mark.parametrize(
    ("where", "block"),
    [program for program in programs() if complete(program[1])],
    ids=[where for where, block in programs() if complete(block)],
)
def test_programs_in_the_pages_run(
    where: str, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied into a file, a complete block does what its page says, up to serving."""
    monkeypatch.chdir(tmp_path)
    run(block, where)


def run(block: str, where: str) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "documented"}
    exec(compile(block, where, "exec"), space)
    return space


def test_the_composition_of_the_readme_serves(tmp_path: Path) -> None:
    """With nothing at the first provider's address, the second answers, below the prefix."""
    (block,) = (block for _, block in programs() if 'app.mount("/ai"' in block and "local" in block)
    # A port nobody listens on, whatever runs on this machine.
    app = run(block.replace("127.0.0.1:8080", "127.0.0.1:1"), "README.md")["app"]

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            body = {"model": "smollm", "messages": [{"role": "user", "content": "Hello"}]}
            return await client.post("/ai/v1/chat/completions", json=body)

    response = asyncio.run(asyncio.wait_for(ask(), 10))
    assert response.status_code == 200
    assert response.headers["x-radgateway-provider"] == "mock"
    assert response.headers["x-radgateway-attempts"] == "2"
    assert "Echo: Hello" in response.text


@pytest.mark.parametrize(
    "path", sorted((DOCS / "components").glob("*.md")), ids=lambda path: path.stem
)
def test_component_pages_have_one_form(path: Path) -> None:
    """A reader who knows one page knows where to look on all."""
    assert re.findall(r"^## (.+)$", path.read_text(), re.MULTILINE) == _HEADINGS


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    """No page is missing from the navigation, no link is dead, nothing is fetched to show it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mkdocs and its theme have deprecations of their own
        from mkdocs.commands.build import build
        from mkdocs.config import load_config

        config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True)
        build(config)
    front = (tmp_path / "index.html").read_text()
    assert not re.findall(r'(?:src|href)="(?:https?:)?//[^"]+\.(?:js|css|woff2?)', front)
    assert "fonts.googleapis" not in front
