"""What differs between two configurations, fit to be shown: paths with values, and no secret.

Keys and admin keys are told apart by their names, so that one that moved in its list has not
changed. Of a secret only its path is said, as even its reference may have stayed the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final, NamedTuple

from radgateway.config.problems import Path, dotted
from radgateway.config.schema import GatewayConfig
from radgateway.config.secrets import Dsn, Secret
from radgateway.config.show import plain

MOST: Final = 50
"""Changes that are listed; of further ones only their number is said."""
_VALUE_MAX: Final = 200
"""Characters of a value as JSON; of a longer one its beginning is shown."""
_ABSENT: Final = object()


class Change(NamedTuple):
    """One value that differs. Where it is a secret, or a file's content, nothing else is said."""

    path: str
    old: Any = None
    new: Any = None
    hidden: bool = False

    def shown(self) -> dict[str, Any]:
        """The same for JSON."""
        if self.hidden:
            return {"path": self.path, "changed": True}
        return {"path": self.path, "old": _bounded(self.old), "new": _bounded(self.new)}


class Diff(NamedTuple):
    """All that differs, in the order of the configuration."""

    changes: tuple[Change, ...] = ()

    def shown(self) -> dict[str, Any]:
        """The same for JSON, a long list cut."""
        listed = [change.shown() for change in self.changes[:MOST]]
        return {"changes": listed, "more": max(0, len(self.changes) - MOST)}

    @property
    def paths(self) -> list[str]:
        """Where something differs."""
        return [change.path for change in self.changes]


def differences(old: GatewayConfig, new: GatewayConfig) -> Diff:
    """What `new` changes, secrets included: they must have been read."""
    return Diff(tuple(_changes(old, new, ())))


def _changes(old: Any, new: Any, path: Path) -> Iterator[Change]:
    if old is new:
        return
    if type(old) is type(new) and not isinstance(old, Secret | Dsn):
        if is_dataclass(old):
            for field in fields(old):
                if not field.metadata.get("derived"):
                    was, becomes = getattr(old, field.name), getattr(new, field.name)
                    yield from _changes(was, becomes, (*path, field.name))
            return
        ours, theirs = _items(old), _items(new)
        if ours is not None and theirs is not None:
            for name in dict.fromkeys((*ours, *theirs)):
                was, becomes = ours.get(name, _ABSENT), theirs.get(name, _ABSENT)
                yield from _changes(was, becomes, (*path, name))
            return
    if old != new:
        yield _change(old, new, path)


def _items(value: Any) -> Mapping[Any, Any] | None:
    """The parts of a mapping or list that are compared one by one."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, tuple) or not all(map(is_dataclass, value)):
        return None
    if all(hasattr(item, "name") for item in value):
        return {item.name: item for item in value}
    return dict(enumerate(value))


def _change(old: Any, new: Any, path: Path) -> Change:
    if isinstance(old, Secret | Dsn) or isinstance(new, Secret | Dsn):
        return Change(dotted(path), hidden=True)
    was, becomes = (None if value is _ABSENT else plain(value) for value in (old, new))
    return Change(dotted(path), was, becomes)


def _bounded(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return value if len(text) <= _VALUE_MAX else text[: _VALUE_MAX - 1] + "…"
