"""Prometheus's configuration: whom it asks, how often, by which rules, and whom it tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from radgateway.slo.rules import longest_days
from radgateway.slo.settings import Settings
from radgateway.slo.stack import ADDRESSES, filled

PATH: Final = "prometheus/prometheus.yml"
RULES: Final = "rules"
"""The folder of the rules, beside the configuration."""
SCRAPE_INTERVAL_S: Final = 15
"""Seconds between two scrapes; the data source of the dashboards has to know it."""

_TEXT: Final = """\
# Runs with --enable-feature=exemplar-storage, else the way from a latency to its trace is lost,
# and with --storage.tsdb.retention.time above ${LONGEST_DAYS}d, else a budget is that of less time.
global:
  scrape_interval: ${INTERVAL_S}s
  scrape_timeout: 10s
  evaluation_interval: ${INTERVAL_S}s
  external_labels:
    environment: staging   # where this is; alerts are grouped and silenced by it

rule_files: [$RULES/*.rules.yml, $RULES/*.alerts.yml]

alerting:
  alertmanagers:
    - static_configs:
        - targets: [$ALERTMANAGER]

scrape_configs:
  - job_name: $JOB
    metrics_path: /metrics
    # A replica more or less shows within seconds. Elsewhere: static_configs, or the platform's own.
    dns_sd_configs:
      - {names: [$GATEWAY_HOST], type: A, port: $GATEWAY_PORT, refresh_interval: 15s}
    # A label that runs wild fails this scrape, which an alert tells, and not all of Prometheus.
    sample_limit: 50000
    label_limit: 20
    body_size_limit: 32MB

  # What watches has to be watched as well.
  - job_name: prometheus
    static_configs: [{targets: [localhost:$PROMETHEUS_PORT]}]
  - job_name: alertmanager
    static_configs: [{targets: [$ALERTMANAGER]}]
  - job_name: collector
    static_configs: [{targets: [$COLLECTOR_METRICS]}]
  - job_name: loki
    static_configs: [{targets: [$LOKI]}]
  - job_name: tempo
    static_configs: [{targets: [$TEMPO]}]
  - job_name: grafana
    static_configs: [{targets: [$GRAFANA]}]
"""


def artefacts(settings: Settings) -> Mapping[str, str]:
    """The file: path below the output folder, and text."""
    text = filled(
        _TEXT,
        INTERVAL_S=SCRAPE_INTERVAL_S,
        RULES=RULES,
        GATEWAY_HOST=ADDRESSES["GATEWAY"].partition(":")[0],
        JOB=settings.job,
        LONGEST_DAYS=longest_days(settings),
    )
    return {PATH: text}
