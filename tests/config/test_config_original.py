"""The original gateway's variables."""

from __future__ import annotations

from pathlib import Path

import pytest
from config.config_cases import SMALL, loaded, refused, written

from radgateway.config import ConfigError, GatewayConfig, default_config


def test_its_variables_keep_working() -> None:
    """Each that has a counterpart sets it."""
    config = default_config(
        {
            "RAD_ENV": "production",
            "RAD_LISTEN_ADDR": ":9000",
            "RAD_API_KEYS": "alice:key-of-alice, bob:key:of:bob",
            "RAD_RETRY_BUDGET": "0",
            "RAD_RETRY_BUDGET_RATIO": "0.5",
            "RAD_RETRY_BUDGET_MIN_PER_SEC": "3",
            "RAD_RETRY_BUDGET_TTL": "30s",
            "RAD_DB_DRIVER": "sqlite",
            "RAD_DB_DSN": "file:/var/lib/usage.db?cache=shared",
            "RAD_REDIS_ADDR": "cache:6379",
            "RAD_REDIS_PASSWORD": "p@ss/word",
            "RAD_REDIS_DB": "2",
            "LOG_LEVEL": "ERROR",
            "OPENAI_API_KEY": "sk-original",
        }
    )
    assert config.environment == "production"
    assert (config.server.host, config.server.port) == ("0.0.0.0", 9000)
    assert [(key.name, key.secret.reveal()) for key in config.keys] == [
        ("alice", "key-of-alice"),
        ("bob", "key:of:bob"),
    ]
    budget = config.retry_budget
    assert (budget.max_attempts, budget.ratio, budget.min_per_s, budget.ttl_s) == (0, 0.5, 3, 30)
    assert config.storage.usage.path == "/var/lib/usage.db"
    assert config.storage.limits.reveal() == "redis://:p%40ss%2Fword@cache:6379/2"
    assert "word" not in str(config.storage.limits)
    assert config.telemetry.log_level == "error"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"RAD_LISTEN_ADDR": "127.0.0.1:1"}, ("127.0.0.1", 1)),
        ({"RAD_LISTEN_ADDR": "[::1]:2"}, ("::1", 2)),
        ({"RAD_LISTEN_ADDR": "localhost:3"}, ("localhost", 3)),
        ({}, ("127.0.0.1", 8090)),
    ],
)
def test_listen_addresses(variables: dict[str, str], expected: tuple[str, int]) -> None:
    """Go's forms of an address."""
    server = default_config(variables).server
    assert (server.host, server.port) == expected


@pytest.mark.parametrize(
    ("name", "environment"),
    [("dev", "local"), ("Development", "local"), ("prod", "production"), ("stage", "staging")],
)
def test_words_for_environments(tmp_path: Path, name: str, environment: str) -> None:
    """Its names for an environment are translated."""
    assert loaded(tmp_path, SMALL, {"RAD_ENV": name}).environment == environment


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("1m", 60), ("1500ms", 1.5), ("20", 20), ("0.5m2s", 32)]
)
def test_durations(text: str, seconds: float) -> None:
    """Go's durations, or plain seconds."""
    assert default_config({"RAD_RETRY_BUDGET_TTL": text}).retry_budget.ttl_s == seconds


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("usage.db", "sqlite:///usage.db"),
        ("/abs/usage.db", "sqlite:////abs/usage.db"),
        (":memory:", "memory://"),
        ("file::memory:?cache=shared", "memory://"),
        ("sqlite:///own.db", "sqlite:///own.db"),
    ],
)
def test_databases(dsn: str, expected: str) -> None:
    """Its SQLite names become addresses."""
    assert default_config({"RAD_DB_DSN": dsn}).storage.usage.reveal() == expected


@pytest.mark.parametrize(
    ("driver", "dsn", "address"),
    [
        ("", "postgresql://u:hunter22@db/rad", "postgresql://u:hunter22@db/rad"),
        (
            "postgresql",
            r"host=db password = 'hun\'ter 22' dbname=rad",
            "postgresql:///?host=db&password=hun%27ter%2022&dbname=rad",
        ),
        ("postgres", "host=db dbname=''", "postgresql:///?host=db&dbname="),
    ],
)
def test_postgresql_addresses(driver: str, dsn: str, address: str) -> None:
    """In both of its forms, in production too, and shown without what may be secret."""
    environ = {"RAD_ENV": "production", "RAD_KEY": "key-1", "OPENAI_API_KEY": "sk-1"}
    config = default_config({**environ, "RAD_DB_DRIVER": driver, "RAD_DB_DSN": dsn})
    assert config.storage.usage.reveal() == address
    assert "hun" not in str(config.storage.usage)


@pytest.mark.parametrize(
    ("driver", "dsn"), [("postgres", "host=db hunter22"), ("mysql", "u:hunter22@tcp(db)/rad")]
)
def test_other_databases_are_refused_and_their_passwords_not_shown(driver: str, dsn: str) -> None:
    """Usage is not put elsewhere in silence."""
    with pytest.raises(ConfigError, match=r"storage\.usage") as caught:
        default_config({"RAD_DB_DRIVER": driver, "RAD_DB_DSN": dsn})
    assert "hunter22" not in str(caught.value)
    assert "RAD_DB_DSN" in str(caught.value)


def test_the_file_wins_and_the_rest_stays(tmp_path: Path) -> None:
    """Key by key: what the file says, then what the original's variables say."""
    environ = {
        "RAD_LISTEN_ADDR": ":9000",
        "RAD_API_KEYS": "x:key-of-x",
        "RAD_DB_DSN": "postgresql://ignored",
        "RADGATEWAY_SERVER__HOST": "::1",
    }
    text = SMALL + "server: {port: 1}\nstorage: {usage: 'memory://'}\n"
    config = loaded(tmp_path, text, environ)
    assert (config.server.host, config.server.port) == ("::1", 1)
    assert [key.name for key in config.keys] == ["a"]
    assert config.storage.usage.reveal() == "memory://"
    assert [
        key.name
        for key in loaded(tmp_path, SMALL.partition("\n")[2], environ | {"RAD_DB_DSN": ""}).keys
    ] == ["x"]


def test_a_bad_value_is_reported_at_its_variable(tmp_path: Path) -> None:
    """The problem's source is the variable."""
    (problem,) = refused(written(tmp_path, SMALL), {"RAD_RETRY_BUDGET": "many"})
    assert str(problem) == (
        "RAD_RETRY_BUDGET: retry_budget.max_attempts: must be a whole number, not 'many'"
    )


def test_vendor_keys_go_to_the_vendor_only(tmp_path: Path) -> None:
    """OPENAI_API_KEY is given to OpenAI's address, never to another that speaks its language."""
    text = SMALL.replace(
        "  mock: {kind: mock}",
        "  mock: {kind: mock}\n  vendor: {kind: openai}\n"
        "  own: {kind: openai, base_url: 'http://localhost:1'}\n"
        "  keyed: {kind: anthropic, api_key: env:RAD_ADMIN_KEY}",
    )
    providers = loaded(tmp_path, text, {"ANTHROPIC_API_KEY": "sk-ant"}).providers
    vendor, keyed = providers["vendor"].api_key, providers["keyed"].api_key
    assert vendor is not None
    assert keyed is not None
    assert vendor.reveal() == "the-key-of-a-vendor"
    assert keyed.reveal() == "the-key-of-an-admin"
    assert providers["own"].api_key is None


@pytest.mark.parametrize(
    "variable",
    [
        "RAD_TLS_ENABLED",
        "RAD_CORS_ORIGINS",
        "RAD_CEDAR_ENABLED",
        "JWT_ACCESS_SECRET",
        "INFISICAL_TOKEN",
        "LOG_OUTPUT",
        "LOG_SOURCE",
        "FORCE_SECURE_COOKIES",
    ],
)
def test_what_has_no_effect_is_said(variable: str) -> None:
    """A notice names the variable and not its value."""
    notices = default_config({variable: "some-value"}).notices
    assert any(notice.startswith(variable) for notice in notices)
    assert "some-value" not in "".join(notices)


def test_odd_values_of_variables_others_use_too_are_notices() -> None:
    """Another program's LOG_LEVEL or LOG_FORMAT is no reason not to start."""
    config = default_config({"LOG_LEVEL": "chatty", "LOG_FORMAT": "text"})
    assert config.telemetry.log_level == "debug"
    assert len(config.notices) == 2


def test_entries_that_are_not_name_and_secret_are_said_and_not_shown() -> None:
    """The original ignored them in silence."""
    config = default_config({"RAD_API_KEYS": "sk-lonely,a:key-of-a,:x,y:"})
    assert [key.name for key in config.keys] == ["a"]
    assert any("RAD_API_KEYS" in notice for notice in config.notices)
    assert "lonely" not in repr(config)


def test_nothing_of_it_is_needed() -> None:
    """An empty environment gives no notice."""
    config = default_config({})
    assert isinstance(config, GatewayConfig)
    assert config.notices == ()


def test_the_originals_variables_of_infisical_name_a_store() -> None:
    """They make the section, below the file; a token alone, as Infisical's command sets, none."""
    environ = {
        "INFISICAL_API_URL": "https://store.test/api/",
        "INFISICAL_TOKEN": "st.0.1.2",
        "INFISICAL_WORKSPACE_ID": "project",
    }
    store = default_config(environ).secrets.infisical
    assert store is not None
    assert (store.url, store.project_id) == ("https://store.test", "project")
    assert (store.environment, store.path) == ("dev", "/rad-gateway")
    assert store.token is not None
    assert store.token.reveal() == "st.0.1.2"
    named = default_config(environ | {"INFISICAL_ENVIRONMENT": "prod"}).secrets.infisical
    assert named is not None
    assert named.environment == "prod"
    alone = default_config({"INFISICAL_TOKEN": "st.0.1.2"})
    assert alone.secrets.infisical is None
    assert alone.notices == ("INFISICAL_TOKEN has no effect without INFISICAL_WORKSPACE_ID",)
