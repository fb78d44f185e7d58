"""Grafana's provisioning: its data sources, the ways between them, and where the dashboards lie.

A point on a latency panel leads to its trace, a line of the log to its trace, a span to the lines
of its trace and to the rate of its route.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from radgateway.slo.prometheus import SCRAPE_INTERVAL_S
from radgateway.slo.stack import filled
from radgateway.telemetry.logs import SERVICE

SOURCES_PATH: Final = "grafana/provisioning/datasources/radgateway.yaml"
PROVIDER_PATH: Final = "grafana/provisioning/dashboards/radgateway.yaml"
DASHBOARDS_FOLDER: Final = "/var/lib/grafana/dashboards"
"""Where Grafana finds the dashboards' files."""

_SOURCES: Final = """\
apiVersion: 1
prune: true   # what is taken out of this file goes out of Grafana, too

datasources:
  - name: Prometheus
    uid: prometheus
    type: prometheus
    access: proxy
    url: http://$PROMETHEUS
    isDefault: true
    editable: false
    jsonData:
      httpMethod: POST
      # The scrape's interval: $$__rate_interval is four of these, or rates have holes.
      timeInterval: ${INTERVAL_S}s
      prometheusType: Prometheus
      exemplarTraceIdDestinations:
        - {name: trace_id, datasourceUid: tempo, urlDisplayLabel: Trace}

  - name: Loki
    uid: loki
    type: loki
    access: proxy
    url: http://$LOKI
    editable: false
    jsonData:
      maxLines: 1000
      derivedFields:
        # $$$$ is one dollar here: the rest is for Grafana's browser, not for its start.
        - name: trace_id
          matcherRegex: '"trace_id":"([0-9a-f]{32})"'
          url: $$$${__value.raw}
          datasourceUid: tempo
          urlDisplayLabel: Trace

  - name: Tempo
    uid: tempo
    type: tempo
    access: proxy
    url: http://$TEMPO
    editable: false
    jsonData:
      tracesToLogsV2:
        datasourceUid: loki
        spanStartTimeShift: "-5m"
        spanEndTimeShift: 5m
        customQuery: true
        query: '{service_name="$SERVICE"} |= "$$$${__trace.traceId}"'
      tracesToMetrics:
        datasourceUid: prometheus
        spanStartTimeShift: "-15m"
        spanEndTimeShift: 15m
        queries:
          - name: Requests of the gateway
            query: sum by (route) (rate(rad_gateway_requests_total[5m]))
      nodeGraph: {enabled: true}
"""
_PROVIDER: Final = """\
apiVersion: 1

providers:
  - name: radgateway
    folder: RAD Gateway
    type: file
    disableDeletion: true
    allowUiUpdates: false   # they are generated: a change by hand would be gone with the next start
    updateIntervalSeconds: 30
    options: {path: $FOLDER}
"""


def artefacts() -> Mapping[str, str]:
    """The files: path below the output folder, and text."""
    return {
        SOURCES_PATH: filled(_SOURCES, INTERVAL_S=SCRAPE_INTERVAL_S, SERVICE=SERVICE),
        PROVIDER_PATH: filled(_PROVIDER, FOLDER=DASHBOARDS_FOLDER),
    }
