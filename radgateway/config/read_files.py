"""The files that a configuration names, by what is in them: they change without it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from radgateway.config.schema import GatewayConfig

Marks = dict[str, tuple[str, str]]
"""A file's name and a digest of its content, by the key that names it."""


def content_mark(name: str | None) -> str:
    """A digest of a file's content; empty for no file, and for one that can't be read."""
    if name is None:
        return ""
    try:
        return hashlib.sha256(Path(name).read_bytes()).hexdigest()
    except OSError:
        return ""  # whoever needs what is in it says so


def file_marks(config: GatewayConfig) -> Marks:
    """What is in the files that are read when a configuration is put in force."""
    named = {f"providers.{name}.ca_file": each.ca_file for name, each in config.providers.items()}
    named["prices.file"] = config.prices.file
    if config.jwt is not None:
        named["jwt.ca_file"] = config.jwt.ca_file
    return {key: (name, content_mark(name)) for key, name in named.items() if name is not None}


def rewritten(before: Marks, now: Marks) -> list[str]:
    """The keys whose file is the same by name and not by content."""
    return [
        key
        for key, (name, mark) in now.items()
        if key in before and before[key][0] == name and before[key][1] != mark
    ]
