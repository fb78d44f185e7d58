"""All files of the pack, by their path below the folder it is written to."""

from __future__ import annotations

from collections.abc import Mapping

from radgateway.slo import (
    alert_cases,
    burn_cases,
    collector,
    compose,
    dashboards,
    grafana,
    loki,
    prometheus,
    record_cases,
    tempo,
)
from radgateway.slo.alerts import ALERTS_GROUP, alerting_group, alerts
from radgateway.slo.routing import alertmanager
from radgateway.slo.rules import groups
from radgateway.slo.settings import Settings
from radgateway.slo.stack import GENERATED
from radgateway.slo.templates import TEMPLATES
from radgateway.slo.yaml_text import Value, to_yaml


def artefacts(settings: Settings | None = None) -> Mapping[str, str]:
    """The text of each file. Pure: the same settings make the same bytes."""
    settings = settings or Settings()
    records = groups(settings)
    rules = alerts(settings)
    order = [*(group.name for group in records), ALERTS_GROUP]
    made = {
        "prometheus/rules/radgateway.rules.yml": _document(
            {"groups": [group.as_yaml() for group in records]}
        ),
        "prometheus/rules/radgateway.alerts.yml": _document({"groups": [alerting_group(settings)]}),
        "alertmanager/alertmanager.yml": _document(alertmanager(settings)),
        "alertmanager/templates/radgateway.tmpl": f"{{{{/* {GENERATED} */}}}}\n{TEMPLATES}",
    }
    for suite in (
        alert_cases.suite(settings),
        *burn_cases.suites(settings),
        record_cases.suite(settings),
    ):
        name = f"prometheus/tests/{suite.name}.test.yml"
        made[name] = _document(suite.as_yaml(rules, order, settings))
    return {
        **made,
        **collector.artefacts(),
        **compose.artefacts(settings),
        **dashboards.artefacts(settings),
        **grafana.artefacts(),
        **loki.artefacts(),
        **prometheus.artefacts(settings),
        **tempo.artefacts(),
    }


def _document(value: Mapping[str, Value]) -> str:
    return f"# {GENERATED}\n{to_yaml(value)}"
