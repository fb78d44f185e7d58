"""What the tests of the configuration start from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from radgateway.config import ConfigError, GatewayConfig, Problem, load_config

DOCUMENTED = """\
environment: local            # local | alpha | staging | production
server: {host: 127.0.0.1, port: 8090, drain_timeout_s: 30, stream_drain_timeout_s: 120, \
max_body_bytes: 33554432}
keys:
  - {name: default, secret: env:RAD_KEY, limits: ["60/minute"], \
token_limits: ["100000/minute"], max_concurrency: 20}
admin_keys: [{name: ops, secret: env:RAD_ADMIN_KEY}]     # management routes; never without one
providers:
  openai:
    kind: openai              # openai (any OpenAI-compatible endpoint) | anthropic | gemini | mock
    base_url: https://api.openai.com/v1
    api_key: env:OPENAI_API_KEY
    max_concurrency: 200
    timeouts: {connect_s: 2, first_byte_s: 30, idle_s: 30, total_s: 600}
    breaker: {window_s: 30, min_calls: 10, failure_ratio: 0.5, slow_first_byte_s: 20, \
slow_ratio: 0.8, open_s: 30, half_open_calls: 2}
  mock: {kind: mock, latency_ms: 0, tokens_per_s: 0, error_ratio: 0.0}
models:
  gpt-4o-mini:
    strategy: priority        # priority | weighted | least_latency | least_cost | sticky
    candidates:
      - {provider: openai, model: gpt-4o-mini, weight: 80}
      - {provider: mock,   model: gpt-4o-mini, weight: 20}
retry_budget: {max_attempts: 2, ratio: 0.2, min_per_s: 10, ttl_s: 10}
storage: {usage: "sqlite:///radgateway.db", limits: "memory://"}     # redis://…
telemetry: {log_level: info, metrics: true, tracing: {enabled: false, exporter: otlp, \
otlp_endpoint: "http://localhost:4318", sampling_rate: 0.1}}
"""
"""The contract's own example."""

SECRETS = {
    "RAD_KEY": "the-key-of-a-caller",
    "RAD_ADMIN_KEY": "the-key-of-an-admin",
    "OPENAI_API_KEY": "the-key-of-a-vendor",
}

SMALL = """\
keys: [{name: a, secret: env:RAD_KEY}]
providers:
  mock: {kind: mock}
models:
  m: {candidates: [{provider: mock}]}
"""
"""The least a file must say."""


def written(folder: Path, text: str) -> Path:
    """A file with a configuration."""
    path = folder / "gateway.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(
    folder: Path, text: str, environ: Mapping[str, str] | None = None, *, resolve: bool = True
) -> GatewayConfig:
    """What a file and the usual secrets, with more of an environment, come to."""
    return load_config(written(folder, text), SECRETS | dict(environ or {}), resolve=resolve)


def refused(source: Any, environ: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    """The problems of a configuration that must have some."""
    with pytest.raises(ConfigError) as caught:
        load_config(source, SECRETS | dict(environ or {}))
    assert caught.value.problems
    return caught.value.problems
