"""Keeps secrets out of log lines: by the name of a field, and by the look of a value.

The last step before a line is written, so whatever put a key into a message, an exception's text
or a nested field, it does not leave the process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

REDACTED: Final = "[redacted]"

TEXT_LIMIT: Final = 8_192
"""Characters kept of one value; a line stays a line even if somebody logs a body."""
DEPTH_LIMIT: Final = 6
ITEMS_LIMIT: Final = 200

_SECRET_KEY = re.compile(
    r"(proxy_)?authorization|(.*_)?api_?key|x_goog_api_key|(set_)?cookie|.*secret.*|.*passw(or)?d.*"
    r"|.*credential.*|.*private_key.*"
)
_TOKEN_KEY = re.compile(r".*token.*")

_SECRET_VALUE = re.compile(
    r"\bsk-[A-Za-z0-9_\-]{6,}"  # OpenAI, Anthropic and many that follow them
    r"|(?i:\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=\-]{6,}"
    r"|\bAIza[A-Za-z0-9_\-]{20,}"  # Google
    r"|\beyJ[A-Za-z0-9_\-]{5,}\.[A-Za-z0-9_\-]{5,}(?:\.[A-Za-z0-9_\-]*)?"  # JSON web tokens
    r"|\bA[KS]IA[A-Z0-9]{16}\b"  # AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}"  # GitHub
    r"|(?<=[?&]key=)[^&\s\"']+"  # Gemini's query parameter
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # user and password in a URL
)
_HINT = re.compile(r"sk-|AIza|eyJ|A[KS]IA|gh[pousr]_|key=|://|(?i:bearer|basic)")


def scrub(text: str) -> str:
    """A text without anything that looks like a secret, shortened to `TEXT_LIMIT`."""
    if len(text) > 2 * TEXT_LIMIT:
        text = text[: 2 * TEXT_LIMIT]
    if _HINT.search(text) is not None:
        text = _SECRET_VALUE.sub(REDACTED, text)
    return text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + "…"


def is_secret(key: str, value: object) -> bool:
    """Whether a field's name says that its value is secret.

    `input_tokens: 12` is a count and `token: "abc"` a secret: a number under such a name stays.
    """
    name = key.lower().replace("-", "_")
    if _SECRET_KEY.fullmatch(name) is not None:
        return True
    counted = value is None or isinstance(value, int | float)
    return not counted and _TOKEN_KEY.fullmatch(name) is not None


def redact(value: Any, depth: int = 0) -> Any:
    """A value fit for a log line: plain data, bounded, without secrets."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _redact_container(value, depth) if depth < DEPTH_LIMIT else "…"
    if isinstance(value, bytes | bytearray):
        value = bytes(value[: 2 * TEXT_LIMIT]).decode("utf-8", "replace")
    try:
        return scrub(str(value))
    except Exception:  # somebody's __str__ must not cost the line
        return f"<{type(value).__name__}>"


def _redact_container(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return {
            scrub(str(key)): REDACTED if is_secret(str(key), each) else redact(each, depth + 1)
            for key, each in list(value.items())[:ITEMS_LIMIT]
        }
    items = list(value)[:ITEMS_LIMIT]
    # A header is a pair of name and value, in ASGI of bytes: its name hides its value too.
    if len(items) == 2 and isinstance(items[0], str | bytes):
        name = items[0].decode("latin-1") if isinstance(items[0], bytes) else items[0]
        if is_secret(name, items[1]):
            return [scrub(name), REDACTED]
    return [redact(item, depth + 1) for item in items]
