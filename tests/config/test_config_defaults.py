"""What a gateway serves that was given no file."""

from __future__ import annotations

from pathlib import Path

import pytest
from config.config_cases import SMALL, loaded, refused

from radgateway.config import ConfigError, default_config, load_config


def test_it_serves_the_original_models_from_the_mock() -> None:
    """`make run` on a fresh machine: loopback, SQLite, a made-up key, and metrics to look at."""
    config = default_config({})
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8090)
    assert config.storage.usage.path == "radgateway.db"
    assert config.storage.limits.reveal() == "memory://"
    assert config.telemetry.metrics
    assert set(config.models) == {
        "gpt-4o-mini",
        "claude-3-5-sonnet",
        "gemini-1.5-flash",
        "text-embedding-3-small",
        "gpt-image-1",
        "whisper-1",
        "gpt-4o-mini-tts",
    }
    candidates = config.models["gpt-4o-mini"].candidates
    assert [(c.provider, c.model, c.weight) for c in candidates] == [
        ("mock", "gpt-4o-mini", 80),
        ("mock", "fallback-mini", 20),
    ]
    assert not any("*" in name for name in config.models)  # an unknown model stays unknown


def test_a_key_is_made_up_anew_where_none_is_given() -> None:
    """It is marked, so that it can be told to the person who started the gateway, once."""
    (first,), (second,) = default_config({}).keys, default_config({}).keys
    assert first.name == "default"
    assert first.secret.generated
    assert len(first.secret.reveal()) >= 32
    assert first.secret != second.secret


def test_given_keys_are_used() -> None:
    """RAD_KEY is the default's, RAD_API_KEYS adds named ones, RAD_ADMIN_KEY opens management."""
    config = default_config(
        {"RAD_KEY": "key-one", "RAD_API_KEYS": "two:key-two", "RAD_ADMIN_KEY": "key-three"}
    )
    assert [(key.name, key.secret.reveal()) for key in config.keys] == [
        ("default", "key-one"),
        ("two", "key-two"),
    ]
    assert not config.keys[0].secret.generated
    assert [(key.name, key.secret.reveal()) for key in config.admin_keys] == [("ops", "key-three")]


def test_real_providers_take_their_models_over() -> None:
    """With a vendor's key its models come from it alone: nothing invented passes for an answer."""
    config = default_config(
        {"OPENAI_API_KEY": "sk-o", "ANTHROPIC_API_KEY": "sk-a", "GEMINI_API_KEY": "sk-g"}
    )
    served = {
        name: [(c.provider, c.model) for c in model.candidates]
        for name, model in config.models.items()
    }
    assert served["gpt-4o-mini"] == [("openai", "gpt-4o-mini")]
    assert served["claude-3-5-sonnet"] == [("anthropic", "claude-3-5-sonnet-20241022")]
    assert served["gemini-1.5-flash"] == [("gemini", "gemini-1.5-flash")]
    assert config.providers["gemini"].base_url == "https://generativelanguage.googleapis.com"


def test_ollama_is_an_openai_compatible_provider() -> None:
    """OLLAMA_* adds it with its models."""
    config = default_config(
        {"OLLAMA_ENABLED": "true", "OLLAMA_MODEL_LLAMA3": "llama3:8b", "OLLAMA_API_KEY": "o-key"}
    )
    assert config.providers["ollama"].base_url == "http://localhost:11434/v1"
    assert config.providers["ollama"].api_key is not None
    assert config.models["llama3"].candidates[0].model == "llama3:8b"
    assert config.models["mistral"].candidates[0].model == "mistral"
    assert "ollama" not in default_config({"OLLAMA_ENABLED": "false"}).providers


def test_with_a_file_ollama_variables_are_said_to_do_nothing() -> None:
    """The file names the providers."""
    mapping = {
        "keys": [],
        "providers": {"mock": {"kind": "mock"}},
        "models": {"m": {"candidates": [{"provider": "mock"}]}},
    }
    notices = load_config(mapping, {"OLLAMA_ENABLED": "true"}).notices
    assert any(notice.startswith("OLLAMA_ENABLED") for notice in notices)


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_nothing_is_made_up_where_there_are_callers(environment: str) -> None:
    """In staging and production neither a key nor an answer is invented."""
    problems = refused(None, {"RAD_ENV": environment, "OPENAI_API_KEY": "", "RAD_KEY": ""})
    assert {problem.path for problem in problems} == {"keys", "models"}
    config = default_config({"RAD_ENV": environment, "OPENAI_API_KEY": "sk", "RAD_KEY": "key-one"})
    assert set(config.providers) == {"openai"}


@pytest.mark.parametrize(
    ("environment", "level", "metrics", "tracing"),
    [
        ("local", "debug", False, False),
        ("alpha", "info", True, False),
        ("staging", "info", True, True),
        ("production", "warn", True, True),
    ],
)
def test_the_matrix_of_the_strategy(
    environment: str, level: str, metrics: bool, tracing: bool
) -> None:
    """Defaults by environment, as its 4.3 and 5.2 have them, and any key wins over them."""
    mapping = {
        "environment": environment,
        "keys": [],
        "providers": {"mock": {"kind": "mock"}},
        "models": {"m": {"candidates": [{"provider": "mock"}]}},
    }
    telemetry = load_config(mapping, {}).telemetry
    assert (telemetry.log_level, telemetry.metrics, telemetry.tracing.enabled) == (
        level,
        metrics,
        tracing,
    )
    explicit = {"telemetry": {"metrics": not metrics, "tracing": {"enabled": not tracing}}}
    telemetry = load_config(mapping | explicit, {}).telemetry
    assert (telemetry.metrics, telemetry.tracing.enabled) == (not metrics, not tracing)


def test_the_environment_is_laid_over_the_embedded_configuration_too() -> None:
    """`RADGATEWAY_…` works without a file."""
    config = default_config({"RADGATEWAY_MODELS__GPT_4O_MINI__STRATEGY": "weighted"})
    assert config.models["gpt-4o-mini"].strategy == "weighted"
    with pytest.raises(ConfigError, match="RADGATEWAY_SERVER__PORT"):
        default_config({"RADGATEWAY_SERVER__PORT": "x"})


@pytest.mark.parametrize(
    ("timeouts", "first_byte_s", "answer_s"),
    [
        ("", 30, 86_400),
        (", timeouts: {total_s: 900}", 30, 86_400),
        (", timeouts: {first_byte_s: 5}", 5, None),
        (", timeouts: {first_byte_s: 5, answer_s: 90}", 5, 90),
        (", timeouts: {answer_s: null}", 30, None),
    ],
)
def test_how_long_a_whole_answer_may_take(
    tmp_path: Path, timeouts: str, first_byte_s: float, answer_s: float | None
) -> None:
    """Who sets `first_byte_s` means it for all answers; who does not has only `total_s` for those
    that do not stream, since their first byte comes with their last token."""
    config = loaded(tmp_path, SMALL.replace("kind: mock", "kind: mock" + timeouts))
    clocks = config.providers["mock"].timeouts
    assert (clocks.first_byte_s, clocks.answer_s) == (first_byte_s, answer_s)
    assert clocks.clocks.answer_s == answer_s
