"""W3C Trace Context: reading `traceparent` and `tracestate` strictly, and writing our own.

https://www.w3.org/TR/trace-context/ §3.2: version, trace id, parent id and flags in lower-case
hex; ids of zeros are invalid, version ff is, and a later version may carry more after a dash.
What does not parse is ignored, as §4.3 asks: the request starts a trace of its own.
"""

from __future__ import annotations

import random
import re
from typing import NamedTuple

from radgateway.asgi import Headers
from radgateway.exchange import Exchange
from radgateway.telemetry.redaction import scrub

_PATTERN = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MEMBER = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[!-+\--<>-~ ]{0,255}[!-+\--<>-~]")
_STATE_MAX = 512
_MEMBERS_MAX = 32
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


def parse_tracestate(headers: Headers) -> str:
    """What other vendors keep of a trace, as one header's value; empty where it is not valid.

    It is passed on as it is, since we keep nothing of ours in it (§3.3, §4.2): all of it or, where
    it is longer than a vendor has to take or not of its form, nothing. The caller chose it, so
    what looks like a secret does not travel either.
    """
    values = [value for name, value in headers if name.lower() == b"tracestate"]
    if not values:
        return ""
    text = b",".join(values).decode("latin-1")
    if len(text) > _STATE_MAX:
        return ""
    members = [member.strip(" \t") for member in text.split(",")]
    members = [member for member in members if member]
    keys = {member.partition("=")[0] for member in members}
    if len(members) > _MEMBERS_MAX or len(keys) != len(members):
        return ""
    if not all(_MEMBER.fullmatch(member) for member in members):
        return ""
    state = ",".join(members)
    return state if scrub(state) == state else ""


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
