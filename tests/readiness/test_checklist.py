"""The checklist is the strategy's, and nothing in it is on trust: what proves a box is there."""

from __future__ import annotations

import ast
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
from ops_tools import ROOT

from radgateway.cli import _parser
from radgateway.config.problems import ConfigError
from radgateway.readiness.checklist import load_checklist, read_checklist
from radgateway.readiness.report import as_markdown

CHECKLIST = load_checklist()
TESTS = sorted({test for box in CHECKLIST.boxes for test in box.tests})
PAGE = (ROOT / "docs" / "operations" / "readiness.md").read_text()


def test_the_checklist_is_the_strategys() -> None:
    """33 boxes of production in five groups, five roles, six exit criteria; in its order."""
    assert list(Counter(box.section for box in CHECKLIST.boxes).items()) == [
        ("Infrastructure", 7),
        ("Observability", 7),
        ("Reliability", 7),
        ("Security", 6),
        ("Documentation", 6),
        ("Team readiness", 5),
        ("Launch exit criteria", 6),
    ]


@pytest.mark.parametrize("test", TESTS)
def test_a_test_that_is_named_is_there(test: str) -> None:
    """A function of that name in that file; test_collected.py asks pytest itself."""
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_a_command_that_is_named_is_there() -> None:
    """Each begins as one of ours does: its parser knows it, or misses arguments alone."""
    commands = {command for box in CHECKLIST.boxes for command in box.commands}
    assert commands
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "radgateway"
        with pytest.raises(SystemExit) as ended:
            _parser().parse_args([*words, "--help"])
        assert ended.value.code == 0, command


def test_the_page_is_the_checklist() -> None:
    """Section by section, as `as_markdown` has it."""
    found = re.findall(r"<!-- readiness: (.+?) -->\n(.*?)\n<!-- end -->", PAGE, re.DOTALL)
    assert dict(found) == {
        section: as_markdown(CHECKLIST, section) for section in CHECKLIST.sections
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("boxes: [{id: a, section: s, box: b}]", "how it is proven"),
        ("boxes: [{id: a, section: s, box: b, test: [x]}]", "did you mean 'tests'"),
        (
            "boxes: [{id: a, section: s, box: b, tests: [x]}, "
            "{id: a, section: s, box: c, tests: [x]}]",
            "'a' twice",
        ),
    ],
)
def test_a_box_without_a_proof_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    """So is a misspelt proof, and a box that is there twice."""
    file = tmp_path / "readiness.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        read_checklist(file)
