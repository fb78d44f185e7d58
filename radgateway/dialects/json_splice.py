"""Changing one top-level value of a JSON object and leaving every other byte as it came.

Re-serialising would rewrite numbers, escapes, key order and white space that a provider, or a
signature over the body, may care about. The value's place is found by searching for its own bytes
after its key; since the same bytes may also stand deeper in the document, each place is tried and
the result decoded, so what is returned is proven and never guessed.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

_MOST_PLACES = 8
"""Places tried before falling back to rebuilding the top level around untouched raw values."""

_top_level = msgspec.json.Decoder(dict[str, msgspec.Raw])


def replace(body: bytes, key: str, old: bytes, new: bytes) -> bytes:
    """The object `body` with the top-level `key`, whose value's bytes are `old`, set to `new`."""
    place = re.compile(rb'"' + key.encode() + rb'"\s*:\s*(?=' + re.escape(old) + rb")")
    wanted = bytes(new)
    for tried, match in enumerate(place.finditer(body)):
        if tried == _MOST_PLACES:
            break
        spliced = body[: match.end()] + new + body[match.end() + len(old) :]
        try:
            if raw_value(spliced, key) == wanted:
                return spliced
        except (msgspec.DecodeError, KeyError):
            continue
    # The key is written with escapes, or the same pair stands many times deeper: rebuild the
    # top level; every value still keeps its bytes.
    fields: dict[str, Any] = dict(_top_level.decode(body))
    fields[key] = msgspec.Raw(new)
    return msgspec.json.encode(fields)


def insert(body: bytes, key: str, value: bytes) -> bytes:
    """The non-empty object `body` with a new first `key`."""
    brace = body.index(b"{") + 1
    return body[:brace] + b'"' + key.encode() + b'":' + value + b"," + body[brace:]


def raw_value(body: bytes, key: str) -> bytes:
    """The bytes of a top-level value. Raises KeyError."""
    return bytes(_top_level.decode(body)[key])
