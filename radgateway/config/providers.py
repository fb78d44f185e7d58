"""The sections `providers` and `models`: who can be called, and who serves what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from radgateway.config.prices import PriceConfig
from radgateway.config.secrets import Secret
from radgateway.config.values import DAY_S, HEADER_NAME, MODEL, http_url, matches, within
from radgateway.inbound.limit_set import LimitSet
from radgateway.provider.adaptive_limit import AdaptiveConfig
from radgateway.provider.circuit.config import BreakerConfig
from radgateway.provider.faults import Faults
from radgateway.provider.probe import ProbeConfig
from radgateway.routing.hedge import HedgeConfig
from radgateway.routing.models import StrategyName
from radgateway.upstream.interface import Timeouts

ProviderKind = Literal["openai", "anthropic", "gemini", "mock"]

VENDOR_URLS: Mapping[str, str] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
}
"""Where each kind's own vendor is; the default of `base_url`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutsConfig:
    """The clocks of one call to a provider, in seconds. None stops, so that no wait is endless."""

    connect_s: float = 2.0
    """TCP and TLS; a reachable host answers in milliseconds."""
    pool_s: float = 1.0
    """Waiting for a free connection; longer means the pool is too small."""
    first_byte_s: float = 30.0
    """To the response's start, for a stream its first event."""
    answer_s: float | None = None
    """The same for a request that does not stream, whose first byte comes with its last token.
    None is `first_byte_s`; where a file sets neither of the two, only `total_s` bounds it."""
    idle_s: float = 30.0
    """Between two chunks of a response."""
    total_s: float = 600.0
    """The whole call; the longest generation worth paying for."""

    def __post_init__(self) -> None:
        names = "connect_s pool_s first_byte_s answer_s idle_s total_s"
        within(self, names, 0, DAY_S, over=True)

    @property
    def clocks(self) -> Timeouts:
        """The same, as `Deadline` and the upstream clients take it."""
        return Timeouts(
            connect_s=self.connect_s,
            pool_s=self.pool_s,
            first_byte_s=self.first_byte_s,
            answer_s=self.answer_s,
            idle_s=self.idle_s,
            total_s=self.total_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """A vendor's endpoint with one credential, and what protects it and us."""

    kind: ProviderKind
    """The API it speaks: openai (any OpenAI-compatible server), anthropic, gemini or mock."""
    base_url: str | None = None
    """http or https; the vendor's own by default. A mock has none."""
    api_key: Secret | None = None
    """The credential; needed at the vendor's own address, optional elsewhere."""
    headers: Mapping[str, Secret] = field(default_factory=dict)
    """Sent with every request, over the caller's; values may be references."""
    ca_file: str | None = None
    """A PEM file of authorities to trust instead of the system's."""
    include_usage: bool = True
    """Ask for the usage of streams; off for servers that refuse `stream_options`."""
    max_concurrency: int | None = 200
    """Calls in progress at once, at least 1; null for no bulkhead."""
    adaptive: AdaptiveConfig | None = None
    """How far `max_concurrency` falls while the provider is overloaded; null for never. Off, as
    it turns a provider's own 429, which says when to return, into a refusal of ours."""
    timeouts: TimeoutsConfig = field(default_factory=TimeoutsConfig)
    breaker: BreakerConfig | None = field(default_factory=BreakerConfig)
    """When to stop calling it; null for no breaker."""
    probe: ProbeConfig | None = None
    """Whether it is asked if it is there, which costs no tokens; off, as traffic tells more."""
    faults: Faults | None = None
    """Faults to inject on purpose; refused in production, where they can only be armed."""
    latency_ms: float = field(default=0.0, metadata={"kind": "mock"})
    """Milliseconds a mock waits before it answers."""
    tokens_per_s: float = field(default=0.0, metadata={"kind": "mock"})
    """Rate of a mock's streams; 0 is as fast as it goes."""
    error_ratio: float = field(default=0.0, metadata={"kind": "mock"})
    """Share of requests a mock answers with an error, 0 to 1."""

    def __post_init__(self) -> None:
        mock = self.kind == "mock"
        if self.base_url is None and not mock:
            object.__setattr__(self, "base_url", VENDOR_URLS[self.kind])
        if self.base_url is not None and not mock:
            http_url("base_url", self.base_url)
        for name in ("base_url", "api_key", "ca_file", "probe") if mock else ():
            if getattr(self, name) is not None:
                raise ValueError(f"{name} has no meaning for a mock, which calls nobody")
        for name in () if mock else ("latency_ms", "tokens_per_s", "error_ratio"):
            if getattr(self, name):
                raise ValueError(f"{name} is for a mock only; to spoil a real one use faults")
        for name in self.headers:
            if not HEADER_NAME.fullmatch(name) or name.lower() in ("host", "content-length"):
                raise ValueError(f"headers can't set {name!r}")
        within(self, "max_concurrency", 1, 1_000_000)
        if self.adaptive is not None and self.max_concurrency is None:
            raise ValueError("adaptive needs max_concurrency, which is its ceiling")
        within(self, "latency_ms", 0, DAY_S * 1000)
        within(self, "tokens_per_s", 0, 1e9)
        within(self, "error_ratio", 0, 1)

    @property
    def at_vendor(self) -> bool:
        """Whether this is the vendor itself, and not a server that speaks its language."""
        return (self.base_url or "").rstrip("/") == VENDOR_URLS.get(self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateConfig:
    """A provider and the model on it that may serve a request."""

    provider: str
    """A name under `providers`."""
    model: str = "*"
    """The provider's name for the model; `*` is the name the caller asked for."""
    weight: float = 100.0
    """Order under `priority`, share under `weighted` and `sticky`; over 0."""
    price: PriceConfig | None = None
    """None where `prices` says, or nobody: unknown is not free."""

    def __post_init__(self) -> None:
        matches(self, "model", MODEL, "visible ASCII without spaces, at most 256 characters")
        within(self, "weight", 0, 1e9, over=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """How one model, or all whose names fit a wildcard, is served."""

    candidates: tuple[CandidateConfig, ...]
    """At least one."""
    strategy: StrategyName = "priority"
    """priority, weighted, least_latency, least_cost or sticky."""
    aliases: tuple[str, ...] = ()
    """Other names callers may use."""
    hedge: HedgeConfig | None = None
    """Give a request that is late to the next candidate too; None for never."""
    limits: LimitSet | None = None
    """What all callers together may spend on it."""
    max_open_ratio: float | None = None
    """Share of its providers, over 0 to 1, whose breakers may be open at once; null is all but
    one, 1 lets all of them open."""

    def __post_init__(self) -> None:
        if not self.candidates:
            raise ValueError("candidates must hold at least one")
        if self.hedge is not None and len(self.candidates) < 2:
            raise ValueError("hedge needs a second candidate to go to")
        within(self, "max_open_ratio", 0, 1, over=True)
        for alias in self.aliases:
            if not MODEL.fullmatch(alias):
                raise ValueError("aliases must be visible ASCII without spaces")
