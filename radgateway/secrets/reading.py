"""What a store answered, and when: the secrets of one or several of its folders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from radgateway.config.problems import nearest, shown
from radgateway.config.references import Unreadable

STORE: Final = "infisical:"
FOLDERS_MAX: Final = 16
"""Each folder is a request of its own at each reading."""
_NAME = re.compile(r"(?:(?P<folder>/[^/\s]+(?:/[^/\s]+)*|/)?/)?(?P<name>[^/\s]+)")


class SecretsUnavailable(Exception):
    """Secrets can't be had from where they are; the message is fit for a log."""


class Place:
    """Where in the store a reference points: `infisical:NAME` or `infisical:/folder/NAME`."""

    __slots__ = ("folder", "name")

    def __init__(self, reference: str, default_folder: str) -> None:
        """Raises `Unreadable` for what is not of that form."""
        parts = _NAME.fullmatch(reference.removeprefix(STORE))
        if parts is None:
            raise Unreadable("infisical: must be followed by NAME or /folder/NAME")
        rooted = reference.startswith(f"{STORE}/")
        self.folder = (parts["folder"] or "/") if rooted else default_folder
        self.name = parts["name"]


@dataclass(frozen=True, slots=True, repr=False)
class StoreReading:
    """The secrets of a store as they were at a moment. Prints none of them."""

    values: Mapping[str, Mapping[str, str]]
    """By folder, then by name."""
    read_at: float
    """Unix seconds."""
    stale: str = ""
    """Why there is no newer one; empty for one that the store has just given."""

    def text(self, reference: str, default_folder: str) -> str:
        """The text behind a reference. Raises `Unreadable`."""
        place = Place(reference, default_folder)
        known = self.values.get(place.folder)
        if known is None:
            raise Unreadable(f"the folder {shown(place.folder)} of the store is not known")
        text = known.get(place.name)
        if text is None:
            where = f"{shown(place.name)!r} in {shown(place.folder)}"
            hint = nearest(place.name, known)
            raise Unreadable(f"the store has no secret {where} that this identity may read{hint}")
        if not text:
            raise Unreadable(f"the secret {shown(place.name)!r} of the store is empty")
        return text

    def as_stale(self, reason: str) -> StoreReading:
        """The same, known not to be the newest."""
        return replace(self, stale=reason)

    def __repr__(self) -> str:
        names = sum(map(len, self.values.values()))
        return f"StoreReading({names} secrets, read_at={self.read_at:.0f})"


def folders_of(references: Iterable[str], default_folder: str) -> tuple[str, ...]:
    """The folders that references point into, sorted. Raises `Unreadable` for too many."""
    folders = set()
    for reference in references:
        try:
            folders.add(Place(reference, default_folder).folder)
        except Unreadable:
            continue  # said where it stands
    if len(folders) > FOLDERS_MAX:
        raise Unreadable(f"secrets of more than {FOLDERS_MAX} folders of the store are asked for")
    return tuple(sorted(folders))
