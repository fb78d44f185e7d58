"""radgateway: a gateway for AI model APIs, made of pure-ASGI components.

Each name is imported when it is first used, so an app that takes one component pays for one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radgateway.app import create_gateway
    from radgateway.asgi import StreamBroken
    from radgateway.composition import compose, describe
    from radgateway.config import ConfigError, GatewayConfig, load_config
    from radgateway.errors import Refusal, answer
    from radgateway.exchange import Attempt, Exchange, Principal, Usage, attempt_of, exchange_of
    from radgateway.gateway import Gateway
    from radgateway.inbound.admission import AdmissionQueue
    from radgateway.inbound.auth import ApiKeyAuth, ApiKeys
    from radgateway.inbound.bearer_tokens import TokenRules, TokenVerifier
    from radgateway.inbound.drain import Drain, DrainGuard, DrainLimits
    from radgateway.inbound.jwks_fetch import jwks_at_url, jwks_in_file
    from radgateway.inbound.keepalive import StreamKeepalive
    from radgateway.inbound.key_renewal import RenewedKeys
    from radgateway.inbound.limit_plan import LimitBook
    from radgateway.inbound.limit_set import Budget, LimitSet
    from radgateway.inbound.load_shed import LoadShed
    from radgateway.inbound.rate_limit import RateLimiter
    from radgateway.inbound.request_context import RequestContextMiddleware
    from radgateway.inbound.signing_keys import SharedSecret
    from radgateway.provider.adaptive_limit import AdaptiveConfig, AdaptiveLimit
    from radgateway.provider.breaker import CircuitBreaker
    from radgateway.provider.bulkhead import Bulkhead
    from radgateway.provider.circuit.config import BreakerConfig
    from radgateway.provider.circuit.policy import BreakerPolicy
    from radgateway.provider.deadline import Deadline
    from radgateway.provider.faults import FaultInjector, Faults
    from radgateway.provider.health import HealthBook, ProviderHealth
    from radgateway.provider.http import HTTPProvider
    from radgateway.provider.mock import MockConfig, MockProvider
    from radgateway.provider.slots import KeyedSlots, Slots
    from radgateway.reload.refusals import NeedsRestart, ReloadFailed
    from radgateway.routing.hedge import HedgeConfig
    from radgateway.routing.models import Candidate, ModelTable, Provider, Route
    from radgateway.routing.retry_budget import RetryBudget, RetryBudgetConfig, TokenBudget
    from radgateway.routing.router import ProviderRouter
    from radgateway.telemetry.exposition import MetricsEndpoint
    from radgateway.telemetry.instruments import Instruments
    from radgateway.telemetry.metrics import MetricsMiddleware
    from radgateway.telemetry.tracing import TracingMiddleware
    from radgateway.upstream.connect import connect
    from radgateway.upstream.httpx_upstream import HTTPXUpstream
    from radgateway.upstream.interface import Timeouts, Upstream
    from radgateway.usage.ledger import MemoryLedger, SQLiteLedger
    from radgateway.usage.postgres_ledger import PostgresLedger
    from radgateway.usage.prices import Price
    from radgateway.usage.recorder import UsageRecorder
    from radgateway.usage.writer import UsageWriter

__version__ = "0.1.0"

_HOMES = {
    "app": "create_gateway",
    "asgi": "StreamBroken",
    "composition": "compose describe",
    "config": "ConfigError GatewayConfig load_config",
    "errors": "Refusal answer",
    "exchange": "Attempt Exchange Principal Usage attempt_of exchange_of",
    "gateway": "Gateway",
    "inbound.admission": "AdmissionQueue",
    "inbound.auth": "ApiKeyAuth ApiKeys",
    "inbound.bearer_tokens": "TokenRules TokenVerifier",
    "inbound.drain": "Drain DrainGuard DrainLimits",
    "inbound.jwks_fetch": "jwks_at_url jwks_in_file",
    "inbound.key_renewal": "RenewedKeys",
    "inbound.signing_keys": "SharedSecret",
    "inbound.keepalive": "StreamKeepalive",
    "inbound.load_shed": "LoadShed",
    "inbound.limit_plan": "LimitBook",
    "inbound.limit_set": "Budget LimitSet",
    "inbound.rate_limit": "RateLimiter",
    "inbound.request_context": "RequestContextMiddleware",
    "provider.adaptive_limit": "AdaptiveConfig AdaptiveLimit",
    "provider.breaker": "CircuitBreaker",
    "provider.bulkhead": "Bulkhead",
    "provider.circuit.config": "BreakerConfig",
    "provider.circuit.policy": "BreakerPolicy",
    "provider.deadline": "Deadline",
    "provider.faults": "FaultInjector Faults",
    "provider.health": "HealthBook ProviderHealth",
    "provider.http": "HTTPProvider",
    "provider.mock": "MockConfig MockProvider",
    "reload.refusals": "NeedsRestart ReloadFailed",
    "routing.hedge": "HedgeConfig",
    "provider.slots": "KeyedSlots Slots",
    "routing.models": "Candidate ModelTable Provider Route",
    "routing.retry_budget": "RetryBudget RetryBudgetConfig TokenBudget",
    "routing.router": "ProviderRouter",
    "telemetry.exposition": "MetricsEndpoint",
    "telemetry.instruments": "Instruments",
    "telemetry.metrics": "MetricsMiddleware",
    "telemetry.tracing": "TracingMiddleware",
    "upstream.connect": "connect",
    "upstream.httpx_upstream": "HTTPXUpstream",
    "upstream.interface": "Timeouts Upstream",
    "usage.ledger": "MemoryLedger SQLiteLedger",
    "usage.postgres_ledger": "PostgresLedger",
    "usage.prices": "Price",
    "usage.recorder": "UsageRecorder",
    "usage.writer": "UsageWriter",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "AdaptiveConfig",
    "AdaptiveLimit",
    "AdmissionQueue",
    "ApiKeyAuth",
    "ApiKeys",
    "Attempt",
    "BreakerConfig",
    "BreakerPolicy",
    "Budget",
    "Bulkhead",
    "Candidate",
    "CircuitBreaker",
    "ConfigError",
    "Deadline",
    "Drain",
    "DrainGuard",
    "DrainLimits",
    "Exchange",
    "FaultInjector",
    "Faults",
    "Gateway",
    "GatewayConfig",
    "HTTPProvider",
    "HTTPXUpstream",
    "HealthBook",
    "HedgeConfig",
    "Instruments",
    "KeyedSlots",
    "LoadShed",
    "LimitBook",
    "LimitSet",
    "MemoryLedger",
    "MetricsEndpoint",
    "MetricsMiddleware",
    "MockConfig",
    "MockProvider",
    "ModelTable",
    "NeedsRestart",
    "PostgresLedger",
    "Price",
    "Principal",
    "Provider",
    "ProviderHealth",
    "ProviderRouter",
    "RateLimiter",
    "Refusal",
    "ReloadFailed",
    "RenewedKeys",
    "RequestContextMiddleware",
    "RetryBudget",
    "RetryBudgetConfig",
    "Route",
    "SQLiteLedger",
    "SharedSecret",
    "Slots",
    "StreamBroken",
    "StreamKeepalive",
    "Timeouts",
    "TokenBudget",
    "TokenRules",
    "TokenVerifier",
    "TracingMiddleware",
    "Upstream",
    "Usage",
    "UsageRecorder",
    "UsageWriter",
    "answer",
    "attempt_of",
    "compose",
    "connect",
    "create_gateway",
    "describe",
    "exchange_of",
    "jwks_at_url",
    "jwks_in_file",
    "load_config",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'radgateway' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"radgateway.{home}"), name)
    globals()[name] = value
    return value
