"""What labels a query's result has, worked out from the declarations of what it reads.

A label that is grouped by, matched on or selected, and that no series has, is a mistake that
Prometheus itself never reports: the query is valid, and finds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import promql_parser as promql

from radgateway.telemetry.declared import METRICS

TARGET = frozenset({"job", "instance"})
"""What a scrape adds to each series."""
FOREIGN = {
    "up": TARGET,
    "process_resident_memory_bytes": TARGET,
    "prometheus_rule_evaluation_failures_total": TARGET | {"rule_group"},
    "prometheus_rule_group_iterations_missed_total": TARGET | {"rule_group"},
}
"""Metrics of Prometheus itself and of the Python client library."""
Labels = frozenset[str]
SCALAR: Labels = frozenset({"(scalar)"})
"""What a number has instead of labels."""


def measured() -> dict[str, Labels]:
    """Every series a gateway's scrape has, with its labels."""
    found = dict(FOREIGN)
    for metric in METRICS.values():
        labels = TARGET | set(metric.labels)
        if metric.kind == "histogram":
            found[f"{metric.name}_bucket"] = labels | {"le"}
            found[f"{metric.name}_count"] = found[f"{metric.name}_sum"] = labels
        else:
            found[metric.name] = labels
    return found


def labels_of(query: str, known: Mapping[str, Labels]) -> Labels:
    """The labels of a query's result. Raises `AssertionError` for one that nothing has."""
    return _labels(promql.parse(query), known)


def _labels(expr: promql.Expr, known: Mapping[str, Labels]) -> Labels:
    if isinstance(expr, promql.VectorSelector):
        return _selected(expr, known)
    if isinstance(expr, promql.MatrixSelector):
        return _selected(expr.vector_selector, known)
    if isinstance(expr, promql.ParenExpr | promql.UnaryExpr | promql.SubqueryExpr):
        return _labels(expr.expr, known)
    if isinstance(expr, promql.AggregateExpr):
        inner = _labels(expr.expr, known)
        assert expr.modifier is not None, f"{expr.prettify()} loses the job"
        by = frozenset(expr.modifier.labels)
        assert by <= inner, f"{sorted(by - inner)} in {expr.prettify()}"
        return by
    if isinstance(expr, promql.Call):
        return _called(expr, known)
    if isinstance(expr, promql.BinaryExpr):
        return _joined(expr, known)
    assert isinstance(expr, promql.NumberLiteral), expr.prettify()
    return SCALAR


def _selected(selector: promql.VectorSelector, known: Mapping[str, Labels]) -> Labels:
    assert selector.name is not None
    assert selector.name in known, f"nobody makes {selector.name}"
    labels = known[selector.name]
    for matcher in selector.matchers.matchers:
        assert matcher.name in labels, f"{selector.name} has no label {matcher.name}"
    return labels


def _called(call: promql.Call, known: Mapping[str, Labels]) -> Labels:
    inner = [_labels(argument, known) for argument in call.args]
    name = call.func.name
    if name == "absent":
        (selector,) = call.args
        assert isinstance(selector, promql.VectorSelector)
        return frozenset(matcher.name for matcher in selector.matchers.matchers)
    labels = frozenset[str]().union(*(each for each in inner if each is not SCALAR))
    if name == "histogram_quantile":
        assert "le" in labels, f"{call.prettify()} has no buckets"
        return labels - {"le"}
    return labels


def _joined(pair: promql.BinaryExpr, known: Mapping[str, Labels]) -> Labels:
    left, right = _labels(pair.lhs, known), _labels(pair.rhs, known)
    if SCALAR in (left, right):
        return right if left is SCALAR else left
    matching = pair.modifier.matching if pair.modifier is not None else None
    if matching is None:
        # A series finds its partner by all of its labels.
        assert left == right, f"{sorted(left ^ right)} in {pair.prettify()}"
        return left
    on = frozenset(matching.labels)
    assert on <= left, f"{sorted(on - left)} on the left of {pair.prettify()}"
    assert on <= right, f"{sorted(on - right)} on the right of {pair.prettify()}"
    if re.fullmatch(r"and|unless|or|[<>=!]=?", str(pair.op).strip()):
        return left
    return on
