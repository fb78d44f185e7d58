"""How ready it is: the state of each box, by what tests came to and what people attest."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from radgateway.readiness.checklist import Box, Checklist
from radgateway.readiness.results import Result
from radgateway.release.evidence import Attestation, when
from radgateway.slo.tables import Table

State = Literal["ticked", "open", "failed"]
HEAD: Final = ("Box", "Proven by", "State", "Why")


class Judged(NamedTuple):
    """A box and what is known of it. `why` says what is missing, or who has signed."""

    box: Box
    state: State
    why: str


def judge(
    checklist: Checklist,
    results: Mapping[str, Result],
    attested: Mapping[str, Attestation],
    now: datetime,
    max_age: timedelta,
) -> tuple[Judged, ...]:
    """Every box. What nobody has shown is open, and never ticked."""
    return tuple(
        _judged(box, results, attested.get(box.id), now, max_age) for box in checklist.boxes
    )


def _judged(
    box: Box,
    results: Mapping[str, Result],
    word: Attestation | None,
    now: datetime,
    max_age: timedelta,
) -> Judged:
    failed = [test for test in box.tests if results.get(test) == "failed"]
    if failed:
        return Judged(box, "failed", f"failed: {failed[0]}")
    if word is not None and word.result == "failed":
        return Judged(box, "failed", f"failed, says {_signed(word)}")
    missing = []
    unknown = [test for test in box.tests if results.get(test) != "passed"]
    if unknown:
        missing.append(f"{len(unknown)} of {len(box.tests)} tests not run")
    if box.needs_a_word and word is None:
        missing.append("not attested")
    if word is not None and not timedelta(0) <= now - when(word) <= max_age:
        missing.append(f"attested by {_signed(word)}: not within {max_age.days} days")
    if missing:
        return Judged(box, "open", "; ".join(missing))
    return Judged(box, "ticked", _signed(word) if word is not None else "")


def _signed(word: Attestation) -> str:
    return f"{word.by}, {word.at}"


def proof(box: Box) -> str:
    """How a box is proven, in words."""
    parts = []
    if box.tests:
        parts.append("1 test" if len(box.tests) == 1 else f"{len(box.tests)} tests")
    parts += box.commands
    if box.attest is not None:
        parts.append(f"{box.attest.by} attests")
    return ", ".join(parts)


def as_text(judged: tuple[Judged, ...]) -> str:
    """A table for each section, then how many are what."""
    parts = []
    for section in dict.fromkeys(each.box.section for each in judged):
        rows = tuple(
            (each.box.box, proof(each.box), each.state, _line(each.why))
            for each in judged
            if each.box.section == section
        )
        parts.append(Table(section, HEAD, rows).as_text())
    counts = {state: sum(each.state == state for each in judged) for state in _STATES}
    parts.append(", ".join(f"{count} {state}" for state, count in counts.items()))
    return "\n\n".join(parts) + "\n"


_STATES: Final[tuple[State, ...]] = ("ticked", "open", "failed")


def _line(text: str) -> str:
    """Without what a terminal would obey: names are somebody else's."""
    return "".join(c if c.isprintable() else " " for c in text)


def as_values(judged: tuple[Judged, ...]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "ready": all(each.state == "ticked" for each in judged),
        "boxes": [
            {
                "id": each.box.id,
                "section": each.box.section,
                "box": each.box.box,
                "state": each.state,
                "why": each.why,
                "tests": list(each.box.tests),
                "commands": list(each.box.commands),
                "attest": _attest(each.box),
            }
            for each in judged
        ],
    }


def _attest(box: Box) -> dict[str, str] | None:
    return None if box.attest is None else {"what": box.attest.what, "by": box.attest.by}


def as_markdown(checklist: Checklist, section: str) -> str:
    """The boxes of a section and their proofs, for the documentation."""
    rows = tuple(
        (box.box, f"`{box.id}`", _proofs(box)) for box in checklist.boxes if box.section == section
    )
    return Table(section, ("Box", "Id", "Proven by"), rows).as_markdown()


def _proofs(box: Box) -> str:
    parts = [f"`{test.removeprefix('tests/')}`" for test in box.tests]
    parts += [f"`{command}`" for command in box.commands]
    if box.attest is not None:
        parts.append(f"**{box.attest.by}**: {box.attest.what}")
    return "<br>".join(parts)
