"""The settings of the pack from a YAML file, with every mistake found in one go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from radgateway.config.bind import Binder
from radgateway.config.load import load_config, read_file
from radgateway.config.problems import Report
from radgateway.config.tree import note_places
from radgateway.slo.settings import Settings


def load_settings(file: Path | None, config: Path | None = None) -> Settings:
    """The settings of a file, or the defaults where there is none. Raises `ConfigError`.

    Of a gateway's `config`, where one is given, are the objectives, whatever the file says.
    """
    settings = _settings(file)
    if config is None:
        return settings
    return replace(settings, objectives=load_config(config, resolve=False).slo)


def _settings(file: Path | None) -> Settings:
    if file is None:
        return Settings()
    root = read_file(file)
    report = Report()
    note_places(root, report)
    settings = Binder(report).section(Settings, root)
    report.raise_if_any()
    assert isinstance(settings, Settings)
    return settings
