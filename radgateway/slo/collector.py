"""The OpenTelemetry Collector's configuration: traces to Tempo, and the gateway's log to Loki.

The gateway writes its log to standard output, as any container should; the collector reads what
the container runtime keeps of it, so no line is lost while Loki is away or the collector starts
anew. Traces are sampled when they have ended: every one that failed or was slow is kept, and a
share of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from radgateway.slo.stack import filled
from radgateway.telemetry.logs import SERVICE

PATH: Final = "collector/collector.yaml"
SLOW_MS: Final = 20_000
"""Milliseconds from which a trace is kept for being slow; generations of seconds are usual."""
KEPT_PERCENT: Final = 10
"""Share of the traces that are neither bad nor slow (the strategy's sampling_rate)."""

_TEXT: Final = """\
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "0.0.0.0:$COLLECTOR_GRPC_PORT", max_recv_msg_size_mib: 4}
      http: {endpoint: "0.0.0.0:$COLLECTOR_HTTP_PORT"}

  # The shipper of logs: reads Docker's files, remembers where it was, follows their rotation.
  file_log:
    include: [/var/lib/docker/containers/*/*-json.log]
    start_at: end
    storage: file_storage
    max_log_size: 1MiB
    retry_on_failure: {enabled: true, max_elapsed_time: 0}
    resource: {service.name: $SERVICE}
    operators:
      - {type: container, format: docker, add_metadata_from_filepath: false}
      # Others write to the same place; the lines of the gateway all name their service.
      - {type: filter, expr: 'not (body contains "\\"service\\":\\"$SERVICE\\"")'}
      - type: json_parser
        parse_to: attributes.line
        on_error: send_quiet
        timestamp:
          parse_from: attributes.line["@timestamp"]
          layout: "%Y-%m-%dT%H:%M:%S.%LZ"
          location: UTC
        severity:
          parse_from: attributes.line.level
          mapping: {warn: warning, fatal: critical}
      - type: trace_parser
        if: attributes.line != nil and attributes.line.trace_id != nil
        trace_id: {parse_from: attributes.line.trace_id}
      - type: move
        if: attributes.line != nil and attributes.line.environment != nil
        from: attributes.line.environment
        to: resource["deployment.environment.name"]
      # The line itself stays as it was written: queries take it apart with `| json`.
      - {type: remove, field: attributes.line}

processors:
  # First: who is out of memory must say so before it takes more in.
  memory_limiter: {check_interval: 1s, limit_percentage: 75, spike_limit_percentage: 20}
  # Sees whole traces, so all spans of one have to come to one collector: put the load_balancing
  # exporter, by trace id, before several. The gateway has to send all: its sampling_rate is 1.
  tail_sampling:
    decision_wait: 10s
    num_traces: 50000
    decision_cache: {sampled_cache_size: 100000, non_sampled_cache_size: 100000}
    policies:
      - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}
      - {name: slow, type: latency, latency: {threshold_ms: $SLOW_MS}}
      - {name: the-rest, type: probabilistic, probabilistic: {sampling_percentage: $KEPT_PERCENT}}
  # Last: full packets, whatever came before took out.
  batch: {timeout: 2s, send_batch_size: 2048, send_batch_max_size: 4096}

exporters:
  otlp_grpc/tempo:
    endpoint: $TEMPO_OTLP
    tls: {insecure: true}   # one network, no way out of it; give it a certificate elsewhere
    sending_queue: {storage: file_storage, queue_size: 1000}
  otlp_http/loki:
    endpoint: http://$LOKI/otlp
    sending_queue: {storage: file_storage, queue_size: 1000}

extensions:
  file_storage: {directory: /var/lib/otelcol, create_directory: true}
  health_check: {endpoint: "0.0.0.0:13133"}

service:
  extensions: [file_storage, health_check]
  telemetry:
    metrics:
      readers:
        - pull: {exporter: {prometheus: {host: 0.0.0.0, port: $COLLECTOR_METRICS_PORT}}}
  pipelines:
    traces:
      receivers: [otlp]
      processors: [memory_limiter, tail_sampling, batch]
      exporters: [otlp_grpc/tempo]
    logs:
      receivers: [file_log, otlp]
      processors: [memory_limiter, batch]
      exporters: [otlp_http/loki]
"""


def artefacts() -> Mapping[str, str]:
    """The file: path below the output folder, and text."""
    text = filled(_TEXT, SERVICE=SERVICE, SLOW_MS=SLOW_MS, KEPT_PERCENT=KEPT_PERCENT)
    return {PATH: text}
