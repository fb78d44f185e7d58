"""How long an answer asks to be left alone.

`Retry-After` is seconds or a date (RFC 9110 §10.2.3); OpenAI's clients and servers also know
`retry-after-ms`, which is finer and goes first.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime

_LONGEST_S = 86_400.0
"""A day; what asks for more is taken to mean that much."""


def retry_after_s(
    headers: Iterable[tuple[bytes, bytes]], wall: float | None = None
) -> float | None:
    """Seconds from now (`wall`, Unix seconds), at least 0, or None where nothing usable is said."""
    value = milliseconds = None
    for key, text in headers:
        name = key.lower()
        if name == b"retry-after":
            value = text
        elif name == b"retry-after-ms":
            milliseconds = text
    if milliseconds is not None:
        seconds = _number(milliseconds)
        if seconds is not None:
            return min(seconds / 1000, _LONGEST_S)
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None:
        seconds = _until(value, time.time() if wall is None else wall)
    return None if seconds is None else min(seconds, _LONGEST_S)


def _number(text: bytes) -> float | None:
    text = text.strip()
    whole, _, fraction = text.partition(b".")
    if not 0 < len(text) <= 18 or not whole.isdigit() or (fraction and not fraction.isdigit()):
        return None
    return float(text)


def _until(text: bytes, wall: float) -> float | None:
    try:
        moment = parsedate_to_datetime(text[:64].decode("ascii")).timestamp()
    except (ValueError, UnicodeDecodeError, OverflowError):
        return None
    return max(0.0, moment - wall)
