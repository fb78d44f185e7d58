"""What people attest of boxes, from a YAML file: by the box's id, who, when, with what result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from radgateway.config.bind import Binder
from radgateway.config.load import read_file
from radgateway.config.problems import Report, nearest
from radgateway.config.tree import note_places
from radgateway.readiness.checklist import Checklist
from radgateway.release.evidence import Attestation


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """All words that were given."""

    boxes: Mapping[str, Attestation] = field(default_factory=dict)


def load_attested(file: Path, checklist: Checklist) -> Mapping[str, Attestation]:
    """The words of a file, by box. Raises `ConfigError`, also for a box that there is not."""
    root = read_file(file)
    report = Report()
    note_places(root, report)
    attested = Binder(report).section(Attested, root)
    report.raise_if_any()
    assert isinstance(attested, Attested)
    known = {box.id: box for box in checklist.boxes}
    for id_, word in attested.boxes.items():
        if id_ not in known:
            report.add(("boxes", id_), f"unknown box{nearest(id_, known)}")
        elif not known[id_].needs_a_word:
            report.add(("boxes", id_), "is ticked by its tests alone: leave it out")
        elif word.result == "not_applicable":
            report.add(("boxes", id_, "result"), "must be passed or failed")
    report.raise_if_any()
    return attested.boxes
