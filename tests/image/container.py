"""Runs an image's files as its configuration says, and as strictly as a cluster does."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from processes import Process, started

_ENTRY = Path(__file__).with_name("container_entry.py")


@contextlib.contextmanager
def running(
    root: Path,
    config: Mapping[str, Any],
    data: Path,
    *,
    command: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    """A container of an image: its entry point with `command` in place of its own."""
    order = {
        "root": str(root),
        "data": str(data),
        "user": config["User"],
        "directory": config["WorkingDir"],
        "arguments": [*config["Entrypoint"], *(config["Cmd"] if command is None else command)],
        "environ": {**dict(each.split("=", 1) for each in config["Env"]), **(environ or {})},
    }
    with started([str(_ENTRY), json.dumps(order)], data) as process:
        yield process


def volume(folder: Path) -> Path:
    """A new data volume, the user's own as a runtime makes it from the image's folder."""
    folder.mkdir()
    os.chown(folder, 65532, 65532)
    return folder
