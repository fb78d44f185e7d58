"""Vulnerabilities that somebody has accepted, for a reason and until a day.

An entry that is over, or that reaches too far ahead, is an error: it would else be forgotten.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

MAX_DAYS: Final = 90
"""How far ahead `until` may be."""
_FIELDS: Final = {"id": str, "package": str, "reason": str, "until": date}


class Vulnerability(NamedTuple):
    """One that a scanner has found in a package."""

    package: str
    version: str
    ids: tuple[str, ...]
    """What it is called, aliases included; the first is the scanner's own."""
    severity: str = "unknown"
    fixed_in: tuple[str, ...] = ()

    def __str__(self) -> str:
        fixed = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no fix known"
        return f"{self.package} {self.version}: {' '.join(self.ids)} ({self.severity}, {fixed})"


class Accepted(NamedTuple):
    """An entry: this vulnerability in this package, until the end of that day."""

    id: str
    package: str
    reason: str
    until: date

    def covers(self, found: Vulnerability) -> bool:
        """Whether it is this one."""
        return self.package.lower() == found.package.lower() and self.id in found.ids


def load_accepted(file: Path, today: date) -> list[Accepted]:
    """The entries of a file. Raises `ValueError`: which entry, and what is wrong with it."""
    try:
        content = tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file.name}: {error}") from None
    if unknown := content.keys() - {"accepted"}:
        raise ValueError(f"{file.name}: {min(unknown)!r} is unknown; entries begin [[accepted]]")
    return [
        _entry(fields, f"{file.name}, entry {number}", today)
        for number, fields in enumerate(content.get("accepted", []), start=1)
    ]


def _entry(fields: dict[str, Any], where: str, today: date) -> Accepted:
    if fields.keys() != _FIELDS.keys():
        raise ValueError(f"{where}: it must have {', '.join(_FIELDS)} and nothing else")
    for name, kind in _FIELDS.items():
        if type(fields[name]) is not kind or not str(fields[name]).strip():
            raise ValueError(f"{where}: {name} must be a {kind.__name__}, and say something")
    entry = Accepted(**fields)
    if entry.until < today:
        raise ValueError(f"{where}: {entry.id} was accepted until {entry.until}; mend it now")
    if entry.until > today + timedelta(days=MAX_DAYS):
        raise ValueError(f"{where}: until is over {MAX_DAYS} days ahead; look at it sooner")
    return entry


def not_accepted(
    found: Sequence[Vulnerability], accepted: Sequence[Accepted]
) -> list[Vulnerability]:
    """Those that nobody has accepted."""
    return [each for each in found if not any(entry.covers(each) for entry in accepted)]
