"""What became of the secrets of a configuration: looked up again, and put in where they differ.

`env:` is not looked up: a process's variables stay as they were. What can't be read any more, or
can't be used, keeps its last value. So does what a running process can't follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from radgateway.config.problems import Path, dotted
from radgateway.config.references import Read, Unreadable, references_in, secret_of, with_text
from radgateway.config.restart import needing_restart
from radgateway.config.schema import GatewayConfig
from radgateway.config.secrets import Dsn, Secret, map_secrets


class LookedUp(NamedTuple):
    """What references gave."""

    texts: Mapping[str, str]
    faults: Mapping[str, str]
    """Why some gave nothing."""


class Rotation(NamedTuple):
    """A configuration with secrets as they are now."""

    config: GatewayConfig
    changed: tuple[str, ...]
    """Where another secret stands, as `keys[0].secret from file:/run/secrets/key`."""
    waiting: tuple[str, ...]
    """Where one would stand after a restart."""
    faults: Mapping[str, str]
    """Why some of the texts can't stand where they belong, by reference."""


def changing_references(config: GatewayConfig) -> frozenset[str]:
    """The references whose text may change while a process runs: all but those to variables."""
    return frozenset(r for r in references_in(config).values() if not r.startswith("env:"))


def looked_up(references: Iterable[str], read: Read) -> LookedUp:
    """What some references give now."""
    texts, faults = {}, {}
    for reference in references:
        try:
            texts[reference] = read(reference)
        except Unreadable as fault:
            faults[reference] = str(fault)
    return LookedUp(texts, faults)


def rotated(config: GatewayConfig, texts: Mapping[str, str]) -> Rotation:
    """The configuration with these texts, by reference, where they differ from those it has."""
    changed, waiting, faults = [], [], {}

    def renewed(value: Secret | Dsn, path: Path) -> Secret | Dsn:
        reference = secret_of(value).reference
        text = texts.get(reference or "")
        if reference is None or text is None or text == secret_of(value).reveal():
            return value
        try:
            new = with_text(value, text)
        except Unreadable as fault:
            faults[reference] = str(fault)
            return value
        where = f"{dotted(path)} from {reference}"
        if needing_restart([dotted(path)]):
            waiting.append(where)
            return value
        changed.append(where)
        return new

    made: GatewayConfig = map_secrets(config, (), renewed)
    return Rotation(made, tuple(changed), tuple(waiting), faults)


def held_back(config: GatewayConfig, current: GatewayConfig) -> tuple[GatewayConfig, list[str]]:
    """The configuration with the secrets that `current` has of the same references, where a
    running process can't take up others; and where others wait for a restart with that."""
    standing: dict[Path, Secret | Dsn] = {}
    waiting: list[str] = []

    def note(value: Secret | Dsn, path: Path) -> Secret | Dsn:
        if needing_restart([dotted(path)]):
            standing[path] = value
        return value

    def held(value: Secret | Dsn, path: Path) -> Secret | Dsn:
        stands = standing.get(path, value)
        reference = secret_of(value).reference
        if stands == value or reference is None or reference != secret_of(stands).reference:
            return value
        waiting.append(f"{dotted(path)} from {reference}")
        return stands

    map_secrets(current, (), note)
    made: GatewayConfig = map_secrets(config, (), held)
    return (made if waiting else config), waiting
