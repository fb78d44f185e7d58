"""Loki's configuration: one process, files on disk, a month of lines and not a day more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from radgateway.slo.stack import filled

PATH: Final = "loki/loki.yaml"
RETENTION_H: Final = 744
"""Hours that lines are kept: 31 days, as long as the budget looks back."""

_TEXT: Final = """\
auth_enabled: false   # for one network; put a proxy that asks who it is before any other

server:
  http_listen_port: $LOKI_PORT
  log_level: warn

common:
  instance_addr: 127.0.0.1
  path_prefix: /loki
  replication_factor: 1
  ring: {kvstore: {store: inmemory}}
  storage:
    filesystem: {chunks_directory: /loki/chunks, rules_directory: /loki/rules}

schema_config:
  configs:
    # Version 13 of tsdb: what OpenTelemetry's lines need, for their metadata.
    - from: "2024-01-01"
      store: tsdb
      object_store: filesystem
      schema: v13
      index: {prefix: index_, period: 24h}

limits_config:
  allow_structured_metadata: true
  retention_period: ${RETENTION_H}h
  ingestion_rate_mb: 8
  ingestion_burst_size_mb: 16
  max_line_size: 1MB
  max_global_streams_per_user: 1000
  max_query_series: 2000

compactor:
  working_directory: /loki/compactor
  retention_enabled: true
  delete_request_store: filesystem

analytics:
  reporting_enabled: false
"""


def artefacts() -> Mapping[str, str]:
    """The file: path below the output folder, and text."""
    return {PATH: filled(_TEXT, RETENTION_H=RETENTION_H)}
