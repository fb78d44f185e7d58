"""YAML as text that is the same each time and reads well, for what the pack is made of.

Mappings, lists, texts, whole numbers and truths, and nothing else. Texts of several lines stand as
they are; one that YAML could take for something else is quoted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

Value = str | int | bool | Mapping[str, "Value"] | Sequence["Value"]

_PLAIN = re.compile(r"[A-Za-z/][\w./-]*|[1-9][0-9]*(?:ms|[smhdw])", re.ASCII)
_OTHERWISE: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
_BLOCK = re.compile(r"(?! )[ -~\xa1-\ud7ff]+(?:\n[ -~\xa1-\ud7ff]*)*\n(?! )[ -~\xa1-\ud7ff]+")
"""Several lines of printable characters, with none that a block would change."""


def to_yaml(value: Mapping[str, Value]) -> str:
    """A mapping as a document, its keys in their order."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Mapping[str, Value] | Sequence[Value]) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _entry(f"{_text(key)}:", item, "  ")
        return
    for item in value:
        if isinstance(item, Mapping | list | tuple) and item:
            first, *rest = _lines(item)
            yield f"- {first}"
            yield from (f"  {line}" if line else "" for line in rest)
        else:
            yield from _entry("-", item, "  ")


def _entry(head: str, value: Value, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping | list | tuple):
        if not value:
            yield f"{head} {'{}' if isinstance(value, Mapping) else '[]'}"
            return
        yield head
        yield from (f"{indent}{line}" if line else "" for line in _lines(value))
    elif isinstance(value, str) and _BLOCK.fullmatch(value):
        yield f"{head} |-"
        yield from (f"{indent}{line}" if line else "" for line in value.split("\n"))
    else:
        yield f"{head} {_scalar(value)}"


def _scalar(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    assert isinstance(value, str)
    return _text(value)


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value) and value.lower() not in _OTHERWISE:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
