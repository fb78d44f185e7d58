"""Pins of a requirements file, for a scanner that only looks at those of its own machine.

The file is for all platforms and versions of Python; the scanner leaves out what a marker excludes
where it runs. So the markers go, and a package with several pins is spread over several rounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)")
_HASH = re.compile(r"--hash=\S+")


class Pin(NamedTuple):
    """A package at a version, with the hashes of its files."""

    name: str
    version: str
    hashes: tuple[str, ...]

    @property
    def line(self) -> str:
        """The same for a requirements file."""
        return " ".join((f"{self.name}=={self.version}", *self.hashes))


def read_pins(text: str) -> list[Pin]:
    """All pins of a file. Raises `ValueError` for a line that is none, and where there are none."""
    joined = re.sub(r"\\\n", " ", text)
    pins = [_pin(line) for line in joined.splitlines() if line.split("#", 1)[0].strip()]
    if not pins:
        raise ValueError("it pins nothing")
    return pins


def _pin(line: str) -> Pin:
    found, hashes = _PIN.match(line), tuple(_HASH.findall(line))
    if found is None or not hashes:
        raise ValueError(f"not a pin with a hash: {line.strip()[:80]!r}")
    return Pin(found[1], found[2], hashes)


def rounds(pins: Iterable[Pin]) -> list[list[Pin]]:
    """The same pins, in lists of which none has a package twice."""
    lists: list[dict[str, Pin]] = []
    for pin in dict.fromkeys(pins):
        for each in lists:
            if each.get(pin.name, pin).version == pin.version:
                each[pin.name] = pin
                break
        else:
            lists.append({pin.name: pin})
    return [list(each.values()) for each in lists]
