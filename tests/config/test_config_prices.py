"""A file of prices is read like any configuration: exactly, and with the line of each mistake."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from radgateway.assembly import prices
from radgateway.assembly.providers import model_table
from radgateway.cli import main
from radgateway.config import ConfigError, PriceConfig, PricesConfig, load_config
from radgateway.config.load import load_price_file
from radgateway.usage.price_book import Vendor

FILE = """\
version: 2026-11-25
prices:
  - {provider: openai, model: gpt-4o*, price: {input: 2.50, output: 10, cached_input: 1.25}}
  - {provider: openai, model: whisper-1, price: {input: 0, output: 0, audio_minute: 0.006}}
  - provider: gemini
    model: gemini-2.5-pro
    since: 2025-06-17
    price: {input: 1.25, output: 10}
    above: [{input_tokens: 200000, price: {input: 2.5, output: 15}}]
"""
CONFIG: dict[str, Any] = {
    "keys": [],
    "providers": {
        "main": {"kind": "openai", "api_key": "k-1"},
        "own": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"},
        "mock": {"kind": "mock"},
    },
    "models": {
        "gpt-4o": {"candidates": [{"provider": "main"}]},
        "fixed": {
            "candidates": [
                {"provider": "main", "model": "gpt-4o", "price": {"input": 1, "output": 2}},
                {"provider": "own", "model": "llama3"},
                {"provider": "mock", "model": "m"},
            ]
        },
        "gpt-4*": {"candidates": [{"provider": "main"}]},
    },
    "storage": {"usage": "memory://"},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "prices.yaml"
    made.write_text(FILE)
    return made


def test_a_file_is_read_exactly(path: Path) -> None:
    """Its version is text and its prices are the decimals that were written."""
    file = load_price_file(path)
    assert file.version == "2026-11-25"
    book = prices.listed(file)
    vendor = Vendor("main", "openai", None, True)
    price = book.price(vendor, "gpt-4o-mini")
    assert price is not None
    assert (price.input, price.cached_input, price.version) == (
        Decimal("2.50"),
        Decimal("1.25"),
        "2026-11-25",
    )
    sound = book.price(vendor, "whisper-1")
    assert sound is not None
    assert sound.audio_hour == Decimal("0.36")
    large = book.price(Vendor("g", "gemini", None, True), "gemini-2.5-pro")
    assert large is not None
    assert large.at(1.8e9).of_size(200_001).output == 15


def test_json_is_read_too(tmp_path: Path) -> None:
    """It is YAML."""
    path = tmp_path / "prices.json"
    path.write_text(
        '{"version": "1", "prices": [{"provider": "openai", "model": "m",'
        ' "price": {"input": 0.1, "output": 1e-7}}]}'
    )
    (entry,) = load_price_file(path).prices
    assert entry.price == PriceConfig(input=Decimal("0.1"), output=Decimal("1e-7"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version: 2026-11-25\n", "", "prices.yaml:1: version: is missing"),
        ("2026-11-25", "x" * 65, "version: must have 1 to 64"),
        ("input: 2.50", "input: -1", "prices.yaml:3: prices[0].price.input: must be at least 0"),
        ("input: 2.50", "input: nan", "prices.yaml:3: prices[0].price.input: must be a number"),
        ("output: 10, c", "c", "prices.yaml:3: prices[0].price.output: is missing"),
        ("cached_input", "cached", "unknown key; did you mean 'cached_input'?"),
        ("2025-06-17", "June", "prices.yaml:7: prices[2].since: must be a day such as"),
        ("200000", "0", "prices[2].above[0].input_tokens: must be at least 1"),
        ("gpt-4o*", '"gpt 4"', "prices.yaml:3: prices[0].model: must be visible ASCII"),
        ("version", "currency: EUR\nversion", "currency: must be one of USD"),
    ],
)
def test_every_mistake_has_its_line(path: Path, old: str, new: str, message: str) -> None:
    """In the file of prices, not in the one that names it."""
    path.write_text(FILE.replace(old, new, 1))
    config = load_config(CONFIG | {"prices": {"file": str(path)}}, {})
    with pytest.raises(ConfigError) as raised:
        prices.price_book(config)
    assert message in str(raised.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Not a table without prices."""
    config = load_config(CONFIG | {"prices": {"file": str(tmp_path / "none")}}, {})
    with pytest.raises(ConfigError, match="can't be read"):
        prices.price_book(config)


def test_source_and_file_have_to_fit() -> None:
    """A file that nobody reads, or no file to read, is a mistake."""
    with pytest.raises(ValueError, match="needs the path"):
        PricesConfig(source="file")
    for source in ("builtin", "none"):
        with pytest.raises(ValueError, match="is not read"):
            PricesConfig(source=source, file="x")


def test_a_candidates_own_price_wins(path: Path) -> None:
    """Then the table's; a wildcard's once its model is named."""
    config = load_config(CONFIG | {"prices": {"file": str(path)}}, {})
    table = model_table(config, prices.price_book(config))

    def versions(model: str) -> list[str | None]:
        route = table.find(model)
        assert route is not None
        return [c.price.version if c.price is not None else None for c in route.candidates]

    assert versions("fixed") == ["config", None, None]
    assert versions("gpt-4o") == ["2026-11-25"]
    assert versions("gpt-4o-mini") == ["2026-11-25"]
    assert versions("gpt-4-turbo") == [None]


@pytest.mark.parametrize(
    ("settings", "source"),
    [({}, "builtin"), ({"source": "builtin"}, "builtin"), ({"source": "none"}, "none")],
)
def test_the_package_is_the_default_where_it_is_installed(
    settings: dict[str, str], source: str
) -> None:
    """And only loaded where there is something to ask it."""
    config = load_config(CONFIG | {"prices": settings}, {})
    assert prices.price_book(config).source == source
    mocks = {"m": {"candidates": [{"provider": "mock"}]}}
    config = load_config(CONFIG | {"models": mocks}, {})
    assert prices.price_book(config).source == "none"


def test_the_package_must_be_there_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name it is an error, by default it is none."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert prices.price_book(load_config(CONFIG, {})).source == "none"
    with pytest.raises(ConfigError, match=r"prices\.source: needs genai-prices"):
        load_config(CONFIG | {"prices": {"source": "builtin"}}, {})


def test_check_config_says_what_has_no_price(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, by provider and model; a mock costs nobody anything."""
    path = tmp_path / "gateway.yaml"
    path.write_text(
        """\
keys: []
providers:
  own: {kind: openai, base_url: "http://127.0.0.1:1/v1"}
  mock: {kind: mock}
models:
  m: {candidates: [{provider: own, model: llama3}, {provider: mock, model: m}]}
  n: {candidates: [{provider: own, model: llama3}, {provider: own, model: phi}]}
"""
    )
    assert main(["check-config", str(path)]) == 0
    assert (
        "note: no price is known of own/llama3, own/phi: "
        "what they cost is null in the usage ledger" in capsys.readouterr().err
    )
