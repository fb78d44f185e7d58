"""What became of a message that was to be sent."""

from __future__ import annotations

from typing import NamedTuple


class Delivered(NamedTuple):
    """It has arrived. `reference` is what the other side calls it."""

    reference: str | None = None


class Later(NamedTuple):
    """It may arrive another time, at the earliest after so many seconds."""

    reason: str
    after_s: float | None = None


class Refused(NamedTuple):
    """It never will."""

    reason: str


Outcome = Delivered | Later | Refused
