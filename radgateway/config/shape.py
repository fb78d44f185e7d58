"""What may stand where: the schema's type hints as data, for whoever walks the configuration.

The file's reader, the environment's, and the printer all go by these shapes, so a field added to
the schema is known to each of them at once.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Kind = Literal["section", "mapping", "list", "choice", "scalar"]


@dataclass(frozen=True, slots=True)
class Shape:
    """The form of one value."""

    kind: Kind
    type: type[Any]
    """The dataclass of a section, the type of a scalar."""
    optional: bool = False
    """Whether null is a value."""
    item: Shape | None = None
    """The form of a list's or mapping's items."""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a section."""

    name: str
    shape: Shape
    required: bool
    base: Any = None
    """Of a section whose default is an object: what is not said of it is as there."""


def keys_of(section: type[Any]) -> Mapping[str, Key]:
    """The keys of a section, in their order; fields found while loading are none."""
    hashable: Any = section
    return _keys_of(hashable)


@functools.cache
def _keys_of(section: Any) -> Mapping[str, Key]:
    hints = get_type_hints(section)
    return {
        field.name: Key(
            field.name,
            shape_of(hints[field.name]),
            field.default is MISSING and field.default_factory is MISSING,
            field.default if is_dataclass(field.default) else None,
        )
        for field in fields(section)
        if not field.metadata.get("derived")
    }


def shape_of(hint: Any) -> Shape:
    """The shape a type hint of the schema stands for."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, Union):
        rest = [argument for argument in arguments if argument is not type(None)]
        inner = shape_of(rest[0])
        return Shape(inner.kind, inner.type, True, inner.item, inner.choices)
    if origin is Literal:
        return Shape("choice", str, choices=arguments)
    if origin is tuple:
        return Shape("list", tuple, item=shape_of(arguments[0]))
    if origin is Mapping:
        return Shape("mapping", dict, item=shape_of(arguments[1]))
    if isinstance(hint, type) and is_dataclass(hint):
        return Shape("section", hint)
    return Shape("scalar", hint)
