"""Kinds of releases: how often, what for, and who approves (the strategy's 9.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Type = Literal["hotfix", "patch", "minor", "major"]
Role = Literal["release_manager", "sre_lead", "product", "engineering", "executive"]


class ReleaseType(NamedTuple):
    """One kind."""

    cadence: str
    criteria: str
    approvals: tuple[Role, ...]
    """Each of another person."""


TYPES: Final[Mapping[Type, ReleaseType]] = {
    "hotfix": ReleaseType(
        "as needed", "critical bug or security issue", ("release_manager", "sre_lead")
    ),
    "patch": ReleaseType("weekly", "bug fixes, minor improvements", ("release_manager",)),
    "minor": ReleaseType(
        "every two weeks", "new features, backward compatible", ("product", "engineering")
    ),
    "major": ReleaseType("quarterly", "breaking changes, major milestones", ("executive",)),
}
