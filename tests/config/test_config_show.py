"""The effective configuration, as `check-config` prints it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import yaml
from config.config_cases import DOCUMENTED, SECRETS, loaded, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radgateway.config import (
    AdmissionConfig,
    CandidateConfig,
    Dsn,
    GatewayConfig,
    KeyConfig,
    LimitsConfig,
    LimitSet,
    ModelConfig,
    PriceConfig,
    ProviderConfig,
    Secret,
    StorageConfig,
    TelemetryConfig,
    TracingConfig,
    default_config,
    effective,
    load_config,
)
from radgateway.provider.circuit.config import BreakerConfig
from radgateway.provider.faults import Faults


def test_it_shows_everything_in_force_and_references_for_secrets(tmp_path: Path) -> None:
    """Defaults are filled in; a secret is the reference it came from."""
    text = effective(loaded(tmp_path, DOCUMENTED))
    shown = yaml.safe_load(text)
    assert shown["keys"][0]["secret"] == "env:RAD_KEY"
    assert shown["providers"]["openai"]["timeouts"]["pool_s"] == 1
    assert "latency_ms" not in shown["providers"]["openai"]
    assert shown["admission"]["max_queue"] == 1000
    assert "notices" not in shown
    assert not any(secret in text for secret in SECRETS.values())


def test_a_made_up_key_is_masked() -> None:
    """It is told once by whoever starts the gateway, and never here."""
    config = default_config({})
    assert yaml.safe_load(effective(config))["keys"][0]["secret"] == "***"
    assert config.keys[0].secret.reveal() not in effective(config)


_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,12}", fullmatch=True)
_models = st.from_regex(r"[!-~]{1,12}", fullmatch=True)
_ratio = st.floats(0, 1)
_seconds = st.floats(0.001, 3600)
_price = st.decimals(0, 1000, places=4)
_candidates = st.builds(
    CandidateConfig,
    provider=st.sampled_from(["mock", "other"]),
    model=_models,
    weight=st.floats(0.01, 1e6),
    price=st.none() | st.builds(PriceConfig, input=_price, output=_price),
)
_model = st.builds(
    ModelConfig,
    candidates=st.lists(_candidates, min_size=1, max_size=3).map(tuple),
    strategy=st.sampled_from(["priority", "weighted", "least_latency", "least_cost", "sticky"]),
)
_breakers = st.none() | st.builds(
    BreakerConfig, window_s=st.integers(1, 3600), slow_first_byte_s=st.none() | _seconds
)
_faults = st.none() | st.builds(Faults, error_ratio=_ratio, error_status=st.integers(400, 599))
_mocks = st.builds(
    ProviderConfig, kind=st.just("mock"), error_ratio=_ratio, breaker=_breakers, faults=_faults
)
_others = st.builds(
    ProviderConfig,
    kind=st.sampled_from(["openai", "anthropic", "gemini"]),
    base_url=st.just("http://localhost:1/v1"),
    api_key=st.none() | st.just(Secret("the-key", reference="env:SEEDED")),
    headers=st.just({"X-Team": Secret("the-key", reference="env:SEEDED")}) | st.just({}),
    max_concurrency=st.none() | st.integers(1, 1000),
    breaker=_breakers,
)
_configs = st.builds(
    GatewayConfig,
    environment=st.sampled_from(["local", "alpha"]),
    keys=st.builds(
        KeyConfig,
        name=_names,
        secret=st.just(Secret("the-key", reference="env:SEEDED")),
        limits=st.lists(st.sampled_from(["60/minute", "5 per 2 hour"])).map(tuple),
        money_limits=st.sampled_from([(), ("0.50/day", "20 per 2 hour")]),
        max_concurrency=st.none() | st.integers(1, 1000),
    ).map(lambda key: (key,)),
    limits=st.builds(
        LimitsConfig,
        total=st.none() | st.builds(LimitSet, tokens=st.just(("9/day",)), shadow=st.booleans()),
        on_storage_failure=st.sampled_from(["open", "closed", "local"]),
    ),
    providers=st.fixed_dictionaries({"mock": _mocks, "other": _others}),
    models=st.dictionaries(_models, _model, min_size=1, max_size=3),
    admission=st.none() | st.builds(AdmissionConfig, max_wait_s=st.floats(0, 3600)),
    storage=st.just(StorageConfig(usage=Dsn("memory://"))),
    telemetry=st.builds(
        TelemetryConfig,
        log_level=st.sampled_from(["debug", "info", "warn", "error"]),
        metrics=st.booleans(),
        tracing=st.builds(TracingConfig, enabled=st.booleans(), sampling_rate=_ratio),
    ),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(config=_configs)
def test_what_is_shown_can_be_read_again(tmp_path: Path, config: GatewayConfig) -> None:
    """Configuration to YAML and back is the same configuration, whatever its names look like."""
    environ = {"SEEDED": "the-key"}
    file = written(tmp_path, effective(config))
    again = load_config(file, environ)
    assert again == config
    assert effective(again) == effective(config)


def test_decimals_stay_exact() -> None:
    """A price is printed as it was written, small ones without an exponent."""
    price = PriceConfig(input=Decimal("0.0000001"), output=Decimal("3"))
    model = ModelConfig(candidates=(CandidateConfig(provider="p", price=price),))
    text = effective(GatewayConfig(models={"m": model}))
    assert "input: 0.0000001\n" in text
    assert "output: 3\n" in text
