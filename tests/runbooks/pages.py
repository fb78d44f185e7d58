"""The pages that somebody on call types from, as blocks that can be checked and run."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from slo_tools import ROOT

RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
PAGES = [*RUNBOOKS, *sorted((ROOT / "docs" / "operations").glob("*.md"))]

_FENCE = re.compile(r"^( *)```(.*)\n((?:.*\n)*?)\1```$", re.MULTILINE)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_SET = re.compile(r"(?:export )?([A-Z_]+)=\S+(?: +#.*)?")
GIVEN = frozenset({"HOME"})
"""Variables that any shell has."""
_ENDS = frozenset({"|", "||", "&&", ";", ">", "<", "(", ")", ">>"})


class Block(NamedTuple):
    """One fenced block."""

    language: str
    text: str


class Command(NamedTuple):
    """One program's call within a shell block, its words as the shell has them."""

    program: str
    arguments: tuple[str, ...]


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order; those within lists without their indentation."""
    found = _FENCE.findall(page.read_text() + "\n")
    return [Block(language.strip(), textwrap.dedent(text)) for _, language, text in found]


def of(page: Path, language: str) -> list[str]:
    """The texts of a page's blocks in a language."""
    return [block.text for block in blocks(page) if block.language == language]


def setup(page: Path) -> list[str]:
    """The variables that the first shell block sets; none where it does anything else."""
    scripts = of(page, "sh")
    lines = scripts[0].splitlines() if scripts else []
    found = [match[1] for line in lines if (match := _SET.fullmatch(line))]
    return found if len(found) == len(lines) else []


def variables(script: str) -> set[str]:
    """Those that a script uses. In single quotes a dollar is none."""
    bare = re.sub(r"'[^']*'", "''", script)
    return {one or other for one, other in _VARIABLE.findall(bare)} - GIVEN


def commands(script: str) -> Iterator[Command]:
    """Every call of a program. Raises `ValueError` for quotes that don't close."""
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
        words.whitespace_split = True
        words.commenters = "#"
        call: list[str] = []
        skip = False
        for word in [*words, ";"]:
            if word not in _ENDS:
                if not skip:
                    call.append(word)
                skip = False
            elif word in (">", ">>", "<"):
                skip = True
            else:
                if call:
                    yield Command(call[0], tuple(call[1:]))
                call = []
