"""What a PromQL expression asks for, read from its syntax tree."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import promql_parser

VARIABLES = {
    "$__rate_interval": "2m",
    "$__range": "6h",
    "$__auto": "1m",
    "$__interval": "1m",
}
"""Grafana's own variables, and values they might have."""


@dataclass
class Asked:
    """One selector of an expression, and what stands around it."""

    name: str
    matchers: dict[str, str]
    window: str = ""
    """Its range in seconds, empty for an instant."""
    within: list[str] = field(default_factory=list)
    """Functions and aggregations around it, the nearest last."""


def plain(expression: str) -> str:
    """The expression as Prometheus gets it, with every variable replaced."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return re.sub(r'"\$\w+"', '".+"', expression)


def asked(expression: str) -> list[Asked]:
    """Every selector in it. Raises `ValueError` where it is no PromQL."""
    found: list[Asked] = []
    _walk(promql_parser.parse(plain(expression)), [], found)
    return found


def _walk(node: Any, within: list[str], found: list[Asked]) -> None:
    if isinstance(node, promql_parser.MatrixSelector):
        seconds = f"{node.range.total_seconds():g}"
        found.append(_selector(node.vector_selector, within, seconds))
    elif isinstance(node, promql_parser.VectorSelector):
        found.append(_selector(node, within, ""))
    elif isinstance(node, promql_parser.BinaryExpr):
        _walk(node.lhs, within, found)
        _walk(node.rhs, within, found)
    elif isinstance(node, promql_parser.Call):
        for argument in node.args:
            _walk(argument, [*within, node.func.name], found)
    elif isinstance(node, promql_parser.AggregateExpr):
        _walk(node.expr, [*within, str(node.op)], found)
    elif isinstance(node, promql_parser.ParenExpr | promql_parser.UnaryExpr):
        _walk(node.expr, within, found)
    elif not isinstance(node, promql_parser.NumberLiteral | promql_parser.StringLiteral):
        raise TypeError(f"a kind of expression that is not read here: {type(node).__name__}")


def _selector(node: Any, within: list[str], window: str) -> Asked:
    matchers = {matcher.name: matcher.value for matcher in node.matchers.matchers}
    return Asked(node.name, matchers, window, within)
