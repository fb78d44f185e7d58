"""Runbooks and the handbook: their form, and what can be said of their commands without running."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import pytest
from drive import drive, http_scope
from runbooks.pages import PAGES, RUNBOOKS, Block, blocks, commands, of, setup, variables
from slo.promql_labels import known_to, labels_of
from slo_tools import ROOT

from radgateway.app import create_gateway
from radgateway.cli import _parser
from radgateway.slo.settings import Settings

HEADINGS = ["What it means", "First", "What to do", "Escalate", "When it is over"]
REQUIRED = {
    "availability-degradation": (
        "Health check verification",
        "Load balancer investigation",
        "Rolling restart procedure",
    ),
    "error-rate-spike": (
        "Error type breakdown",
        "Recent deployment correlation",
        "Provider status check",
        "Rollback decision tree",
    ),
    "latency-investigation": (
        "Latency histogram analysis",
        "Provider latency breakdown",
        "Database query analysis",
        "Circuit breaker status",
    ),
    "provider-failure": (
        "Provider health verification",
        "Manual failover procedure",
        "Provider capacity check",
    ),
    "security-incident": (
        "API key revocation procedure",
        "Audit log extraction",
        "Forensic data preservation",
        "Communication templates",
    ),
}
"""The strategy's sections (its 7.3)."""
LANGUAGES = {"promql", "sh", "text"}
"""Queries are parsed, and asked in test_live.py, where shell is run; text is for people."""
PROGRAMS = {
    "amtool", "cat", "chmod", "curl", "echo", "find", "grep", "kubectl", "mkdir", "openssl",
    "pg_dump", "printf", "promtool", "psql", "radgateway", "sed", "sha256sum", "sort", "test",
    "true", "umask", "xargs", "cd", "examples/release/rollback.sh", "examples/release/smoke.sh",
}  # fmt: skip
"""What the sandbox of test_live.py has, the real one or a strict one."""
THERE = known_to(Settings())
ADMIN_KEY = "an-admin-key-of-a-test"


def ids(page: Path) -> str:
    return page.stem


@pytest.mark.parametrize("page", RUNBOOKS, ids=ids)
def test_a_runbook_is_of_one_form(page: Path) -> None:
    """The same five headings in the same order, and several things to look at first."""
    text = page.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    first = text.partition("## First")[2].partition("## What to do")[0]
    assert len(re.findall(r"^```(?:promql|sh)$", first, re.MULTILINE)) >= 2


def test_the_runbooks_have_the_sections_that_the_strategy_requires() -> None:
    """Eighteen of them, each with something to type before the next one begins."""
    assert sum(map(len, REQUIRED.values())) == 18
    for name, titles in REQUIRED.items():
        text = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text()
        to_do = text.partition("## What to do")[2].partition("## Escalate")[0]
        sections = re.split(r"^### (.+)$", to_do, flags=re.MULTILINE)
        assert tuple(sections[1::2])[: len(titles)] == titles, name
        assert all("```" in section for section in sections[2::2]), name


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_block_has_a_rule(page: Path) -> None:
    """A block in another language than those that are run or parsed would be on trust alone."""
    assert page.read_text().count("```") == 2 * len(blocks(page))
    for block in blocks(page):
        assert block.language in LANGUAGES, block.text


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_can_be_copied(page: Path) -> None:
    """What a page's shell uses it sets at its top, and it sets nothing that it does not use."""
    scripts = of(page, "sh")
    if not scripts:
        return
    used = set[str]().union(*map(variables, scripts[1:]))
    exported = set(re.findall(r"^export (\w+)=", scripts[0], re.MULTILINE))
    assert used <= set(setup(page)), page.stem
    assert set(setup(page)) - exported <= used, page.stem
    if setup(page):
        assert page.read_text().index("```sh") < page.read_text().index("## ")


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_shell_is_shell_and_its_programs_are_known(page: Path) -> None:
    """As bash reads it; `radgateway` with options that the command has."""
    for script in of(page, "sh"):
        checked = subprocess.run(["bash", "-n"], input=script, text=True, check=False)
        assert checked.returncode == 0, script
        for command in commands(script):
            if re.fullmatch(r"(export|[A-Z_]+=.*)", command.program):
                continue
            assert command.program in PROGRAMS, command
            if command.program == "radgateway":
                _parser().parse_args(command.arguments)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_no_failure_is_swallowed(page: Path) -> None:
    """A list of `&&` or `||` hides one from the session that runs a page (bash, `set -e`).

    Allowed within parentheses, and where another exit code than 0 is an answer.
    """
    for script in of(page, "sh"):
        for line in re.sub(r"\(.*\)", "", script).splitlines():
            if "&&" in line or "||" in line:
                assert re.match(r" *(radgateway (release|incident) |grep -c |test )", line), line
                assert " | " not in line, line


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_queries_ask_for_what_there_is(page: Path) -> None:
    """Metrics and labels as they are declared: a query that finds nothing is no error by itself."""
    for query in of(page, "promql"):
        labels_of(query, THERE)
    for recorded in re.findall(r"`(rad_gateway:[\w:]+)", page.read_text()):
        assert recorded in THERE
    for metric in re.findall(r"`(rad_gateway_\w+)`", page.read_text()):
        assert metric in THERE, metric


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_no_secret_is_typed(page: Path) -> None:
    """Keys come from files: what is on a command line is seen by all, and kept by the shell."""
    for script in of(page, "sh"):
        assert not re.search(r"-H ['\"]?(?:x-api-key|authorization)", script, re.IGNORECASE), script
        assert not re.search(r"postgresql://|--password|--token", script), script


def test_what_the_pages_ask_the_gateway_it_answers() -> None:
    """Every path of a curl is served, to an admin where it is sent with the admin's key."""
    calls = [
        command
        for page in PAGES
        for script in of(page, "sh")
        for command in commands(script)
        if command.program == "curl"
    ]
    assert len(calls) > 25

    async def story() -> None:
        gateway = create_gateway(
            {
                "keys": [{"name": "mobile-app", "secret": "a-key-of-a-caller"}],
                "admin_keys": [{"name": "ops", "secret": ADMIN_KEY}],
                "providers": {"openai": {"kind": "mock"}},
                "models": {"m": {"candidates": [{"provider": "openai"}]}},
                "storage": {"usage": "memory://"},
                "telemetry": {"metrics": True},
            }
        )
        # What drains comes last.
        for command in sorted(calls, key=lambda call: "/drain" in str(call)):
            (address,) = [word for word in command.arguments if word.startswith("$GATEWAY")]
            path, _, query = address.removeprefix("$GATEWAY").partition("?")
            path = path.replace("$PROVIDER", "openai")
            query = query.replace("$SINCE", "24h").replace("$KEY", "mobile-app")
            sent = {"@$ADMIN": ADMIN_KEY, "@$NEW": "a-key-of-a-caller"}
            keys = [sent[word] for word in command.arguments if word in sent]
            body = [command.arguments[i + 1] for i, w in enumerate(command.arguments) if w == "-d"]
            method = "POST" if "POST" in command.arguments else "GET"
            headers = [("x-api-key", key) for key in keys]
            scope = http_scope(path, method=method, headers=headers)
            scope["query_string"] = query.encode()
            answer = await drive(gateway, scope, body="".join(body).encode())
            assert answer.status in (200, 202), (command, answer.body)
        await gateway.aclose()

    asyncio.run(story())


def test_blocks_are_found_where_they_stand_in_lists(tmp_path: Path) -> None:
    """The reading itself: indentation, and words and redirections of a shell."""
    page = tmp_path / "page.md"
    page.write_text("1. a\n\n    ```sh\n    A=1\n    b\n    ```\n\n```text\nx\n```\n")
    assert blocks(page) == [Block("sh", "A=1\nb\n"), Block("text", "x\n")]
    found = list(commands("a -x 'b c' > /tmp/file | d && (e; f) # g\n"))
    assert [c.program for c in found] == ["a", "d", "e", "f"]
    assert found[0].arguments == ("-x", "b c")
    assert variables("a \"$B\" '$C' ${D} $HOME") == {"B", "D"}
