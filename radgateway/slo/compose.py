"""The compose file: the gateway with all that watches it and all that it needs, on one machine.

Images are pinned by version. No secret is in the file: each is a file in `secrets/` that
`make-secrets.sh` creates. Only what people look at is published, on this machine alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from radgateway.slo.grafana import DASHBOARDS_FOLDER
from radgateway.slo.routing import INCIDENTS_KEY, secret_files
from radgateway.slo.rules import longest_days
from radgateway.slo.settings import Settings
from radgateway.slo.stack import ADDRESSES, GENERATED, filled

PATH: Final = "compose.yaml"
GATEWAY_PATH: Final = "gateway/gateway.yaml"
INCIDENT_PATH: Final = "incident/incident.yaml"
SECRETS_SCRIPT: Final = "make-secrets.sh"
IMAGES: Final = {
    "PROMETHEUS_IMAGE": "prom/prometheus:v3.15.0",
    "ALERTMANAGER_IMAGE": "prom/alertmanager:v0.34.1",
    "GRAFANA_IMAGE": "grafana/grafana:13.2.3",
    "LOKI_IMAGE": "grafana/loki:3.7.8",
    "TEMPO_IMAGE": "grafana/tempo:2.10.8",
    "COLLECTOR_IMAGE": "otel/opentelemetry-collector-contrib:0.160.0",
    "POSTGRES_IMAGE": "postgres:18.4",
    "REDIS_IMAGE": "valkey/valkey:9.1.0",
    "BUSYBOX_IMAGE": "busybox:1.37",
}
"""Pinned by version; a digest pins more, and is to be added by whoever pulls them first."""
MADE_UP: Final = (
    "gateway_key",
    "gateway_admin_key",
    "grafana_admin_password",
    INCIDENTS_KEY,
    "incident_responder_key",
    "postgres_password",
)
"""Secrets that are random and nobody else's."""
_SPARE_DAYS: Final = 10
"""Days that Prometheus keeps beyond the longest window: a block is dropped as a whole."""

_COMPOSE: Final = """\
#   sh make-secrets.sh && docker compose up --build --detach --wait
#
# Then: the gateway on http://127.0.0.1:$GATEWAY_PORT, Grafana on http://127.0.0.1:$GRAFANA_PORT
# (admin, with the password in secrets/grafana_admin_password).
name: radgateway

x-container: &container
  restart: unless-stopped
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  # The collector reads these files; they are turned over, so no log fills the disk.
  logging: {driver: json-file, options: {max-size: 20m, max-file: "3"}}

services:
  gateway:
    <<: *container
    build: {context: ../.., dockerfile: Dockerfile}
    command: [serve, --config, /etc/radgateway/gateway.yaml]
    read_only: true
    tmpfs: ["/tmp:size=64m"]
    ports: ["127.0.0.1:$GATEWAY_PORT:$GATEWAY_PORT"]
    volumes:
      - ./gateway/gateway.yaml:/etc/radgateway/gateway.yaml:ro
      - gateway-data:/data
    secrets: [gateway_key, gateway_admin_key, database_url]
    stop_grace_period: 150s   # streams get 120 s to finish
    mem_limit: 512m
    healthcheck:
      test: [CMD, /usr/bin/python3, -m, radgateway, health, --ready]
      interval: 10s
      timeout: 5s
      retries: 3
      start_period: 20s
    depends_on:
      postgres: {condition: service_healthy}
      redis: {condition: service_healthy}
      collector: {condition: service_started}

  postgres:
    <<: *container
    image: $POSTGRES_IMAGE
    cap_add: [CHOWN, DAC_READ_SEARCH, FOWNER, SETGID, SETUID]
    environment:
      POSTGRES_USER: radgateway
      POSTGRES_DB: radgateway
      POSTGRES_PASSWORD_FILE: /run/secrets/postgres_password
    secrets: [postgres_password]
    volumes: ["postgres-data:/var/lib/postgresql"]
    mem_limit: 512m
    healthcheck:
      test: [CMD, pg_isready, --username=radgateway, --dbname=radgateway]
      interval: 10s
      timeout: 5s
      retries: 5
      start_period: 30s

  redis:   # Valkey: it speaks Redis's protocol
    <<: *container
    image: $REDIS_IMAGE
    user: "999:999"
    # Limits that last for minutes need no disk; when it is full it must not forget any of them.
    command:
      [valkey-server, --save, "", --appendonly, "no",
       --maxmemory, 128mb, --maxmemory-policy, noeviction]
    read_only: true
    mem_limit: 192m
    healthcheck:
      test: [CMD, valkey-cli, ping]
      interval: 10s
      timeout: 5s
      retries: 3

  prometheus:
    <<: *container
    image: $PROMETHEUS_IMAGE
    command:
      - --config.file=/etc/prometheus/prometheus.yml
      - --storage.tsdb.path=/prometheus
      - --storage.tsdb.retention.time=${KEPT_DAYS}d
      - --storage.tsdb.retention.size=20GB
      - --enable-feature=exemplar-storage
    read_only: true
    ports: ["127.0.0.1:$PROMETHEUS_PORT:$PROMETHEUS_PORT"]
    volumes:
      - ./prometheus:/etc/prometheus:ro
      - prometheus-data:/prometheus
    mem_limit: 1g
    healthcheck:
      test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1:$PROMETHEUS_PORT/-/ready"]
      interval: 10s
      timeout: 5s
      retries: 5

  alertmanager:
    <<: *container
    image: $ALERTMANAGER_IMAGE
    command:
      - --config.file=/etc/alertmanager/alertmanager.yml
      - --storage.path=/alertmanager
      - --cluster.listen-address=   # one of it: nobody to agree with
    read_only: true
    ports: ["127.0.0.1:$ALERTMANAGER_PORT:$ALERTMANAGER_PORT"]
    volumes:
      - ./alertmanager/alertmanager.yml:/etc/alertmanager/alertmanager.yml:ro
      - ./alertmanager/templates:/etc/alertmanager/templates:ro
      - alertmanager-data:/alertmanager
    secrets:
$ALERTMANAGER_SECRETS
    mem_limit: 128m
    healthcheck:
      test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1:$ALERTMANAGER_PORT/-/ready"]
      interval: 10s
      timeout: 5s
      retries: 5

  incident:
    <<: *container
    build: {context: ../.., dockerfile: Dockerfile}
    command: [incident, serve, --config, /etc/radgateway/incident.yaml]
    read_only: true
    tmpfs: ["/tmp:size=64m"]
    ports: ["127.0.0.1:$INCIDENT_PORT:$INCIDENT_PORT"]
    volumes:
      - ./incident/incident.yaml:/etc/radgateway/incident.yaml:ro
      - incident-data:/data
    secrets: [incident_source_key, incident_responder_key]
    stop_grace_period: 15s
    mem_limit: 256m
    healthcheck:
      test:
        - CMD
        - python
        - -c
        - >-
          import urllib.request as r;
          r.urlopen("http://127.0.0.1:$INCIDENT_PORT/health/ready", timeout=2)
      interval: 10s
      timeout: 5s
      retries: 3
      start_period: 20s

  grafana:
    <<: *container
    image: $GRAFANA_IMAGE
    environment:
      GF_SECURITY_ADMIN_PASSWORD__FILE: /run/secrets/grafana_admin_password
      GF_USERS_ALLOW_SIGN_UP: "false"
      GF_ANALYTICS_REPORTING_ENABLED: "false"
      GF_ANALYTICS_CHECK_FOR_UPDATES: "false"
      GF_PLUGINS_PREINSTALL_DISABLED: "true"
    ports: ["127.0.0.1:$GRAFANA_PORT:$GRAFANA_PORT"]
    volumes:
      - ./grafana/provisioning:/etc/grafana/provisioning:ro
      - ./grafana/dashboards:$DASHBOARDS_FOLDER:ro
      - grafana-data:/var/lib/grafana
    secrets: [grafana_admin_password]
    mem_limit: 512m
    healthcheck:
      test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1:$GRAFANA_PORT/api/health"]
      interval: 10s
      timeout: 5s
      retries: 6
      start_period: 30s
    depends_on:
      prometheus: {condition: service_healthy}
      loki: {condition: service_healthy}

  loki:
    <<: *container
    image: $LOKI_IMAGE
    command: [-config.file=/etc/loki/loki.yaml]
    read_only: true
    volumes:
      - ./loki/loki.yaml:/etc/loki/loki.yaml:ro
      - loki-data:/loki
    mem_limit: 512m
    healthcheck:   # by itself: the image has no shell and no other program
      test: [CMD, /usr/bin/loki, -health]
      interval: 10s
      timeout: 5s
      retries: 6
      start_period: 20s

  # Tempo and the collector can't be asked from within: their images have one program each.
  tempo:
    <<: *container
    image: $TEMPO_IMAGE
    command: [-config.file=/etc/tempo/tempo.yaml]
    read_only: true
    volumes:
      - ./tempo/tempo.yaml:/etc/tempo/tempo.yaml:ro
      - tempo-data:/var/tempo
    mem_limit: 1g
    depends_on:
      tempo-owner: {condition: service_completed_successfully}

  tempo-owner:   # a new volume is root's, and Tempo is not root
    <<: *container
    image: $BUSYBOX_IMAGE
    restart: "no"
    cap_add: [CHOWN]
    command: [chown, "10001:10001", /var/tempo]
    network_mode: none
    volumes: ["tempo-data:/var/tempo"]

  collector:
    <<: *container
    image: $COLLECTOR_IMAGE
    command: [--config=/etc/otelcol/collector.yaml]
    user: "0:0"   # Docker's files are root's alone ...
    cap_add: [DAC_READ_SEARCH]   # ... and reading is all that it may do there
    read_only: true
    environment: {GOMEMLIMIT: 400MiB}
    volumes:
      - ./collector/collector.yaml:/etc/otelcol/collector.yaml:ro
      - /var/lib/docker/containers:/var/lib/docker/containers:ro
      - collector-data:/var/lib/otelcol
    mem_limit: 512m
    depends_on:
      tempo: {condition: service_started}
      loki: {condition: service_healthy}

volumes:
  gateway-data:
  incident-data:
  postgres-data:
  prometheus-data:
  alertmanager-data:
  grafana-data:
  loki-data:
  tempo-data:
  collector-data:

secrets:
$SECRETS
"""
_GATEWAY: Final = """\
# A gateway to look at: the mock twice, one of them slow and at times broken, so that there is
# something to see. Put providers of your own in their place.
environment: staging

server: {host: 0.0.0.0, port: $GATEWAY_PORT}

keys:
  - {name: demo, secret: "file:/run/secrets/gateway_key", limits: ["6000/minute"]}
admin_keys:
  - {name: ops, secret: "file:/run/secrets/gateway_admin_key"}

providers:
  steady: {kind: mock, latency_ms: 40, tokens_per_s: 200}
  shaky: {kind: mock, latency_ms: 400, tokens_per_s: 50, error_ratio: 0.2}

models:
  demo:
    strategy: weighted
    candidates:
      - {provider: steady, model: demo, weight: 70, price: {input: 0.15, output: 0.60}}
      - {provider: shaky, model: demo, weight: 30, price: {input: 0.10, output: 0.40}}

storage: {usage: "file:/run/secrets/database_url", limits: "redis://$REDIS/0"}

telemetry:
  log_level: info
  metrics: true
  key_names_in_metrics: true   # the business dashboard asks for them; off by default
  tracing:
    enabled: true
    exporter: otlp
    otlp_endpoint: $COLLECTOR_GRPC
    sampling_rate: 1   # the collector decides which to keep, once it knows how they ended
"""
_INCIDENT: Final = """\
# The incident app, which Alertmanager tells of all alerts. Say whom it tells: Slack's incoming
# webhooks, the status page, and PagerDuty for deployments (docs/how-to/incidents.md).
environment: staging
server: {host: 0.0.0.0, port: $INCIDENT_PORT}
store: /data/incidents.db
sources:
  - {name: alertmanager, secret: "file:/run/secrets/incident_source_key"}
responders:
  - {name: demo, secret: "file:/run/secrets/incident_responder_key"}
alertmanager: {url: "http://$ALERTMANAGER"}
"""
_SCRIPT: Final = """\
#!/bin/sh
# @GENERATED@
# Makes the files of secrets that compose.yaml mounts, and leaves alone those that are there.
set -eu

cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets

# A container has to be able to read its own; nobody else gets into the folder.
keep() {
    [ -e "secrets/$1" ] && return
    printf '%s' "$2" > "secrets/$1"
    chmod 444 "secrets/$1"
}
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \\n'; }

for name in @MADE_UP@; do
    keep "$name" "$(random)"
done
# Whom Alertmanager tells is yours to say: put in what belongs there.
for name in @GIVEN@; do
    keep "$name" "not set"
done
keep database_url "postgresql://radgateway:$(cat secrets/postgres_password)@@POSTGRES@/radgateway"
echo "secrets are in $(pwd)/secrets"
"""


def artefacts(settings: Settings) -> Mapping[str, str]:
    """The files: path below the output folder, and text."""
    given = secret_files(settings)
    names = sorted({*MADE_UP, *given, "database_url"})
    compose = filled(
        _COMPOSE,
        **IMAGES,
        DASHBOARDS_FOLDER=DASHBOARDS_FOLDER,
        KEPT_DAYS=longest_days(settings) + _SPARE_DAYS,
        ALERTMANAGER_SECRETS="\n".join(
            f"      - {{source: {name}, target: {settings.contacts.secrets_dir}/{name}}}"
            for name in given
        ),
        SECRETS="\n".join(f"  {name}: {{file: ./secrets/{name}}}" for name in names),
    )
    return {
        PATH: compose,
        GATEWAY_PATH: filled(_GATEWAY),
        INCIDENT_PATH: filled(_INCIDENT),
        SECRETS_SCRIPT: _script(tuple(name for name in given if name not in MADE_UP)),
    }


def _script(given: tuple[str, ...]) -> str:
    """The shell's own dollars stay."""
    text = _SCRIPT.replace("@GENERATED@", GENERATED)
    text = text.replace("@MADE_UP@", " ".join(MADE_UP))
    text = text.replace("@GIVEN@", " \\\n    ".join(given))
    return text.replace("@POSTGRES@", ADDRESSES["POSTGRES"])
