"""Metrics over several worker processes: the directory they share, and the dead among them.

prometheus_client decides at its import whether values live in shared files, so the directory has
to be named in the environment before that; this module therefore does not import it.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_LIVE_GAUGE = re.compile(r"gauge_live[a-z]*_(\d+)\.db")


def share_metrics() -> str:
    """Name a directory for the workers about to start, and return it.

    To be called by the parent process before anything imports prometheus_client. A directory that
    the environment names already is kept, and emptied: values of an earlier run are not ours.
    """
    named = os.environ.get(VARIABLE)
    if named:
        directory = Path(named)
        directory.mkdir(parents=True, exist_ok=True)
        for file in directory.glob("*.db"):
            file.unlink(missing_ok=True)
        return named
    made = tempfile.mkdtemp(prefix="radgateway-metrics-")
    os.environ[VARIABLE] = made
    return made


def shared_directory() -> str | None:
    """The directory shared with other workers, or None where there is one process."""
    return os.environ.get(VARIABLE) or None


def drop_dead_gauges(directory: str) -> None:
    """Remove the gauges of processes that have ended; their counters stay in the sums."""
    for file in Path(directory).iterdir():
        match = _LIVE_GAUGE.fullmatch(file.name)
        if match is not None and not _alive(int(match[1])):
            with contextlib.suppress(OSError):  # another worker was faster
                file.unlink()


def live_workers(directory: str) -> list[int]:
    """The processes that share a directory and have not ended."""
    matches = (_LIVE_GAUGE.fullmatch(file.name) for file in Path(directory).iterdir())
    return sorted(pid for pid in {int(match[1]) for match in matches if match} if _alive(pid))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
