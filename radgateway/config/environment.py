"""Every key from the environment: `RADGATEWAY_` and the path joined by `__`.

`RADGATEWAY_SERVER__PORT=80`, `RADGATEWAY_KEYS__0__SECRET=…`, `RADGATEWAY_KEYS=[{"name": …}]`.
Names of models and providers match without case, and `_` stands for any of `-._/:@`, which shells
don't allow in a name. A scalar is taken as it stands, so a secret needs no quotes; a list or a
mapping is YAML or JSON. A list replaces the file's, a mapping is merged into it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from radgateway.config.problems import Report, nearest, shown
from radgateway.config.shape import Shape, keys_of
from radgateway.config.tree import Node, NotYaml, Plain, is_null, merge, parse_yaml

PREFIX = "RADGATEWAY_"
RESERVED = frozenset({"RADGATEWAY_CONFIG"})
"""Variables with the prefix that name no key: the file to read."""

_SERVICE_LINK = re.compile(
    r"RADGATEWAY_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""What Kubernetes sets in every pod of a namespace with a Service named `radgateway`
(its documentation, "Service: environment variables"); none of it is meant for us."""


def overlay(root: Node, section: type[Any], environ: Mapping[str, str], report: Report) -> None:
    """Set in a tree of `section` what the environment says. An empty variable says nothing."""
    names = [name for name in environ if name.startswith(PREFIX) and environ[name]]
    for name in sorted(names, key=_order):
        if name not in RESERVED and not _SERVICE_LINK.fullmatch(name):
            # A problem with a variable is reported at it.
            report.places[(name,)] = ("environment", None)
            fault = _set(root, Shape("section", section), name, environ[name])
            if fault:
                report.add((name,), fault)


def _order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Wholes before their parts, list items by number."""
    steps = name.split("__")
    return tuple((1, int(s), "") if _is_index(s) else (0, 0, s) for s in steps)


def _is_index(step: str) -> bool:
    return step.isascii() and step.isdigit() and len(step) <= 4


def _set(root: Node, shape: Shape, variable: str, text: str) -> str | None:
    """Put one variable's value in its place; or say why it has none."""
    steps = variable[len(PREFIX) :].split("__")
    node = root
    for position, step in enumerate(steps):
        found = _step(node, shape, step)
        if isinstance(found, str):
            return found
        shape, container, key = found
        if position == len(steps) - 1:
            try:
                value = _read(shape, text, variable)
            except NotYaml as error:
                return str(error)
            old = _get(container, key)
            _put(container, key, merge(old, value) if old is not None else value)
            return None
        child = _get(container, key)
        if child is None or is_null(child):
            child = Node([] if shape.kind == "list" else {}, variable)
            _put(container, key, child)
        node = child
    return None


Container = dict[str, Node] | list[Node]
Place = tuple[Shape, Container, str | int]
"""The shape that belongs somewhere, and the container and key that hold it."""


def _step(node: Node, shape: Shape, step: str) -> Place | str:
    """Where one step of a path leads, or why it leads nowhere."""
    value = node.value
    if shape.kind in ("section", "mapping"):
        if not isinstance(value, dict):
            return _MISFIT
        return (_key if shape.kind == "section" else _name)(value, shape, step)
    if shape.kind == "list" and shape.item is not None:
        if not isinstance(value, list):
            return _MISFIT
        if not _is_index(step) or int(step) > len(value):
            return f"{shown(step)!r} is no index of a list with {len(value)} items"
        return shape.item, value, int(step)
    return f"there is nothing below it at {shown(step)!r}"


def _key(value: dict[str, Node], shape: Shape, step: str) -> Place | str:
    known = keys_of(shape.type)
    name = step.lower()
    if name not in known:
        return f"there is no key {shown(name)!r}{nearest(name, known)}"
    return known[name].shape, value, name


def _name(value: dict[str, Node], shape: Shape, step: str) -> Place | str:
    assert shape.item is not None
    matches = [key for key in value if _folded(key) == _folded(step)]
    if len(matches) > 1:
        return f"{shown(step)!r} fits more than one name: {', '.join(map(shown, matches))}"
    if not step:
        return "a name is missing between two __"
    return shape.item, value, matches[0] if matches else step.lower()


_MISFIT = "can't be set: what the file has above it is of another form"


def _folded(name: str) -> str:
    return re.sub(r"[-._/:@ ]", "_", name).lower()


def _read(shape: Shape, text: str, variable: str) -> Node:
    if shape.kind in ("scalar", "choice"):
        # As it stands: `#`, `:` and `*` mean something in YAML and nothing in a secret.
        return Node(Plain(text) if shape.optional else text, variable)
    return parse_yaml(text, variable, first_line=None)


def _get(container: Container, key: str | int) -> Node | None:
    if isinstance(container, list):
        index = int(key)
        return container[index] if index < len(container) else None
    return container.get(str(key))


def _put(container: Container, key: str | int, node: Node) -> None:
    if isinstance(container, list):
        index = int(key)
        if index == len(container):
            container.append(node)
        else:
            container[index] = node
    else:
        container[str(key)] = node
