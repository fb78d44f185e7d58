"""The file: what it may say, what is wrong with it, and where."""

from __future__ import annotations

import sys
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest
from config.config_cases import DOCUMENTED, SECRETS, SMALL, loaded, refused, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radgateway.config import (
    CandidateConfig,
    ConfigError,
    GatewayConfig,
    KeyConfig,
    LimitsConfig,
    LimitSet,
    ModelConfig,
    ProviderConfig,
    Secret,
    load_config,
)


def test_the_documented_example_loads_as_it_stands(tmp_path: Path) -> None:
    """Every key of the contract's YAML means what it says."""
    config = loaded(tmp_path, DOCUMENTED)
    assert config.keys[0].secret.reveal() == SECRETS["RAD_KEY"]
    assert config.keys[0].limits == ("60/minute",)
    assert config.keys[0].token_limits == ("100000/minute",)
    assert config.keys[0].max_concurrency == 20
    assert config.admin_keys[0].name == "ops"
    openai = config.providers["openai"]
    assert openai.api_key is not None
    assert openai.api_key.reveal() == SECRETS["OPENAI_API_KEY"]
    assert openai.breaker is not None
    assert (openai.timeouts.total_s, openai.breaker.slow_ratio) == (600, 0.8)
    candidates = config.models["gpt-4o-mini"].candidates
    assert [(c.provider, c.model, c.weight) for c in candidates] == [
        ("openai", "gpt-4o-mini", 80),
        ("mock", "gpt-4o-mini", 20),
    ]
    assert config.storage.usage.path == "radgateway.db"
    assert config.telemetry.log_level == "info"
    assert config.notices == ()


def test_a_small_file_gets_the_defaults_of_its_environment(tmp_path: Path) -> None:
    """What a file leaves out comes from the matrix, and it wins where it speaks."""
    config = loaded(tmp_path, SMALL + "telemetry: {tracing: {sampling_rate: 1}}\n")
    assert (config.environment, config.telemetry.log_level) == ("local", "debug")
    assert not config.telemetry.metrics
    assert config.telemetry.tracing.sampling_rate == 1
    config = loaded(tmp_path, "environment: production\n" + SMALL)
    assert (config.telemetry.log_level, config.telemetry.metrics) == ("warn", True)
    assert config.telemetry.tracing.enabled


def test_plain_scalars_keep_their_text_where_text_belongs(tmp_path: Path) -> None:
    """`no` and `1.10` are names where a name stands, not a truth value and a number."""
    text = SMALL + "  1.10: {aliases: [no, 007, 1e3], candidates: [{provider: mock, model: on}]}\n"
    model = loaded(tmp_path, text).models["1.10"]
    assert model.aliases == ("no", "007", "1e3")
    assert model.candidates[0].model == "on"


def test_prices_are_exact(tmp_path: Path) -> None:
    """A price is the decimal that was written."""
    text = SMALL.replace("provider: mock}", "provider: mock, price: {input: 0.15, output: 0.6}}")
    price = loaded(tmp_path, text).models["m"].candidates[0].price
    assert price is not None
    assert (price.input, price.output) == (Decimal("0.15"), Decimal("0.6"))


@pytest.mark.parametrize(
    ("key", "kind"), [("breaker", "providers.mock"), ("admission", "top level")]
)
def test_null_turns_a_layer_off_and_an_empty_section_does_not(
    tmp_path: Path, key: str, kind: str
) -> None:
    """`breaker: null` is meant; a section whose keys are all commented out is not."""
    off, empty = (
        SMALL.replace("{kind: mock}", f"{{kind: mock, {key}: {value}}}")
        if kind.startswith("providers")
        else f"{SMALL}{key}: {value}\n"
        for value in ("null", "")
    )
    config = loaded(tmp_path, off)
    assert (config.admission if key == "admission" else config.providers["mock"].breaker) is None
    (problem,) = refused(written(tmp_path, empty))
    assert problem.message == "is empty; write null to turn it off"


def test_an_empty_section_that_can_not_be_off_has_its_defaults(tmp_path: Path) -> None:
    """A bare `server:` changes nothing."""
    assert loaded(tmp_path, SMALL + "server:\n").server.port == 8090


BAD_LINES = [
    # (line that is added to the small file, path, part of the message)
    ("serverr: {}", "serverr", "did you mean 'server'?"),
    ("server: {prot: 1}", "server.prot", "unknown key; did you mean 'port'?"),
    ("server: {port: x}", "server.port", "must be a whole number, not 'x'"),
    ("server: {port: 1.5}", "server.port", "must be a whole number"),
    ("server: {port: 65536}", "server.port", "must be at least 0 and at most 65535, not 65536"),
    ("server: {port: true}", "server.port", "must be a whole number"),
    ("server: {port: [1]}", "server.port", "must be a whole number"),
    ("server: [1]", "server", "must be a mapping of host, port"),
    ("server: {host: ''}", "server.host", "must be an address"),
    ("server: {drain_timeout_s: .inf}", "server.drain_timeout_s", "must be a number"),
    ("server: {drain_timeout_s: -1}", "server.drain_timeout_s", "must be at least 0"),
    ("environment: prod", "environment", "must be one of local, alpha, staging, production"),
    ("environment: producton", "environment", "did you mean 'production'?"),
    ("telemetry: {log_level: loud}", "telemetry.log_level", "must be one of debug, info"),
    ("telemetry: {metrics: 1}", "telemetry.metrics", "must be true or false"),
    ("telemetry: {tracing: {sampling_rate: 1.1}}", "telemetry.tracing.sampling_rate", "at most 1"),
    ("telemetry: {tracing: {otlp_endpoint: x}}", "telemetry.tracing.otlp_endpoint", "http"),
    ("telemetry: {tracing: {exporter: x}}", "telemetry.tracing.exporter", "otlp, stdout"),
    ("retry_budget: {ratio: 2}", "retry_budget.ratio", "must be 0 to 1, not 2"),
    ("retry_budget: {max_attempts: -1}", "retry_budget.max_attempts", "0 or more"),
    ("retry_budget: {storm_tokens: 1}", "retry_budget.storm_tokens", "2 to 1000 or None"),
    ("admission: {max_wait_s: -1}", "admission.max_wait_s", "at least 0"),
    ("upstream: {client: curl}", "upstream.client", "must be one of auto, http1, httpx"),
    ("upstream: {max_connections: 0}", "upstream.max_connections", "must be at least 1"),
    ("storage: {usage: 'mysql://h/d'}", "storage.usage", "mysql:// is not supported"),
    ("storage: {usage: radgateway.db}", "storage.usage", "sqlite:///PATH or postgresql://"),
    ("storage: {usage: 'postgresql://u:p@x@h/d'}", "storage.usage", "must be percent-encoded"),
    ("storage: {usage: 'postgresql://u:p/x@h/d'}", "storage.usage", "must be percent-encoded"),
    ("storage: {usage: 'postgresql://h/d?x=1'}", "storage.usage", "PostgreSQL's client library"),
    ("storage: {usage: 'sqlite://x.db'}", "storage.usage", "a fourth / for an absolute one"),
    ("storage: {limits: 'sqlite:///x'}", "storage.limits", "use memory:// or redis://"),
    ("storage: {breaker_hints: true}", "storage.breaker_hints", "storage.limits to be a redis://"),
    ("storage: {usage: 'env:NOT_SET'}", "storage.usage", "NOT_SET is not set"),
    ("admin_keys: [{name: x}]", "admin_keys[0].secret", "is missing"),
    ("admin_keys: {x: y}", "admin_keys", "must be a list"),
    ("admin_keys:", "admin_keys", "is empty; write [] for none"),
    ("admin_keys: [{name: 'a b', secret: 'env:RAD_ADMIN_KEY'}]", "admin_keys[0].name", "letters"),
    ("admin_keys: [{name: a, secret: 'env:RAD_KEY'}]", "admin_keys[0].secret", "keys.a"),
    ("admin_keys: [{name: a, secret: 'env:NOPE'}]", "admin_keys[0].secret", "NOPE is not set"),
    ("admin_keys: [{name: a, secret: 'infisical:x'}]", "admin_keys[0].secret", "secrets.infisical"),
    ("admin_keys: [{name: a, secret: }]", "admin_keys[0].secret", "is empty"),
    ("admin_keys: [{name: a, secret: {}}]", "admin_keys[0].secret", "must be a secret"),
]


@pytest.mark.parametrize(("line", "path", "message"), BAD_LINES)
def test_a_problem_names_the_key_the_line_and_the_way_out(
    tmp_path: Path, line: str, path: str, message: str
) -> None:
    """Each mistake is reported once, at its key and line, with what would be right."""
    file = written(tmp_path, SMALL + "# a comment\n\n" + line + "\n")
    (problem,) = refused(file)
    assert problem.path == path
    assert message in problem.message
    assert problem.line == SMALL.count("\n") + 3
    assert problem.source == str(file)
    assert str(problem).startswith(f"{file}:{problem.line}: {path}: ")


BAD_PROVIDERS = [
    ("{kind: openapi}", "providers.p.kind", "did you mean 'openai'?"),
    ("{}", "providers.p.kind", "is missing"),
    ("{kind: gemini}", "providers.p.api_key", "https://generativelanguage.googleapis.com asks"),
    ("{kind: openai, base_url: 'ftp://x'}", "providers.p.base_url", "http:// or https://"),
    ("{kind: openai, base_url: 'http://'}", "providers.p.base_url", "http:// or https://"),
    ("{kind: openai, base_url: 'http://u:p@h'}", "providers.p.base_url", "must not carry a user"),
    ("{kind: openai, base_url: 'http://h:99999'}", "providers.p.base_url", "http:// or https://"),
    ("{kind: mock, base_url: 'http://h'}", "providers.p.base_url", "no meaning for a mock"),
    ("{kind: mock, api_key: 'env:RAD_KEY'}", "providers.p.api_key", "no meaning for a mock"),
    ("{kind: mock, error_ratio: 2}", "providers.p.error_ratio", "at most 1"),
    (
        "{kind: openai, base_url: 'http://h', latency_ms: 5}",
        "providers.p.latency_ms",
        "to spoil a real one use faults",
    ),
    ("{kind: mock, max_concurrency: 0}", "providers.p.max_concurrency", "must be at least 1"),
    ("{kind: mock, max_concurrency: null, adaptive: {}}", "providers.p.adaptive", "needs max_"),
    ("{kind: mock, adaptive: {keep_ratio: 1}}", "providers.p.adaptive.keep_ratio", "0.1 to 0.99"),
    ("{kind: mock, timeouts: {answer_s: 0}}", "providers.p.timeouts.answer_s", "must be over 0"),
    ("{kind: mock, timeouts: {idle_s: 0}}", "providers.p.timeouts.idle_s", "must be over 0"),
    ("{kind: mock, breaker: {failure_ratio: 1.5}}", "providers.p.breaker.failure_ratio", "most 1"),
    (
        "{kind: mock, breaker: {window_calls: 5}}",
        "providers.p.breaker.window_calls",
        "at least min_calls (10)",
    ),
    ("{kind: mock, faults: {error_status: 200}}", "providers.p.faults.error_status", "400 to 599"),
    ("{kind: mock, headers: {Host: x}}", "providers.p.headers", "can't set 'Host'"),
    (
        "{kind: openai, base_url: 'http://h', ca_file: /no/such}",
        "providers.p.ca_file",
        "there is no file '/no/such'",
    ),
]


@pytest.mark.parametrize(("provider", "path", "message"), BAD_PROVIDERS)
def test_a_provider_that_can_not_work_is_refused(
    tmp_path: Path, provider: str, path: str, message: str
) -> None:
    """Its mistake is found before its first request, on its line."""
    text = SMALL.replace("  mock: {kind: mock}", f"  mock: {{kind: mock}}\n  p: {provider}")
    (problem,) = refused(written(tmp_path, text))
    assert (problem.path, problem.line) == (path, 4)
    assert message in problem.message


BAD_MODELS = [
    ("x: {candidates: []}", "models.x.candidates", "must hold at least one"),
    ("x: {}", "models.x.candidates", "is missing"),
    ("x: {candidates: [{provider: mock}], hedge: {}}", "models.x.hedge", "second candidate"),
    ("x: {candidates: [{provider: mock}], max_open_ratio: 0}", "models.x.max_open_ratio", "over 0"),
    ("x: {candidates: [{provider: mokc}]}", "models.x.candidates[0].provider", "mean 'mock'?"),
    ("x: {candidates: [{provider: mock, weight: 0}]}", "models.x.candidates[0].weight", "over 0"),
    ("x: {candidates: [{provider: mock}, {}]}", "models.x.candidates[1].provider", "is missing"),
    (
        "x: {candidates: [{provider: mock, price: {input: nan, output: 1}}]}",
        "models.x.candidates[0].price.input",
        "must be a number",
    ),
    (
        "x: {candidates: [{provider: mock, price: {input: -1, output: 1}}]}",
        "models.x.candidates[0].price.input",
        "must be at least 0",
    ),
    ("x: {strategy: best, candidates: [{provider: mock}]}", "models.x.strategy", "least_cost"),
    ("x: {aliases: [m], candidates: [{provider: mock}]}", "models.x", "is a name of 'm' already"),
    ("'a b': {candidates: [{provider: mock}]}", 'models["a b"]', "without spaces"),
]


@pytest.mark.parametrize(("model", "path", "message"), BAD_MODELS)
def test_a_model_that_can_not_be_served_is_refused(
    tmp_path: Path, model: str, path: str, message: str
) -> None:
    """Its mistake is found at the start, on its line."""
    (problem,) = refused(written(tmp_path, f"{SMALL}  {model}\n"))
    assert (problem.path, problem.line) == (path, 6)
    assert message in problem.message


def test_all_problems_are_found_in_one_go(tmp_path: Path) -> None:
    """One run tells everything, in the file's order, each once; what is well is left out."""
    text = """\
environment: locall
keys:
  - {name: ''}
  - {name: b, secret: env:RAD_KEY}
  - {name: b, secret: env:MISSING_ONE}
providers:
  broken: {kind: nothing}
  open: {kind: openai, base_url: http://h, timeouts: {idle_s: -1, total_s: x}}
models:
  m: {candidates: [{provider: broken}, {provider: opne}]}
server: {port: 99999}
"""
    problems = refused(written(tmp_path, text))
    assert [(problem.line, problem.path) for problem in problems] == [
        (1, "environment"),
        (3, "keys[0].secret"),
        (5, "keys[2].secret"),
        (5, "keys[2].name"),
        (7, "providers.broken.kind"),
        (8, "providers.open.timeouts.total_s"),
        (8, "providers.open.timeouts.idle_s"),
        (10, "models.m.candidates[1].provider"),
        (11, "server.port"),
    ]


def test_no_keys_is_an_error_unless_it_is_said(tmp_path: Path) -> None:
    """A forgotten list does not open the door; an empty one does, and is announced."""
    (problem,) = refused(written(tmp_path, SMALL.partition("\n")[2]))
    assert (problem.path, problem.line) == ("keys", 1)
    config = loaded(tmp_path, "keys: []\n" + SMALL.partition("\n")[2])
    assert config.keys == ()
    assert "the data plane is open" in config.notices[0]


def test_no_models_is_an_error(tmp_path: Path) -> None:
    """A gateway that could serve nothing does not start."""
    (problem,) = refused(written(tmp_path, SMALL.partition("models")[0]))
    assert problem.path == "models"


def test_the_same_secret_for_two_keys_is_an_error(tmp_path: Path) -> None:
    """Whose request it is could not be told."""
    text = SMALL.replace("[{name: a", "[{name: b, secret: env:RAD_KEY}, {name: a")
    (problem,) = refused(written(tmp_path, text))
    assert problem.path == "keys[1].secret"
    assert problem.message == "is the same secret as that of keys.b"


def test_production_is_stricter(tmp_path: Path) -> None:
    """No faults and no secret in the file; a mock is pointed out."""
    text = "environment: production\n" + SMALL.replace(
        "{kind: mock}", "{kind: mock, faults: {error_ratio: 0.1}}"
    )
    (problem,) = refused(written(tmp_path, text))
    assert problem.path == "providers.mock.faults"
    assert loaded(tmp_path, text.replace("production", "staging")).providers["mock"].faults
    armable = "environment: production\nchaos: {allow: true}\n" + SMALL
    assert any("can inject faults" in notice for notice in loaded(tmp_path, armable).notices)
    notices = loaded(tmp_path, "environment: production\n" + SMALL).notices
    assert any("mock in production" in notice for notice in notices)
    assert any("meant to have PostgreSQL" in notice for notice in notices)
    shared = f"environment: production\nstorage: {{usage: 'postgresql://h/d'}}\n{SMALL}"
    assert not any("PostgreSQL" in notice for notice in loaded(tmp_path, shared).notices)


BROKEN_FILES: list[tuple[bytes, int | None, str]] = [
    (b"a: [1", 1, "is not YAML"),
    (b"a: 1\nb:\n\t- c", 3, "is not YAML"),
    (b"a: 1\na: 2\n", 2, "the key 'a' is given twice"),
    (b"server:\n  port: 1\n  port: 2\n", 3, "the key 'port' is given twice"),
    (b"a: &x 1\n", 1, "anchors and aliases are not supported"),
    (b"a: 1\nb: *a\n", 2, "anchors and aliases are not supported"),
    (b"a: !!python/object/apply:os.system [x]\n", 1, "tags are not supported"),
    (b"a: 1\n---\nb: 1\n", 2, "holds a second document"),
    (b"? [1, 2]\n: 3\n", 1, "a key must be text"),
    (b"a: 1\nb: \x00\n", 2, "holds a control character"),
    (b"a: 1\nb: \xff\n", 2, "is not UTF-8 text"),
    (b'a: "\\U99999999"', None, "an escape stands for no character"),
    (b'a: "\\ud800"', 1, "an escape stands for no character"),
    (b"[" * 100_000, 1, "nested deeper than"),
    (b"a" * (1024 * 1024 + 1), None, "is larger than 1048576 bytes"),
]


@pytest.mark.parametrize(("data", "line", "message"), BROKEN_FILES)
def test_a_file_that_is_no_configuration_is_refused_with_its_line(
    tmp_path: Path, data: bytes, line: int | None, message: str
) -> None:
    """Broken, hostile and oversized files end in one clear problem."""
    path = tmp_path / "gateway.yaml"
    path.write_bytes(data)
    (problem,) = refused(path)
    assert message in problem.message
    assert problem.line == line


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The message has the path and the system's reason."""
    (problem,) = refused(str(tmp_path / "none.yaml"))
    assert "none.yaml: can't be read: No such file" in str(problem)


@pytest.mark.parametrize("text", ["", "# nothing\n", "null\n", "{}\n"])
def test_an_empty_file_lacks_keys_and_models(tmp_path: Path, text: str) -> None:
    """It is not taken for the embedded configuration."""
    assert [problem.path for problem in refused(written(tmp_path, text))] == ["keys", "models"]


@pytest.mark.parametrize("text", ["[]\n", "hello\n", "3\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    """Only a mapping has keys."""
    (problem,) = refused(written(tmp_path, text))
    assert (problem.line, problem.path) == (1, "")
    assert problem.message.startswith("must be a mapping")


def test_a_mapping_is_as_good_as_a_file(tmp_path: Path) -> None:
    """Code passes the same keys as Python values."""
    mapping = {
        "keys": [{"name": "a", "secret": Secret("the-key-of-a-caller")}],
        "providers": {"mock": {"kind": "mock", "max_concurrency": None}},
        "models": {"m": {"candidates": ({"provider": "mock", "weight": 2},)}},
        "server": {"port": 0, "drain_timeout_s": 1.5},
    }
    config = load_config(mapping, {})
    assert config.keys[0].secret.reveal() == "the-key-of-a-caller"
    assert config.providers["mock"].max_concurrency is None
    assert (config.server.port, config.server.drain_timeout_s) == (0, 1.5)
    assert config.notices == ()


@pytest.mark.parametrize(
    ("value", "message"),
    [({1: 2}, "text for keys"), (b"x", "can't be a bytes"), (object(), "can't be a object")],
)
def test_a_mapping_of_other_things_is_refused(value: object, message: str) -> None:
    """A value of no type of ours is a problem, not a crash."""
    problems = refused({"keys": [], "models": {}, "server": value})
    assert message in str(problems[0])


def test_a_mapping_that_contains_itself_ends() -> None:
    """Nesting is bounded."""
    loop: dict[str, object] = {}
    loop["server"] = loop
    assert "nested deeper" in "".join(map(str, refused(loop)))


def test_a_finished_configuration_is_checked_and_its_secrets_read() -> None:
    """An object built in code passes the same checks, and nothing is laid over it."""
    config = GatewayConfig(
        keys=(KeyConfig(name="a", secret=Secret(reference="env:RAD_KEY")),),
        providers={"mock": ProviderConfig(kind="mock")},
        models={"m": ModelConfig(candidates=(CandidateConfig(provider="mock"),))},
    )
    ready = load_config(config, SECRETS | {"RADGATEWAY_SERVER__PORT": "1"})
    assert ready.keys[0].secret.reveal() == SECRETS["RAD_KEY"]
    assert ready.server.port == 8090
    wrong = ModelConfig(candidates=(CandidateConfig(provider="none"),))
    (problem,) = refused(GatewayConfig(keys=config.keys, models={"m": wrong}))
    assert problem.path == "models.m.candidates[0].provider"


@pytest.mark.parametrize(
    "make",
    [
        lambda: ProviderConfig(kind="mock", error_ratio=-0.1),
        lambda: ProviderConfig(kind="openai", base_url="nowhere"),
        lambda: KeyConfig(name="", secret=Secret("x")),
        lambda: KeyConfig(name="a", secret=Secret("x"), limits=("often",)),
        lambda: KeyConfig(name="a", secret=Secret("x"), limits=("0/minute",)),
        lambda: KeyConfig(name="a", secret=Secret("x"), limits=("1/minute;2/hour",)),
        lambda: KeyConfig(name="a", secret=Secret("x"), money_limits=("0.0000000001/day",)),
        lambda: LimitsConfig(replicas=0),
        lambda: LimitSet(output_tokens=("1.5/day",)),
        lambda: ModelConfig(candidates=()),
    ],
)
def test_parts_built_in_code_refuse_what_is_out_of_range(make: object) -> None:
    """A ValueError starts with the field's name."""
    assert callable(make)
    names = "error_ratio|base_url|name|limits|candidates|money_limits|replicas|output_tokens"
    with pytest.raises(ValueError, match=rf"^({names}) must"):
        make()


def test_yaml_is_only_needed_for_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without PyYAML a file's problem says what to install, and a mapping works."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    (problem,) = refused(written(tmp_path, SMALL))
    assert 'pip install "radgateway[server]"' in problem.message
    assert load_config(None, {}).models


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_no_file_makes_it_raise_anything_else(tmp_path: Path, data: bytes) -> None:
    """Whatever is in the file, the outcome is a configuration or a ConfigError."""
    path = tmp_path / "gateway.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError):
        load_config(path, {})


_NAMES = """
server port keys name secret providers mock kind models m candidates provider breaker
timeouts idle_s limits weight price input storage usage headers aliases telemetry
"""
_KEYS = st.sampled_from(_NAMES.split())
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("mock")
)
_TREES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=400, deadline=None)
@given(tree=st.dictionaries(_KEYS, _TREES, max_size=5))
def test_no_mapping_makes_it_raise_anything_else(tree: dict[str, object]) -> None:
    """Whatever stands where, the outcome is a configuration or a ConfigError."""
    with suppress(ConfigError):
        load_config(tree, {})


def test_postgresql_without_its_driver_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start, not with the first row."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "radgateway.usage.postgres_connection", raising=False)
    text = SMALL + "storage: {usage: 'postgresql://h/d'}\n"
    (problem,) = refused(written(tmp_path, text))
    assert problem.message == 'needs psycopg: pip install "radgateway[postgres]"'
