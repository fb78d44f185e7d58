"""Reading a configuration: one file, the environment, the original's variables, and the defaults.

What is said more explicitly wins: environment, then file, then the original's variables, then the
defaults of the environment's row. All problems are found in one go and raised as one
`ConfigError`. This is the only place that reads the process's environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path as FilePath
from typing import Any

from radgateway.config import checks, defaults, environment, original
from radgateway.config.bind import Binder
from radgateway.config.prices import PriceFile
from radgateway.config.problems import ConfigError, Path, Problem, Report, dotted
from radgateway.config.references import local, references_in
from radgateway.config.references import resolve as resolve_references
from radgateway.config.schema import GatewayConfig
from radgateway.config.tree import (
    MAX_BYTES,
    Node,
    NotYaml,
    from_values,
    is_null,
    merge,
    note_places,
    parse_yaml,
)
from radgateway.secrets.at_start import SecretsAtStart
from radgateway.secrets.reading import STORE, StoreReading

Source = FilePath | str | Mapping[str, Any] | GatewayConfig | None
"""A file, its content as a mapping, a finished configuration, or None for the embedded one."""


def load_config(
    source: Source,
    environ: Mapping[str, str] | None = None,
    *,
    resolve: bool = True,
    ask_store: bool = True,
    known: StoreReading | None = None,
) -> GatewayConfig:
    """The configuration to build a gateway from, its secrets read. Raises `ConfigError`.

    `environ` is the process's own by default. A `GatewayConfig` is taken as it is, with nothing
    laid over it. `resolve=False` leaves references unread, for checking a file away from where
    its secrets are; `ask_store=False` leaves those of the store alone. `known` is what is known of
    the store, should it not answer.
    """
    environ = os.environ if environ is None else environ
    report = Report()
    read: _ReadSecrets = _left_alone
    if resolve:
        read = partial(_all_read, environ, known) if ask_store else partial(_local_read, environ)
    if isinstance(source, GatewayConfig):
        return _finish(source, report, None, read)
    root = _tree(source, environ, report)
    note_places(root, report)
    binder = Binder(report)
    config = binder.section(GatewayConfig, root)
    if not isinstance(config, GatewayConfig):
        report.raise_if_any()
        raise AssertionError("a configuration without problems was not made")
    _require(root, report)
    _judge_literals(config, binder, report)
    given = root.value.get("providers") if isinstance(root.value, dict) else None
    names = given.value if given is not None and isinstance(given.value, dict) else {}
    return _finish(config, report, binder, read, providers=names)


ReadAgain = Callable[[StoreReading | None], GatewayConfig]
"""Reads a configuration once more; gets what is known of the secrets store, should it be away."""


def reader(source: Source, config: GatewayConfig) -> ReadAgain:
    """Reads again what `config` came from, with the environment as it is then.

    A key that was made up for it stays the same: nobody could know another one.
    """
    made_up = next((key.secret.reveal() for key in config.keys if key.secret.generated), None)
    kept = {"RAD_KEY": made_up} if made_up is not None else {}
    return lambda known: load_config(source, {**os.environ, **kept}, known=known)


def default_config(environ: Mapping[str, str] | None = None) -> GatewayConfig:
    """The embedded configuration, which a gateway without a file serves. Raises `ConfigError`.

    A key that had to be made up has `secret.generated`; whoever starts the gateway prints it once,
    and hands it to its workers as `RAD_KEY`.
    """
    return load_config(None, environ)


def resolve_secrets(
    config: GatewayConfig, environ: Mapping[str, str] | None = None
) -> GatewayConfig:
    """A copy with every reference read. Raises `ConfigError` naming each that can't be."""
    report = Report()
    environ = os.environ if environ is None else environ
    resolved = _all_read(environ, None, config, report.add)
    report.raise_if_any()
    return resolved


def _tree(
    source: FilePath | str | Mapping[str, Any] | None, environ: Mapping[str, str], report: Report
) -> Node:
    said = original.layer(environ, report)
    given = Node({})
    if isinstance(source, Mapping):
        given = from_values(source, report)
    elif source is not None:
        given = read_file(source)
    if is_null(given):
        given = Node({}, given.source, given.line)
    name = _environment_of(given, environ)
    if source is None:
        said = merge(defaults.embedded(environ, name, report), _without_keys(said))
    elif environ.get("OLLAMA_ENABLED"):
        report.notice("OLLAMA_ENABLED has no effect: the configuration names the providers")
    if not isinstance(given.value, dict):
        return given
    root = merge(merge(defaults.matrix(name), said), given)
    environment.overlay(root, GatewayConfig, environ, report)
    original.give_vendor_keys(root, environ)
    defaults.give_answers_time(root)
    return root


def _without_keys(said: Node) -> Node:
    """Without `RAD_API_KEYS`, which the embedded configuration has already."""
    assert isinstance(said.value, dict)
    return Node({key: node for key, node in said.value.items() if key != "keys"})


def load_price_file(path: FilePath | str) -> PriceFile:
    """A file of prices. Raises `ConfigError`, with the line of each problem."""
    report = Report()
    root = read_file(path)
    note_places(root, report)
    prices = Binder(report).section(PriceFile, root)
    report.raise_if_any()
    assert isinstance(prices, PriceFile)
    return prices


def _environment_of(given: Node, environ: Mapping[str, str]) -> str:
    """The environment in force, needed before its defaults can be laid under the rest."""
    named = given.value.get("environment") if isinstance(given.value, dict) else None
    in_file = str(named.value) if named is not None and not is_null(named) else ""
    name = environ.get("RADGATEWAY_ENVIRONMENT") or in_file or original.environment_of(environ)
    return name.lower() or "local"


def read_file(source: FilePath | str) -> Node:
    name = str(source)

    def failed(message: str, line: int | None = None) -> ConfigError:
        return ConfigError([Problem("", line, message, name)])

    try:
        with open(source, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise failed(f"can't be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise failed(f"is larger than {MAX_BYTES} bytes")
    try:
        return parse_yaml(data.decode("utf-8-sig"), name)
    except UnicodeDecodeError as error:
        raise failed("is not UTF-8 text", data.count(b"\n", 0, error.start) + 1) from None
    except NotYaml as error:
        raise failed(str(error), error.line) from None
    except ImportError:
        raise failed('needs PyYAML to be read: pip install "radgateway[server]"') from None


def _require(root: Node, report: Report) -> None:
    """Report what has no default because leaving it out is more likely forgotten than meant."""
    keys = root.value if isinstance(root.value, dict) else {}
    if "keys" not in keys and ("jwt" not in keys or is_null(keys["jwt"])):
        report.add(("keys",), "is missing; name at least one, or write keys: [] for an open door")
    if "models" not in keys or is_null(keys["models"]) or not keys["models"].value:
        report.add(("models",), "is missing; without a model there is nothing to serve")


def _judge_literals(config: GatewayConfig, binder: Binder, report: Report) -> None:
    for path in binder.literals:
        if report.places.get(path, ("", 1))[0].startswith(environment.PREFIX):
            continue  # the environment is where secrets may be
        if "headers" in path:
            continue  # most are no secrets, and all are masked alike
        if config.environment in checks.DEPLOYED:
            report.add(
                path, f"holds a secret in plain text; in {config.environment} use env: or file:"
            )
        else:
            report.notice(f"{dotted(path)} holds a secret in plain text; env:NAME keeps it out")


_Add = Callable[[Path, str], None]
_ReadSecrets = Callable[[GatewayConfig, _Add], GatewayConfig]


def _all_read(
    environ: Mapping[str, str], known: StoreReading | None, config: GatewayConfig, add: _Add
) -> GatewayConfig:
    at_start = SecretsAtStart(config, config.secrets.infisical, environ, known)
    resolved = resolve_references(config, at_start.read, add)
    return replace(resolved, store_reading=at_start.reading)


def _local_read(environ: Mapping[str, str], config: GatewayConfig, add: _Add) -> GatewayConfig:
    elsewhere = {path for path, each in references_in(config).items() if each.startswith(STORE)}

    def add_local(path: Path, message: str) -> None:
        if path not in elsewhere:
            add(path, message)

    return resolve_references(config, local(environ), add_local)


def _left_alone(config: GatewayConfig, add: _Add) -> GatewayConfig:
    return config


def _finish(
    config: GatewayConfig,
    report: Report,
    binder: Binder | None,
    read: _ReadSecrets,
    *,
    providers: Mapping[str, Any] | None = None,
) -> GatewayConfig:
    """Read the secrets, check how the parts fit, and raise what was found."""

    def add(path: Path, message: str) -> None:
        report.add(binder.origin(path) if binder is not None else path, message)

    spoiled = frozenset(report.spoiled)
    config = read(config, add)
    for path, message in checks.faults(config, providers or {}):
        there = binder.origin(path) if binder is not None else path
        if there[:-1] not in spoiled or len(there) == 1:
            add(path, message)
    report.raise_if_any()
    for notice in checks.notices(config):
        report.notice(notice)
    return replace(config, notices=(*config.notices, *report.notices))
