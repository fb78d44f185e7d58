"""The strategy's boxes (its chapter 10) as data: what proves each, or who has to attest it.

A test proves that the thing can be done here; that it was done there, in somebody's cluster, is
attested. Many boxes need both.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from radgateway.config.bind import Binder
from radgateway.config.load import read_file
from radgateway.config.problems import Report
from radgateway.config.tree import note_places


@dataclass(frozen=True, slots=True, kw_only=True)
class Attest:
    """What a person has to see and sign for."""

    what: str
    by: str
    """A role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One box."""

    id: str
    section: str
    box: str
    """The strategy's words."""
    tests: tuple[str, ...] = ()
    """Ids of pytest, without parameters."""
    commands: tuple[str, ...] = ()
    """Run where it counts; that they ended well is attested."""
    attest: Attest | None = None

    def __post_init__(self) -> None:
        if not (self.tests or self.commands or self.attest):
            raise ValueError("tests, commands or attest must say how it is proven")

    @property
    def needs_a_word(self) -> bool:
        """Whether tests alone do not tick it."""
        return bool(self.commands) or self.attest is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checklist:
    """All of them, in the strategy's order."""

    boxes: tuple[Box, ...]

    def __post_init__(self) -> None:
        ids = [box.id for box in self.boxes]
        twice = sorted({one for one in ids if ids.count(one) > 1})
        if twice:
            raise ValueError(f"boxes has {twice[0]!r} twice")

    @property
    def sections(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(dict.fromkeys(box.section for box in self.boxes))


def load_checklist() -> Checklist:
    """The one of this package. Raises `ConfigError` where PyYAML is missing."""
    with resources.as_file(resources.files(__package__) / "readiness.yaml") as file:
        return read_checklist(file)


def read_checklist(file: Path) -> Checklist:
    """One of a file. Raises `ConfigError` with every mistake in it."""
    root = read_file(file)
    report = Report()
    note_places(root, report)
    checklist = Binder(report).section(Checklist, root)
    report.raise_if_any()
    assert isinstance(checklist, Checklist)
    return checklist
