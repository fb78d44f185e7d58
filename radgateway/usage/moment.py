"""Points in time as people and programs write them: RFC 3339, Unix seconds, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

FORMS: Final = (
    "RFC 3339 (2026-11-25T10:00:00Z, or a day in UTC: 2026-11-25), Unix seconds, "
    "or how long ago (-90s, -30m, -24h, -7d, -2w)"
)
"""What is taken, for messages and documentation."""
PATTERN: Final = (
    r"^(-?[0-9]{1,9}[smhdw]|[0-9]{1,11}(\.[0-9]{1,9})?|[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2}))?)$"
)
"""The same for JSON Schema. It knows no calendar: a 30th of February fits."""

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
# A plus that was not escaped in a query string arrives as a space, so one is taken for it.
_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?)(?:([Zz])|([-+ ])(\d{2}:\d{2}))",
    re.ASCII,
)
_UNIX = re.compile(r"\d{1,11}(\.\d{1,9})?", re.ASCII)
_AGO = re.compile(r"-?(\d{1,9})([smhdw])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment(text: str, now: float) -> float:
    """The Unix seconds that a text means. Raises `ValueError`, saying what is taken.

    `now` is what ages are counted from, in Unix seconds. A time of the day has to say its zone:
    whose it would be is otherwise a guess.
    """
    try:
        if ago := _AGO.fullmatch(text):
            return max(0.0, now - int(ago[1]) * _SECONDS[ago[2]])
        if _UNIX.fullmatch(text):
            return float(text)
        if _DAY.fullmatch(text):
            return datetime.fromisoformat(f"{text}T00:00:00+00:00").timestamp()
        if time := _TIME.fullmatch(text):
            zone = "+00:00" if time[3] else f"{time[4].replace(' ', '+')}{time[5]}"
            # Python reads microseconds; what is finer tells no two requests apart.
            clock, _, fraction = time[2].partition(".")
            fraction = f".{fraction[:6].ljust(6, '0')}" if fraction else ""
            return datetime.fromisoformat(f"{time[1]}T{clock}{fraction}{zone}").timestamp()
    except (ValueError, OverflowError):
        pass  # a 30th of February, a 25th hour
    raise ValueError(f"is no time; write {FORMS}")


def rfc3339(unix_s: float) -> str:
    """A time as the management API writes it: RFC 3339 in UTC, to the millisecond."""
    at = datetime.fromtimestamp(unix_s, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
