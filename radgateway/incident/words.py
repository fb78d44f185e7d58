"""Filling templates, and the words for times and spans in them."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime
from importlib import resources
from typing import Final

_PLACE: Final = re.compile(r"\{\{(\w+)\}\}")


@functools.cache
def template(name: str) -> str:
    """The text of a file in `templates/`, without the newline at its end."""
    file = resources.files("radgateway.incident") / "templates" / name
    return file.read_text(encoding="utf-8").removesuffix("\n")


def filled(name: str, **values: str) -> str:
    """A template with its places filled. Raises `KeyError` for a place that nothing is known of.

    What is filled in is not looked at again: a value may well have braces of its own.
    """
    return _PLACE.sub(lambda place: values[place[1]], template(name))


def at(unix_s: float) -> str:
    """A time as people read it, in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def span(seconds: float) -> str:
    """A span as people say it: `45 seconds`, `5 minutes`, `1 h 20 min`, `2 d 3 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return _plural(whole, "second")
    minutes = whole // 60
    if minutes < 60:
        return _plural(minutes, "minute")
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else _plural(hours, "hour")
    return f"{hours // 24} d {hours % 24} h"


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
