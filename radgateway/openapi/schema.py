"""The few forms that schemas are written in (JSON Schema 2020-12, which OpenAPI 3.1 uses)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
NUMBER: Final[Schema] = {"type": "number"}
TRUTH: Final[Schema] = {"type": "boolean"}
MOMENT: Final[Schema] = {"type": "string", "format": "date-time"}
RATIO: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1}
DECIMAL: Final[Schema] = {
    "type": "string",
    "pattern": r"^-?[0-9]+(\.[0-9]+)?$",
    "description": "An exact decimal.",
}


def ref(name: str) -> Schema:
    """What `components.schemas` has by a name."""
    return {"$ref": f"#/components/schemas/{name}"}


def or_null(schema: Schema, description: str = "") -> Schema:
    """What may also be unknown."""
    made: Schema = (
        schema | {"type": [schema["type"], "null"]}
        if isinstance(schema.get("type"), str) and "enum" not in schema
        else {"anyOf": [schema, {"type": "null"}]}
    )
    return made | ({"description": description} if description else {})


def said(schema: Schema, description: str) -> Schema:
    """A schema with what it means."""
    return schema | {"description": description}


def words(known: Iterable[str], description: str = "") -> Schema:
    """One of some texts."""
    made: Schema = {"type": "string", "enum": list(known)}
    return made | ({"description": description} if description else {})


def listed(item: Schema) -> Schema:
    """Any number of the same."""
    return {"type": "array", "items": item}


def mapped(value: Schema) -> Schema:
    """Values by names that are not known beforehand."""
    return {"type": "object", "additionalProperties": value}


def record(
    properties: dict[str, Schema], *, optional: Iterable[str] = (), description: str = ""
) -> Schema:
    """An object. All of its fields are always there, save those that are optional."""
    left_out = set(optional)
    made: Schema = {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in left_out],
    }
    return made | ({"description": description} if description else {})


def table(item: Schema, more: dict[str, Schema] | None = None) -> Schema:
    """What all lists of the management API are in."""
    total = said(COUNT, "How many `data` has.")
    return record({"data": listed(item), "total": total, **(more or {})})
