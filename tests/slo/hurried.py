"""Rules and routes in which a minute is a second.

Windows, waits and intervals are all made shorter by one factor, so they keep their proportions.
The names of records stay: `rate5m` is that of five seconds then. So do the floors: what was
five bad requests in five minutes is the same rate, five in three hundred seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

FACTOR = 60
_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_WAITS = "for|keep_firing_for|interval|initialDelay|group_wait|group_interval|repeat_interval"
_DURATION = re.compile(rf"(\[|^ *(?:- )?(?:{_WAITS}): )([0-9]+)([smhd])(?=\]|$)", re.MULTILINE)


def hurried(files: Mapping[str, str]) -> dict[str, str]:
    """The same files in a hurry."""
    return {name: _DURATION.sub(_shorter, text) for name, text in files.items()}


def evaluated_often(files: Mapping[str, str]) -> dict[str, str]:
    """The rules among some files, evaluated every second; their windows stay."""
    return {
        name: re.sub(r"interval: \w+", "interval: 1s", text)
        for name, text in files.items()
        if "/rules/" in name
    }


def _shorter(found: re.Match[str]) -> str:
    return f"{found[1]}{int(found[2]) * _MS[found[3]] // FACTOR}ms"
