"""Tempo's configuration: one process, files on disk, a week of the traces that were kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from radgateway.slo.stack import filled

PATH: Final = "tempo/tempo.yaml"
RETENTION_H: Final = 168
"""Hours that traces are kept."""

_TEXT: Final = """\
# For Tempo 2; version 3 has other parts (no ingester, no compactor) and refuses this file.
server:
  http_listen_port: $TEMPO_PORT
  log_level: warn

distributor:
  receivers:
    otlp:
      protocols:
        grpc: {endpoint: "0.0.0.0:$TEMPO_OTLP_PORT"}

ingester:
  max_block_duration: 5m

compactor:
  compaction:
    block_retention: ${RETENTION_H}h

storage:
  trace:
    backend: local
    local: {path: /var/tempo/blocks}
    wal: {path: /var/tempo/wal}

overrides:
  defaults:
    ingestion: {max_traces_per_user: 50000, rate_limit_bytes: 15000000}
    global: {max_bytes_per_trace: 5000000}

usage_report:
  reporting_enabled: false
"""


def artefacts() -> Mapping[str, str]:
    """The file: path below the output folder, and text."""
    return {PATH: filled(_TEXT, RETENTION_H=RETENTION_H)}
