"""Unit tests of the rules, in the form of `promtool test rules`.

What is expected is written out with the words as Prometheus has to render them, so a label that a
template misspells fails too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Final, NamedTuple

from radgateway.slo.alert import Alert
from radgateway.slo.settings import Settings
from radgateway.slo.yaml_text import Value

_LABEL = re.compile(r"\{\{ \$labels\.(\w+) \}\}")
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Series(NamedTuple):
    """Samples of one series, one a minute, in promtool's notation."""

    series: str
    values: str


class Fired(NamedTuple):
    """An alert that is expected to fire."""

    labels: Mapping[str, str]
    """Those it has from its expression."""
    value: Decimal = Decimal()
    """What its expression comes to."""
    rule: Mapping[str, str] = _NONE
    """Labels of the rule that is meant, where several have the name."""


class Check(NamedTuple):
    """Which alerts fire at some time; none is silence."""

    at: str
    fired: tuple[Fired, ...] = ()


class Sample(NamedTuple):
    """The whole number that an expression comes to at some time."""

    at: str
    expr: str
    labels: str
    """As promtool writes a series."""
    value: int | None
    """None where nothing may come of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test: what is measured, and what has to come of it."""

    name: str
    series: tuple[Series, ...] = ()
    alert: str = ""
    checks: tuple[Check, ...] = ()
    samples: tuple[Sample, ...] = ()


class Suite(NamedTuple):
    """A file of cases, whose rules are evaluated at an interval."""

    name: str
    interval: str
    cases: tuple[Case, ...]

    def as_yaml(
        self, alerts: Iterable[Alert], order: Iterable[str], settings: Settings
    ) -> dict[str, Value]:
        """As a file for promtool; `order` has the names of the groups as they need each other."""
        rules = tuple(alerts)
        return {
            "rule_files": ["../rules/radgateway.rules.yml", "../rules/radgateway.alerts.yml"],
            "evaluation_interval": self.interval,
            "group_eval_order": list(order),
            "tests": [_test(case, rules, settings) for case in self.cases],
        }


def _test(case: Case, alerts: tuple[Alert, ...], settings: Settings) -> Value:
    made: dict[str, Value] = {
        "name": case.name,
        "interval": "1m",
        "input_series": [{"series": each.series, "values": each.values} for each in case.series],
    }
    if case.checks:
        rules = [alert for alert in alerts if alert.name == case.alert]
        made["alert_rule_test"] = [
            {
                "eval_time": check.at,
                "alertname": case.alert,
                "exp_alerts": [_expected(fired, rules, settings) for fired in check.fired],
            }
            for check in case.checks
        ]
    if case.samples:
        made["promql_expr_test"] = [_expression(sample) for sample in case.samples]
    return made


def _expression(sample: Sample) -> Value:
    expected: list[Value] = []
    if sample.value is not None:
        expected = [{"labels": sample.labels, "value": sample.value}]
    return {"expr": sample.expr, "eval_time": sample.at, "exp_samples": expected}


def _expected(fired: Fired, rules: list[Alert], settings: Settings) -> Value:
    (rule,) = (each for each in rules if fired.rule.items() <= each.labels.items())
    words = {name: _rendered(text, fired) for name, text in rule.annotations(settings).items()}
    return {"exp_labels": {**rule.labels, **fired.labels}, "exp_annotations": words}


def _rendered(text: str, fired: Fired) -> str:
    """A template of an annotation as Prometheus renders it."""
    text = _LABEL.sub(lambda found: fired.labels[found[1]], text)
    value = float(fired.value)
    return (
        text.replace("{{ $value | humanizePercentage }}", f"{value * 100:.4g}%")
        .replace('{{ $value | printf "%.2f" }}', f"{value:.2f}")
        .replace('{{ $value | printf "%.4f" }}', f"{value:.4f}")
        .replace("{{ $value }}", f"{value:g}")
    )


def without_data(*names: str) -> Iterator[Case]:
    """Alerts on what is not measured are silent; that nothing is measured has its own."""
    for name in names:
        yield Case(name=f"{name}: without data it is silent", alert=name, checks=(Check("20m"),))
