"""The configuration as a tree of frozen values: every key there is, its unit, range and default.

This is the one list of keys, with the sections that have a module of their own. The YAML file, the
environment (`RADGATEWAY_` and the path joined by `__`) and `check-config` are all derived from
these fields, so none can know a key another lacks. A field's name is its key. Defaults here are
those of a value built in code; a file or the environment starts from the matrix in `defaults.py`.
A `ValueError` starts with the field's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from radgateway.config.jwt import JwtConfig
from radgateway.config.prices import PricesConfig
from radgateway.config.providers import ModelConfig, ProviderConfig
from radgateway.config.secrets import Dsn, Secret
from radgateway.config.secrets_store import SecretsConfig
from radgateway.config.values import DAY_S, HOST_PORT, NAME, http_url, matches, within
from radgateway.exchange import Priority
from radgateway.inbound.limit_set import (
    INPUT_TOKENS,
    MONEY,
    OUTPUT_TOKENS,
    REQUESTS,
    TOKENS,
    Budget,
    LimitSet,
    check_rates,
)
from radgateway.routing.retry_budget import RetryBudgetConfig
from radgateway.secrets.reading import StoreReading
from radgateway.slo.objectives import Objectives
from radgateway.usage.retention import RetentionConfig

Environment = Literal["local", "alpha", "staging", "production"]
LogLevel = Literal["debug", "info", "warn", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where the gateway listens, what it takes in, and how it stops."""

    host: str = "127.0.0.1"
    """Address to listen on; this machine only unless told otherwise."""
    port: int = 8090
    """TCP port, 0 to 65535; 0 takes a free one."""
    drain_timeout_s: float = 30.0
    """Seconds that plain requests get to finish after SIGTERM (strategy 2.2)."""
    stream_drain_timeout_s: float = 120.0
    """Seconds that streams get: a generation runs for minutes and was begun in good faith."""
    drain_delay_s: float = 0.0
    """Seconds of serving on while readiness is 503 already, for balancers that poll it."""
    max_body_bytes: int = 32 * 1024 * 1024
    """Largest request body, 1 KiB to 1 GiB; a long prompt with images is some 20 MB."""
    body_timeout_s: float = 60.0
    """Seconds to wait for each next part of a request's body."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[!-~]{1,255}", self.host):
            raise ValueError("host must be an address or a host name")
        within(self, "port", 0, 65_535)
        within(self, "drain_timeout_s stream_drain_timeout_s drain_delay_s", 0, DAY_S)
        within(self, "max_body_bytes", 1024, 1024**3)
        within(self, "body_timeout_s", 0, DAY_S, over=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyConfig:
    """An API key: who may call, and how much."""

    name: str
    """Shown in logs, metrics and usage: up to 64 letters, digits and `_.@-`."""
    secret: Secret
    """What the caller sends."""
    limits: tuple[str, ...] = ()
    """Requests, such as `60/minute`; all of them hold. None by default."""
    token_limits: tuple[str, ...] = ()
    """Tokens, input and output together, such as `100000/minute`; all of them hold."""
    input_token_limits: tuple[str, ...] = ()
    """Tokens of prompts alone."""
    output_token_limits: tuple[str, ...] = ()
    """Tokens of answers alone."""
    money_limits: tuple[str, ...] = ()
    """US dollars, such as `5/day` or `0.50/hour`; needs prices of the candidates."""
    budget: Budget | None = None
    """US dollars for each day or month of the calendar, in UTC."""
    max_concurrency: int | None = None
    """Requests in progress at once, at least 1; None for no bound of its own."""
    priority: Priority = "normal"
    """high, normal or low: who is served first and turned away last when there is too much."""
    shadow_limits: bool = False
    """Count and report all of these, and refuse nobody for them."""

    def __post_init__(self) -> None:
        matches(self, "name", NAME, "up to 64 letters, digits and _.@-")
        for kind, name in _KEY_LIMITS.items():
            check_rates(kind, name, getattr(self, name))
        within(self, "max_concurrency", 1, 1_000_000)

    @property
    def limit_set(self) -> LimitSet:
        """The same limits as models and all traffic have them."""
        return LimitSet(
            requests=self.limits,
            tokens=self.token_limits,
            input_tokens=self.input_token_limits,
            output_tokens=self.output_token_limits,
            money=self.money_limits,
            budget=self.budget,
            max_concurrency=self.max_concurrency,
            shadow=self.shadow_limits,
        )


_KEY_LIMITS = {
    REQUESTS: "limits",
    TOKENS: "token_limits",
    INPUT_TOKENS: "input_token_limits",
    OUTPUT_TOKENS: "output_token_limits",
    MONEY: "money_limits",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminKeyConfig:
    """A key for the management routes; it opens nothing else."""

    name: str
    """Shown in logs: up to 64 letters, digits and `_.@-`."""
    secret: Secret
    """What the caller sends."""

    def __post_init__(self) -> None:
        matches(self, "name", NAME, "up to 64 letters, digits and _.@-")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """Limits beside those of keys and models, and what holds for all of them."""

    per_caller: LimitSet | None = None
    """For each caller whose key sets no limits, or who has no key here (by address)."""
    total: LimitSet | None = None
    """What all callers may spend together."""
    shadow: bool = False
    """Count and report all limits, and refuse nobody for any of them."""
    on_storage_failure: Literal["open", "closed", "local"] = "open"
    """While the storage is away: open lets all requests through, since a lost counter is no outage
    of the models; closed none; local counts in each process, its share of each limit."""
    storage_timeout_s: float = 0.04
    """Seconds the storage may take for a request; a limit must not cost more than it saves. With
    what a timer is late by, a request is decided within 50 ms."""
    replicas: int = 1
    """Gateway processes that serve together (replicas times workers), at least 1: what the local
    share is divided by, and what a storage in memory is warned about."""
    lease_s: float = 30.0
    """Seconds after which what a gateway that died had reserved in a shared storage is free again;
    1 to 3600. Requests in progress are renewed three times in that time."""

    def __post_init__(self) -> None:
        within(self, "storage_timeout_s", 0, 60, over=True)
        within(self, "replicas", 1, 10_000)
        within(self, "lease_s", 1, 3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionConfig:
    """How much the gateway does at once."""

    max_concurrency: int = 1000
    """Requests in progress, at least 1."""
    max_queue: int = 1000
    """Requests that wait for a place, 0 or more; the next is refused at once."""
    max_wait_s: float = 5.0
    """Seconds one waits at most; who waits longer has usually given up."""
    max_lag_s: float | None = 0.25
    """Seconds the event loop may be late before work is turned away, low priority first; null for
    never. A request has some five turns of the loop, so this adds over a second to each."""

    def __post_init__(self) -> None:
        within(self, "max_concurrency", 1, 1_000_000)
        within(self, "max_queue", 0, 1_000_000)
        within(self, "max_wait_s", 0, 3600)
        within(self, "max_lag_s", 0, 60, over=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepaliveConfig:
    """Signs of life in a stream whose provider is silent."""

    interval_s: float = 15.0
    """Seconds of silence before each, over 0; WHATWG HTML §9.2.7 advises about 15."""
    before_content: bool = False
    """Also before the answer has begun. The status is then 200 whatever comes of it."""

    def __post_init__(self) -> None:
        within(self, "interval_s", 0, 3600, over=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConfig:
    """The client that calls the providers."""

    client: Literal["auto", "http1", "httpx"] = "auto"
    """http1 is our own, httpx the portable one; auto takes http1 where its parser is installed."""
    max_connections: int = 512
    """Open connections per origin, at least 1."""
    keepalive_expiry_s: float = 30.0
    """Seconds an idle connection is kept; shorter than what servers allow (nginx: 75)."""

    def __post_init__(self) -> None:
        within(self, "max_connections", 1, 65_535)
        within(self, "keepalive_expiry_s", 0, 3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """Where usage and limits are kept; both may be references, as they may hold a password."""

    usage: Dsn = field(default_factory=lambda: Dsn("sqlite:///radgateway.db"))
    """`sqlite:///relative.db`, `sqlite:////absolute.db`, `postgresql://user:password@host/database`
    or `memory://`."""
    journal: str | None = "auto"
    """The folder where rows stand until `usage` has them, so that a process that is killed loses
    none: `auto` for `<file>.journal` beside a SQLite file and `radgateway.journal` for other
    databases; null for no journal."""
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    """How long what is in `usage` is kept."""
    limits: Dsn = field(default_factory=lambda: Dsn("memory://"))
    """`memory://`, counted in each process, or `redis://host:6379/0`, shared by all."""
    breaker_hints: bool = False
    """Tell other replicas through the Redis of `limits` that a breaker has opened, so that theirs
    probe the provider at once. Never waited for; off, as each breaker judges well alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosConfig:
    """Breaking things on purpose in a running gateway."""

    allow: bool = False
    """Whether an admin may arm faults in production. Elsewhere an admin key is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingConfig:
    """OpenTelemetry traces (strategy 5.3)."""

    enabled: bool = False
    exporter: Literal["otlp", "stdout"] = "otlp"
    otlp_endpoint: str = "http://localhost:4318"
    """A URL for OTLP over HTTP, or `host:4317` for gRPC."""
    sampling_rate: float = 0.1
    """Share of traces that are recorded, whoever began them, 0 to 1."""

    def __post_init__(self) -> None:
        if not HOST_PORT.fullmatch(self.otlp_endpoint):
            http_url("otlp_endpoint", self.otlp_endpoint)
        within(self, "sampling_rate", 0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryConfig:
    """What the gateway says about itself."""

    log_level: LogLevel = "info"
    """The least level logged; the logger knows the kinds that production logs regardless."""
    metrics: bool = True
    """Serve `/metrics`."""
    key_names_in_metrics: bool = False
    """Label tokens with the name of the key that spent them; off, since it tells who uses what."""
    tracing: TracingConfig = field(default_factory=TracingConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Everything the reference app is built from."""

    environment: Environment = "local"
    """Which row of the strategy's matrix the defaults come from, and what is refused."""
    server: ServerConfig = field(default_factory=ServerConfig)
    keys: tuple[KeyConfig, ...] = ()
    """Who may call. An explicit `[]` leaves the data plane open, unless there is `jwt`."""
    jwt: JwtConfig | None = None
    """Tokens that let one in beside the keys; None for keys alone."""
    admin_keys: tuple[AdminKeyConfig, ...] = ()
    """Who may see the management routes; without one they are not served."""
    providers: Mapping[str, ProviderConfig] = field(default_factory=dict)
    models: Mapping[str, ModelConfig] = field(default_factory=dict)
    """By the name callers use, in which `*` stands for anything."""
    prices: PricesConfig = field(default_factory=PricesConfig)
    """Where the prices come from of candidates that have none of their own."""
    retry_budget: RetryBudgetConfig = field(default_factory=RetryBudgetConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    admission: AdmissionConfig | None = field(default_factory=AdmissionConfig)
    """None takes every request at once."""
    keepalive: KeepaliveConfig | None = None
    """None sends nothing. Off, as with the default clocks no silence outlasts the 60 s after which
    balancers cut, and what a provider sends should be what the caller gets."""
    storage: StorageConfig = field(default_factory=StorageConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    upstream: UpstreamConfig = field(default_factory=UpstreamConfig)
    slo: Objectives = field(default_factory=Objectives)
    """What is promised: `/v0/management/slo` holds it against the ledger, and `radgateway slo`
    makes alerts and dashboards of it."""
    secrets: SecretsConfig = field(default_factory=SecretsConfig)
    """How secrets are read again while the gateway serves, and the store they may be in."""
    chaos: ChaosConfig = field(default_factory=ChaosConfig)
    notices: tuple[str, ...] = field(default=(), compare=False, metadata={"derived": True})
    """What whoever starts the gateway should know; found while loading, not a key."""
    store_reading: StoreReading | None = field(
        default=None, compare=False, metadata={"derived": True}
    )
    """What the references into the secrets store were read from; None where there are none."""
