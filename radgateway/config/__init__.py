"""Configuration: one tree of frozen values from a file, the environment, and defaults."""

from radgateway.config.jwt import JwtConfig
from radgateway.config.load import Source, default_config, load_config, resolve_secrets
from radgateway.config.prices import PriceConfig, PricesConfig
from radgateway.config.problems import ConfigError, Problem
from radgateway.config.providers import (
    CandidateConfig,
    ModelConfig,
    ProviderConfig,
    TimeoutsConfig,
)
from radgateway.config.schema import (
    AdminKeyConfig,
    AdmissionConfig,
    GatewayConfig,
    KeyConfig,
    LimitsConfig,
    ServerConfig,
    StorageConfig,
    TelemetryConfig,
    TracingConfig,
    UpstreamConfig,
)
from radgateway.config.secrets import Dsn, Secret
from radgateway.config.show import effective
from radgateway.inbound.limit_set import LimitSet
from radgateway.routing.retry_budget import RetryBudgetConfig

__all__ = [
    "AdminKeyConfig",
    "AdmissionConfig",
    "CandidateConfig",
    "ConfigError",
    "Dsn",
    "GatewayConfig",
    "JwtConfig",
    "KeyConfig",
    "LimitSet",
    "LimitsConfig",
    "ModelConfig",
    "PriceConfig",
    "PricesConfig",
    "Problem",
    "ProviderConfig",
    "RetryBudgetConfig",
    "Secret",
    "ServerConfig",
    "Source",
    "StorageConfig",
    "TelemetryConfig",
    "TimeoutsConfig",
    "TracingConfig",
    "UpstreamConfig",
    "default_config",
    "effective",
    "load_config",
    "resolve_secrets",
]
