"""W3C Trace Context: reading `traceparent` strictly, and writing our own.

https://www.w3.org/TR/trace-context/ §3.2: version, trace id, parent id and flags in lower-case
hex; ids of zeros are invalid, version ff is, and a later version may carry more after a dash.
What does not parse is ignored, as §4.3 asks: the request starts a trace of its own.
"""

from __future__ import annotations

import random
import re
from typing import NamedTuple

from radgateway.exchange import Exchange

_PATTERN = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16

_random = random.Random()


class TraceParent(NamedTuple):
    """Where a request comes from in somebody's trace."""

    trace_id: str
    """32 hex digits, not all 0."""
    span_id: str
    """16 hex digits, not all 0."""
    sampled: bool
    """What the caller decided; ours is decided apart from it."""


def parse_traceparent(value: bytes | None) -> TraceParent | None:
    """The header's value, or None where it is absent or not valid."""
    if value is None:
        return None
    match = _PATTERN.fullmatch(value)
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    trace_id, span_id = trace.decode("ascii"), span.decode("ascii")
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & 1))


def new_trace_id(rng: random.Random = _random) -> str:
    """128 random bits in hex, never all 0."""
    return f"{rng.getrandbits(128) or 1:032x}"


def new_span_id(rng: random.Random = _random) -> str:
    """64 random bits in hex, never all 0."""
    return f"{rng.getrandbits(64) or 1:016x}"


def traceparent_for(exchange: Exchange, attempt_span_id: str = "") -> bytes | None:
    """The header to send with an attempt, or None where the request has no trace.

    Without a span id of the attempt's own, the request's is named as the parent.
    """
    parent = attempt_span_id or exchange.span_id
    if not exchange.trace_id or not parent:
        return None
    flags = "01" if exchange.sampled else "00"
    return f"00-{exchange.trace_id}-{parent}-{flags}".encode("ascii")
