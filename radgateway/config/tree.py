"""A configuration as read, before anything is known of its meaning: values and their places.

YAML is read from the parser's events, not through a constructor: no object is built from a tag,
no alias is followed, depth and size are bounded, a key given twice is an error, and a plain scalar
keeps its text, so that `no` may be a name and `1.10` a version. What it means is decided by the
schema's type at its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from radgateway.config.problems import Path, Report, shown
from radgateway.config.secrets import Dsn, Secret

MAX_BYTES = 1024 * 1024
"""A file larger than this is not a configuration."""
MAX_DEPTH = 24

Scalar = str | int | float | bool | Decimal | Secret | Dsn | None


class Plain(str):
    """An unquoted scalar of a file, which may mean null, a number or a truth value."""

    __slots__ = ()


@dataclass(slots=True)
class Node:
    """One value and where it came from."""

    value: Scalar | dict[str, Node] | list[Node]
    source: str = ""
    line: int | None = None


def is_null(node: Node) -> bool:
    """Whether a value is null, written out or by an empty place."""
    value = node.value
    return value is None or (
        isinstance(value, Plain) and value in ("", "~", "null", "Null", "NULL")
    )


def merge(below: Node, above: Node) -> Node:
    """One tree over another: mappings by key, everything else replaced."""
    if not isinstance(below.value, dict) or not isinstance(above.value, dict):
        return above
    merged = dict(below.value)
    for key, node in above.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return Node(merged, above.source, above.line)


def note_places(node: Node, report: Report, path: Path = ()) -> None:
    """Tell a report where every value of a tree came from."""
    report.places[path] = (node.source, node.line)
    if isinstance(node.value, dict):
        for key, item in node.value.items():
            note_places(item, report, (*path, key))
    elif isinstance(node.value, list):
        for index, item in enumerate(node.value):
            note_places(item, report, (*path, index))


def from_values(value: Any, report: Report, source: str = "", path: Path = ()) -> Node:
    """The tree of Python values, as a caller passes them in code."""
    if value is None or isinstance(value, str | int | float | Decimal | Secret | Dsn):
        return Node(value, source)
    if len(path) >= MAX_DEPTH:
        report.add(path, f"is nested deeper than {MAX_DEPTH} levels")
    elif isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return Node(
                {key: from_values(v, report, source, (*path, key)) for key, v in value.items()},
                source,
            )
        report.add(path, "must have text for keys")
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return Node(
            [from_values(v, report, source, (*path, i)) for i, v in enumerate(value)], source
        )
    else:
        report.add(path, f"can't be a {type(value).__name__}")
    return Node({}, source)


class NotYaml(ValueError):
    """The text can't be read; `line` is where, from 1. The message quotes nothing of the text."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def parse_yaml(text: str, source: str, *, first_line: int | None = 1) -> Node:
    """The tree of a YAML (or JSON) text. Raises `NotYaml`, or ImportError without PyYAML.

    `first_line` None leaves lines out, for texts that are no files.
    """
    import yaml  # noqa: PLC0415 - an extra: a gateway configured in code does without

    if len(text) > MAX_BYTES:
        raise NotYaml(f"is larger than {MAX_BYTES} bytes")
    builder = _Builder(source, first_line)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + first_line if mark is not None and first_line is not None else None
        # The parser quotes what it stumbled over, which may be part of a secret.
        problem = re.sub(r"(['\"]).{2,}\1", "…", error.problem or "can't be read")
        raise NotYaml(f"is not YAML: {problem}", line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + first_line if first_line is not None else None
        raise NotYaml("is not YAML: it holds a control character", line) from None
    except (OverflowError, ValueError) as error:
        if isinstance(error, NotYaml):
            raise
        # PyYAML hands an escape beyond Unicode (`"\\U99999999"`) to chr() unlooked at.
        raise NotYaml("is not YAML: an escape stands for no character") from None
    return builder.root or Node(Plain(""), source, first_line)


class _Builder:
    """Puts a stream of YAML events together, refusing what a configuration has no use for."""

    def __init__(self, source: str, first_line: int | None) -> None:
        self.root: Node | None = None
        self._source = source
        self._first_line = first_line
        self._open: list[Node] = []
        self._keys: list[str | None] = []

    def take(self, event: Any) -> None:
        """Add what one event says."""
        mark = event.start_mark
        line = mark.line + self._first_line if self._first_line is not None else None
        name = type(event).__name__
        if name == "AliasEvent" or getattr(event, "anchor", None) is not None:
            raise NotYaml("anchors and aliases are not supported; quote a value with * or &", line)
        if getattr(event, "tag", None) is not None:
            raise NotYaml("tags are not supported; quote a value that begins with !", line)
        if name == "ScalarEvent":
            self._scalar(event, line)
        elif name in ("MappingStartEvent", "SequenceStartEvent"):
            if len(self._open) >= MAX_DEPTH:
                raise NotYaml(f"is nested deeper than {MAX_DEPTH} levels", line)
            node = Node({} if name == "MappingStartEvent" else [], self._source, line)
            self._place(node, line)
            self._open.append(node)
            self._keys.append(None)
        elif name in ("MappingEndEvent", "SequenceEndEvent"):
            self._open.pop()
            self._keys.pop()
        elif name == "DocumentStartEvent" and self.root is not None:
            raise NotYaml("holds a second document", line)

    def _scalar(self, event: Any, line: int | None) -> None:
        text: str = event.value if event.style is not None else Plain(event.value)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise NotYaml("is not YAML: an escape stands for no character", line)
        if self._open and isinstance(self._open[-1].value, dict) and self._keys[-1] is None:
            if text in self._open[-1].value:
                raise NotYaml(f"the key {shown(text)!r} is given twice", line)
            self._keys[-1] = str(text)
            return
        self._place(Node(text, self._source, line), line)

    def _place(self, node: Node, line: int | None) -> None:
        if not self._open:
            self.root = node
            return
        parent = self._open[-1].value
        if isinstance(parent, list):
            parent.append(node)
        elif isinstance(parent, dict):
            key = self._keys[-1]
            if key is None:
                raise NotYaml("a key must be text", line)
            parent[key] = node
            self._keys[-1] = None
