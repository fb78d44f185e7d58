"""What labels a query's result has, worked out from the declarations of what it reads.

A label that is grouped by, matched on or selected, and that no series has, is a mistake that
Prometheus itself never reports: the query is valid, and finds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import promql_parser as promql

from radgateway.slo.dashboards.promql import FOREIGN
from radgateway.slo.dashboards.promql import TARGET_LABELS as TARGET
from radgateway.slo.rules import groups
from radgateway.slo.settings import Settings
from radgateway.telemetry.declared import METRICS

WATCHED = {
    "prometheus_rule_evaluation_failures_total": TARGET | {"rule_group"},
    "prometheus_rule_group_iterations_missed_total": TARGET | {"rule_group"},
}
"""Metrics of Prometheus itself, which the alerts on it ask for."""
Labels = frozenset[str]
SCALAR: Labels = frozenset({"(scalar)"})
"""What a number has instead of labels."""


def measured() -> dict[str, Labels]:
    """Every series a gateway's scrape has, with its labels."""
    found = {**FOREIGN, **WATCHED}
    for metric in METRICS.values():
        labels = TARGET | set(metric.labels)
        if metric.kind == "histogram":
            found[f"{metric.name}_bucket"] = labels | {"le"}
            found[f"{metric.name}_count"] = found[f"{metric.name}_sum"] = labels
        else:
            found[metric.name] = labels
    return found


def known_to(settings: Settings) -> dict[str, Labels]:
    """Everything a query may read: what is scraped, and what is recorded from it, in order."""
    known = measured()
    for group in groups(settings):
        for record in group.records:
            labels = labels_of(record.expr, known) | set(record.labels)
            assert known.get(record.name, labels) == labels, record.name
            known[record.name] = labels
    return known


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
        if str(expr.op) in ("topk", "bottomk"):
            return inner
        by = frozenset(expr.modifier.labels if expr.modifier is not None else ())
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
    if name == "time":
        return SCALAR
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
    modifier = pair.modifier
    if modifier is None or modifier.matching is None:
        # A series finds its partner by all of its labels.
        assert left == right, f"{sorted(left ^ right)} in {pair.prettify()}"
        return left
    on = frozenset(modifier.matching.labels)
    if modifier.matching.type == promql.LabelModifierType.Exclude:
        assert on <= left | right, f"{sorted(on - left - right)} in {pair.prettify()}"
        on = (left | right) - on
    assert on <= left, f"{sorted(on - left)} on the left of {pair.prettify()}"
    assert on <= right, f"{sorted(on - right)} on the right of {pair.prettify()}"
    if modifier.card == promql.VectorMatchCardinality.ManyToOne:
        return left | set(modifier.group_labels or ())
    if re.fullmatch(r"and|unless|or|[<>=!]=?", str(pair.op).strip()):
        return left
    return on
