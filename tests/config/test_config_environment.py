"""Every key from the environment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from config.config_cases import DOCUMENTED, SMALL, loaded, refused, written
from hypothesis import given, settings
from hypothesis import strategies as st

from radgateway.config import ConfigError, Dsn, GatewayConfig, Secret, load_config
from radgateway.config.original import _READERS
from radgateway.config.shape import Shape, keys_of

WHOLE = (
    DOCUMENTED.replace("mock: {kind: mock,", "mock: {kind: mock, faults: {latency_ms: 0},")
    .replace("weight: 80}", "weight: 80, price: {input: 1, output: 2}}")
    .replace("max_concurrency: 20}", "max_concurrency: 20, budget: {usd: 5}}")
    .replace("    strategy:", "    limits: {budget: {usd: 5}}\n    strategy:")
) + (
    "limits: {per_caller: {budget: {usd: 5}}, total: {budget: {usd: 5}}}\n"
    'jwt: {issuer: i, audience: a, jwks_url: "https://issuer.test/keys"}\n'
    "secrets: {infisical: {project_id: p, environment: e, client_id: c, client_secret: s}}\n"
)
"""The documented example with the optional sections that it leaves out."""

STEPS = {
    ("providers", "openai"): "OPENAI",
    ("providers", "mock"): "MOCK",
    ("models", "gpt-4o-mini"): "GPT_4O_MINI",
}
VALUES: dict[str, tuple[str, Any]] = {
    # values that are not the example's, and fit
    "environment": ("alpha", "alpha"),
    "server.host": ("::1", "::1"),
    "slo.availability.target": ("0.97", Decimal("0.97")),
    "slo.error_rate.target": ("0.97", Decimal("0.97")),
    "slo.overhead_p95.target": ("0.97", Decimal("0.97")),
    "slo.overhead_p99.target": ("0.97", Decimal("0.97")),
    "slo.first_token_p95.target": ("0.97", Decimal("0.97")),
    "slo.first_token_p99.target": ("0.97", Decimal("0.97")),
    "slo.availability.window_days": ("29", 29),
    "slo.error_rate.window_days": ("29", 29),
    "slo.overhead_p95.window_days": ("29", 29),
    "slo.overhead_p99.window_days": ("29", 29),
    "slo.first_token_p95.window_days": ("29", 29),
    "slo.first_token_p99.window_days": ("29", 29),
    "slo.overhead_p95.below_s": ("0.5", Decimal("0.5")),
    "slo.overhead_p99.below_s": ("5", Decimal("5")),
    "slo.first_token_p95.below_s": ("0.5", Decimal("0.5")),
    "slo.first_token_p99.below_s": ("5", Decimal("5")),
    "keys[0].name": ("other", "other"),
    "keys[0].priority": ("high", "high"),
    "admin_keys[0].name": ("other", "other"),
    "providers.openai.base_url": ("http://localhost:1/v1", "http://localhost:1/v1"),
    "providers.mock.kind": ("mock", "mock"),
    "providers.openai.kind": ("anthropic", "anthropic"),
    "models.gpt-4o-mini.strategy": ("sticky", "sticky"),
    "models.gpt-4o-mini.candidates[0].provider": ("mock", "mock"),
    "models.gpt-4o-mini.candidates[0].model": ("x:y#z", "x:y#z"),
    "storage.journal": ("waiting", "waiting"),
    "storage.usage": ("memory://", Dsn("memory://")),
    "storage.limits": ("redis://h:1/0", Dsn("redis://h:1/0")),
    **{
        f"{owner}.budget.per": ("day", "day")
        for owner in ("keys[0]", "models.gpt-4o-mini.limits", "limits.per_caller", "limits.total")
    },
    "prices.source": ("none", "none"),
    "prices.file": ("prices.yaml", "prices.yaml"),
    "telemetry.log_level": ("error", "error"),
    "telemetry.tracing.exporter": ("stdout", "stdout"),
    "telemetry.tracing.otlp_endpoint": ("jaeger-collector:4317", "jaeger-collector:4317"),
    "upstream.client": ("httpx", "httpx"),
    "limits.on_storage_failure": ("local", "local"),
    "server.max_body_bytes": ("4096", 4096),
    "jwt.jwks_url": ("https://other.test/keys", "https://other.test/keys"),
    "jwt.max_stale_s": ("60", 60.0),
    "secrets.infisical.url": ("https://store.test", "https://store.test"),
    "secrets.infisical.project_id": ("q", "q"),
    "secrets.infisical.environment": ("prod", "prod"),
    "secrets.infisical.path": ("/rad-gateway", "/rad-gateway"),
    "secrets.infisical.max_stale_s": ("600", 600.0),
    "jwt.issuer": ("https://other.test/", "https://other.test/"),
    "jwt.audience": ("b", "b"),
    "jwt.name_claim": ("azp", "azp"),
    "providers.openai.probe.interval_s": ("60", 60.0),
    "providers.openai.probe.path": ("/health", "/health"),
    "retry_budget.storm_tokens": ("40", 40.0),
    "storage.retention.hourly_days": ("45", 45),
    "storage.retention.daily_days": ("100", 100),
    "models.gpt-4o-mini.hedge.quantile": ("0.9", 0.9),
    **{
        f"providers.{name}.adaptive.{key}": ("0.5", 0.5)
        for name in ("openai", "mock")
        for key in ("keep_ratio", "tolerance_ratio")
    },
    "providers.openai.breaker.window_calls": ("20", 20),
    "providers.mock.breaker.window_calls": ("20", 20),
    "providers.openai.faults.error_status": ("500", 500),
    "providers.mock.faults.error_status": ("500", 500),
    "providers.openai.faults.header": ("x-chaos", "x-chaos"),
    "providers.mock.faults.header": ("x-chaos", "x-chaos"),
}
BY_TYPE: dict[type, tuple[str, Any]] = {
    bool: ("true", True),
    int: ("3", 3),
    float: ("1", 1.0),
    Decimal: ("0.25", Decimal("0.25")),
    Secret: ("sk-: #*&!", Secret("sk-: #*&!")),
}
LISTS: dict[str, tuple[str, Any]] = {
    "limits": ('["5/second"]', ("5/second",)),
    "token_limits": ("[5/second, 9/day]", ("5/second", "9/day")),
    "input_token_limits": ("[5/second]", ("5/second",)),
    "output_token_limits": ("[5/second]", ("5/second",)),
    "money_limits": ("[0.5/day]", ("0.5/day",)),
    "requests": ("[5/second]", ("5/second",)),
    "tokens": ("[5/second]", ("5/second",)),
    "input_tokens": ("[5/second]", ("5/second",)),
    "output_tokens": ("[5/second]", ("5/second",)),
    "money": ("[0.5/day]", ("0.5/day",)),
    "algorithms": ("[ES256]", ("ES256",)),
    "aliases": ('["four"]', ("four",)),
    "models": ('["four"]', ("four",)),
}
SKIPPED = {
    "slo.availability.below_s",
    "slo.error_rate.below_s",
    "providers.openai.latency_ms",
    "providers.openai.tokens_per_s",
    "providers.openai.error_ratio",
    "providers.mock.base_url",
    "providers.mock.api_key",
    "providers.mock.ca_file",
    "providers.mock.probe.interval_s",
    "providers.mock.probe.path",
    "providers.mock.probe.timeout_s",
    "providers.openai.ca_file",
    "jwt.secret",
    "jwt.jwks_file",
    "jwt.ca_file",
    "storage.breaker_hints",
    "secrets.infisical.token",
    "secrets.infisical.ca_file",
    "secrets.infisical.cache_file",
    "secrets.infisical.cache_key",
}
"""Keys of the other kind of provider or source, those that must be a file or need another key, and
what an objective about answers has not."""


def _leaves(shape: Shape, path: str, steps: tuple[str, ...]) -> Iterator[tuple[str, str, Shape]]:
    """Every key below a section: its path, its variable, its shape."""
    for name, key in keys_of(shape.type).items():
        here = f"{path}.{name}" if path else name
        there = (*steps, name.upper())
        inner = key.shape
        item = inner.item if inner.item is not None and inner.item.kind == "section" else None
        if inner.kind == "section":
            yield from _leaves(inner, here, there)
        elif item is not None and inner.kind == "list":
            yield from _leaves(item, f"{here}[0]", (*there, "0"))
        elif item is not None:
            for (section, entry), step in STEPS.items():
                if section == name:
                    yield from _leaves(item, f"{here}.{entry}", (*there, step))
        elif here not in SKIPPED and name != "headers":
            yield here, "RADGATEWAY_" + "__".join(there), inner


LEAVES = list(_leaves(Shape("section", GatewayConfig), "", ()))


def _at(config: object, path: str) -> object:
    value: Any = config
    for step in path.replace("gpt-4o-mini", "MODEL").replace("]", "").replace("[", ".").split("."):
        name = step.replace("MODEL", "gpt-4o-mini")
        if is_dataclass(value):
            value = getattr(value, name)
        else:
            value = value[int(name) if isinstance(value, tuple) else name]
    return value


@pytest.mark.parametrize(
    ("path", "variable", "shape"),
    LEAVES,
    ids=[path for path, _, _ in LEAVES],
)
def test_every_key_can_be_set(tmp_path: Path, path: str, variable: str, shape: Shape) -> None:
    """For each key of the schema, its variable wins over the file."""
    name = path.rpartition(".")[2]
    text, expected = VALUES.get(path) or LISTS.get(name) or BY_TYPE[shape.type]
    config = loaded(tmp_path, WHOLE, {variable: text})
    assert _at(config, path) == expected


def test_the_walk_covers_the_schema() -> None:
    """The walk above goes through all sections, lists and mappings there are."""
    assert len(LEAVES) > 80
    assert {path.partition(".")[0].partition("[")[0] for path, _, _ in LEAVES} == set(
        keys_of(GatewayConfig)
    )


def test_headers_are_set_by_name(tmp_path: Path) -> None:
    """A mapping of values has an entry a variable, or is given whole and merged."""
    text = SMALL.replace("{kind: mock}", "{kind: mock, headers: {X-Team: a}}")
    environ = {
        "RADGATEWAY_PROVIDERS__MOCK__HEADERS__X_TEAM": "b",
        "RADGATEWAY_PROVIDERS__MOCK__HEADERS": '{"X-More": "c"}',
    }
    headers = loaded(tmp_path, text, environ).providers["mock"].headers
    assert {name: value.reveal() for name, value in headers.items()} == {
        "X-Team": "b",
        "X-More": "c",
    }


def test_lists_are_set_whole_or_by_index(tmp_path: Path) -> None:
    """JSON replaces a list; an index changes an item or adds the next one."""
    keys = [{"name": "j", "secret": "json-key"}]
    config = loaded(
        tmp_path,
        SMALL,
        {
            "RADGATEWAY_KEYS": json.dumps(keys),
            "RADGATEWAY_KEYS__1__NAME": "k",
            "RADGATEWAY_KEYS__1__SECRET": "plain-key",
            "RADGATEWAY_KEYS__2__NAME": "l",
            "RADGATEWAY_KEYS__2__SECRET": "env:RAD_ADMIN_KEY",
        },
    )
    assert [(key.name, key.secret.reveal()) for key in config.keys] == [
        ("j", "json-key"),
        ("k", "plain-key"),
        ("l", "the-key-of-an-admin"),
    ]
    assert config.notices == ()  # a secret in the environment is where it may be


def test_a_provider_and_a_model_can_be_made_of_variables_alone() -> None:
    """A gateway needs no file."""
    environ = {
        "RADGATEWAY_KEYS": "[]",
        "RADGATEWAY_PROVIDERS__VLLM__KIND": "openai",
        "RADGATEWAY_PROVIDERS__VLLM__BASE_URL": "http://localhost:8000",
        "RADGATEWAY_MODELS": '{"*": {"candidates": [{"provider": "vllm"}]}}',
    }

    config = load_config({}, environ)
    assert list(config.providers) == ["vllm"]
    assert config.models["*"].candidates[0].model == "*"


@pytest.mark.parametrize("name", ["GPT_4_1", "gpt_4_1", "Gpt_4_1"])
def test_names_match_without_case_and_with_underscores(tmp_path: Path, name: str) -> None:
    """`_` stands for what a shell allows in no variable."""
    text = SMALL + "  gpt-4.1: {candidates: [{provider: mock}]}\n"
    config = loaded(tmp_path, text, {f"RADGATEWAY_MODELS__{name}__STRATEGY": "weighted"})
    assert config.models["gpt-4.1"].strategy == "weighted"


BAD_VARIABLES = [
    ("RADGATEWAY_SERVR__PORT", "1", "did you mean 'server'?"),
    ("RADGATEWAY_SERVER__PROT", "1", "there is no key 'prot'; did you mean 'port'?"),
    ("RADGATEWAY_SERVER__PORT__X", "1", "there is nothing below it at 'X'"),
    ("RADGATEWAY_KEYS__5__NAME", "a", "'5' is no index of a list with 1 items"),
    ("RADGATEWAY_KEYS__X__NAME", "a", "'X' is no index"),
    ("RADGATEWAY_MODELS____STRATEGY", "a", "a name is missing"),
    ("RADGATEWAY_KEYS", "[", "is not YAML"),
    ("RADGATEWAY_KEYS", "x: y", "must be a list"),
    ("RADGATEWAY_", "x", "there is no key"),
    ("RADGATEWAY_SERVER__PORT", "x", "must be a whole number, not 'x'"),
    ("RADGATEWAY_SERVER__PORT", "70000", "at most 65535"),
]


@pytest.mark.parametrize(("variable", "text", "message"), BAD_VARIABLES)
def test_a_variable_that_means_nothing_is_an_error(
    tmp_path: Path, variable: str, text: str, message: str
) -> None:
    """It is named, and so is what is wrong."""
    problems = refused(written(tmp_path, SMALL), {variable: text})
    assert message in problems[0].message
    assert variable in str(problems[0])
    assert problems[0].line is None


def test_a_name_that_fits_two_is_an_error(tmp_path: Path) -> None:
    """Which of them was meant is not guessed."""
    text = SMALL + "".join(f"  {n}: {{candidates: [{{provider: mock}}]}}\n" for n in ("a-b", "a.b"))
    (problem,) = refused(written(tmp_path, text), {"RADGATEWAY_MODELS__A_B__STRATEGY": "weighted"})
    assert "fits more than one name: a-b, a.b" in problem.message


def test_kubernetes_service_links_and_reserved_names_are_not_ours(tmp_path: Path) -> None:
    """A Service called radgateway puts variables with our prefix in every pod."""
    link = {
        "RADGATEWAY_SERVICE_HOST": "10.0.0.1",
        "RADGATEWAY_SERVICE_PORT": "8090",
        "RADGATEWAY_SERVICE_PORT_HTTP": "8090",
        "RADGATEWAY_PORT": "tcp://10.0.0.1:8090",
        "RADGATEWAY_PORT_8090_TCP": "tcp://10.0.0.1:8090",
        "RADGATEWAY_PORT_8090_TCP_PROTO": "tcp",
        "RADGATEWAY_PORT_8090_TCP_PORT": "8090",
        "RADGATEWAY_PORT_8090_TCP_ADDR": "10.0.0.1",
        "RADGATEWAY_CONFIG": "/etc/gateway.yaml",
        "RADGATEWAY_SERVER__PORT": "",  # what compose passes for a variable that is not set
    }
    assert loaded(tmp_path, SMALL, link) == loaded(tmp_path, SMALL)


def test_the_environment_decides_whose_defaults_hold(tmp_path: Path) -> None:
    """RADGATEWAY_ENVIRONMENT wins over the file's, and its row of the matrix comes with it."""
    config = loaded(tmp_path, "environment: local\n" + SMALL, {"RADGATEWAY_ENVIRONMENT": "staging"})
    assert (config.environment, config.telemetry.tracing.enabled) == ("staging", True)


_STEPS = st.sampled_from(
    ["SERVER", "PORT", "KEYS", "0", "1", "NAME", "PROVIDERS", "MOCK", "X", "KIND", "BREAKER", ""]
)
_TEXTS = st.one_of(
    st.sampled_from(["1", "null", "[]", "{}", '[{"name": "a"}]', "mock", "{", "~", "- x"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6),
)


@settings(max_examples=300, deadline=None)
@given(
    ours=st.dictionaries(st.lists(_STEPS, max_size=4).map("__".join), _TEXTS, max_size=4),
    theirs=st.dictionaries(st.sampled_from(sorted(_READERS)), _TEXTS, max_size=3),
)
def test_no_environment_makes_it_raise_anything_else(
    ours: dict[str, str], theirs: dict[str, str]
) -> None:
    """Whatever is set to whatever, the outcome is a configuration or a ConfigError."""
    environ = {f"RADGATEWAY_{name}": text for name, text in ours.items()} | theirs
    with suppress(ConfigError):
        load_config(None, environ)
