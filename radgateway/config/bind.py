"""From a tree of values to the schema's objects, with every mistake noted on the way.

A value that is wrong is noted and left out, so its default stands in and the rest is still
checked. Nothing made from a tree with problems leaves the loader.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from radgateway.config.problems import Path, Report, nearest, shown
from radgateway.config.secrets import Dsn, Secret
from radgateway.config.shape import Key, Shape, keys_of
from radgateway.config.tree import Node, is_null

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,18}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?")
_TRUTH = {"true": True, "false": False}

_ABSENT: Final = object()
"""What a value that could not be made counts as."""


class Binder:
    """Makes objects of one tree."""

    def __init__(self, report: Report) -> None:
        self.literals: list[Path] = []
        """Where a secret stands as plain text."""
        self._report = report
        self._kept: dict[Path, list[int]] = {}

    def origin(self, path: Path) -> Path:
        """The path in the tree of what is at a path of the objects: lists lose unusable items."""
        there: Path = ()
        for step in path:
            kept = self._kept.get(there) if isinstance(step, int) else None
            there += (kept[step] if kept is not None and isinstance(step, int) else step,)
        return there

    def section(self, section: type[Any], node: Node, path: Path = (), base: Any = None) -> Any:
        """The object of a section, or `_ABSENT` where a required key is missing.

        A key that is left out is as in `base`, where there is one.
        """
        if is_null(node):
            node = Node({}, node.source, node.line)
        if not isinstance(node.value, dict):
            return self._wrong(path, f"must be a mapping of {_some(keys_of(section))}")
        known = keys_of(section)
        for name in node.value:
            if name not in known:
                self._report.add((*path, name), f"unknown key{nearest(name, known)}")
        values = {}
        for name, key in known.items():
            if name in node.value:
                at = (*path, name)
                if key.base is not None:
                    value = self.section(key.shape.type, node.value[name], at, key.base)
                else:
                    value = self._value(key.shape, node.value[name], at)
                if value is not _ABSENT:
                    values[name] = value
            elif base is not None:
                values[name] = getattr(base, name)
            elif key.required:
                self._report.add((*path, name), "is missing")
        return self._construct(section, known, values, path)

    def _construct(self, section: type[Any], known: Any, values: dict[str, Any], path: Path) -> Any:
        """Construct, dropping each value the class refuses until none is left to refuse."""
        while all(name in values for name, key in known.items() if key.required):
            try:
                return section(**values)
            except ValueError as error:
                # A schema's ValueError starts with the name of the field.
                field, _, message = str(error).partition(" ")
                if field not in values:
                    return self._wrong(path, str(error))
                self._report.add((*path, field), message)
                del values[field]
        return _ABSENT

    def _value(self, shape: Shape, node: Node, path: Path) -> Any:
        if is_null(node) and shape.optional:
            if node.value == "" and shape.kind == "section":
                # All its keys commented out: turning the thing off is not what was meant.
                return self._wrong(path, "is empty; write null to turn it off")
            return None
        return getattr(self, f"_{shape.kind}")(shape, node, path)

    def _section(self, shape: Shape, node: Node, path: Path) -> Any:
        return self.section(shape.type, node, path)

    def _mapping(self, shape: Shape, node: Node, path: Path) -> Any:
        assert shape.item is not None
        if is_null(node):
            return {}
        if not isinstance(node.value, dict):
            return self._wrong(path, "must be a mapping")
        made = {
            name: self._value(shape.item, item, (*path, name)) for name, item in node.value.items()
        }
        return {name: value for name, value in made.items() if value is not _ABSENT}

    def _list(self, shape: Shape, node: Node, path: Path) -> Any:
        assert shape.item is not None
        if is_null(node):
            return self._wrong(path, "is empty; write [] for none")
        if not isinstance(node.value, list):
            return self._wrong(path, "must be a list")
        made = {
            index: value
            for index, item in enumerate(node.value)
            if (value := self._value(shape.item, item, (*path, index))) is not _ABSENT
        }
        self._kept[path] = list(made)
        # With nothing left of what was given, "must hold at least one" would be a second complaint.
        return tuple(made.values()) if made or not node.value else _ABSENT

    def _choice(self, shape: Shape, node: Node, path: Path) -> Any:
        value = node.value
        if isinstance(value, str) and value.lower() in shape.choices:
            return value.lower()
        found = f", not {shown(value)!r}" if isinstance(value, str) else ""
        close = nearest(value, shape.choices) if isinstance(value, str) and value else ""
        hint = close if "did you mean" in close else ""
        return self._wrong(path, f"must be one of {', '.join(shape.choices)}{found}{hint}")

    def _scalar(self, shape: Shape, node: Node, path: Path) -> Any:
        if isinstance(node.value, dict | list):
            return self._wrong(path, f"must be {_WORDS[shape.type]}")
        if is_null(node):
            return self._wrong(path, "is empty")
        if shape.type is Secret or shape.type is Dsn:
            return self._secret(shape, node, path)
        value = _CONVERT[shape.type](node.value)
        if value is None:
            found = f", not {shown(str(node.value))!r}" if shape.type is not str else ""
            return self._wrong(path, f"must be {_WORDS[shape.type]}{found}")
        return value

    def _secret(self, shape: Shape, node: Node, path: Path) -> Any:
        """A secret or an address; its text is in no message, whatever is wrong with it."""
        value = node.value
        if isinstance(value, shape.type):
            return value
        if not isinstance(value, str):
            return self._wrong(path, f"must be {_WORDS[shape.type]}")
        if not value:
            return self._wrong(path, "is empty")
        secret = Secret.of(str(value))
        if shape.type is Dsn:
            if secret.reference is None and ("@" in value or "password=" in value):
                self.literals.append(path)  # an address with a password in it
            return Dsn(secret)
        if secret.reference is None:
            self.literals.append(path)
        return secret

    def _wrong(self, path: Path, message: str) -> Any:
        self._report.add(path, message)
        return _ABSENT


def _some(known: Any) -> str:
    names: list[str] = [key.name for key in known.values() if isinstance(key, Key)]
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str) else None


def _truth(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    return _TRUTH.get(value.lower()) if isinstance(value, str) else None


def _integer(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and _INTEGER.fullmatch(value) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _exact(value: object) -> Decimal | None:
    if _number(value) is None:
        return None
    return Decimal(str(value))


_CONVERT: dict[type, Callable[[object], Any]] = {
    str: _text,
    bool: _truth,
    int: _integer,
    float: _number,
    Decimal: _exact,
}
_WORDS: dict[type, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Decimal: "a number",
    Secret: "a secret: env:NAME, file:PATH or text",
    Dsn: "an address such as sqlite:///radgateway.db",
}
