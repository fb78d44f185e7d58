"""The settings of the pack from a YAML file, with every mistake found in one go."""

from __future__ import annotations

from pathlib import Path

from radgateway.config.bind import Binder
from radgateway.config.load import read_file
from radgateway.config.problems import Report
from radgateway.config.tree import note_places
from radgateway.slo.settings import Settings


def load_settings(file: Path | None) -> Settings:
    """The settings of a file, or the defaults where there is none. Raises `ConfigError`."""
    if file is None:
        return Settings()
    root = read_file(file)
    report = Report()
    note_places(root, report)
    settings = Binder(report).section(Settings, root)
    report.raise_if_any()
    assert isinstance(settings, Settings)
    return settings
