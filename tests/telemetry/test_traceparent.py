"""The W3C header is read strictly and written validly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radgateway.exchange import Exchange
from radgateway.telemetry.traceparent import (
    new_span_id,
    new_trace_id,
    parse_traceparent,
    parse_tracestate,
    traceparent_for,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_valid_header_is_read() -> None:
    """The example of the specification, §3.2.4."""
    parsed = parse_traceparent(f"00-{TRACE}-{SPAN}-01".encode())
    assert parsed == (TRACE, SPAN, True)
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-00".encode()) == (TRACE, SPAN, False)


def test_a_later_version_may_carry_more() -> None:
    """§3.2.3: parse what is known, ignore what follows a dash."""
    assert parse_traceparent(f"01-{TRACE}-{SPAN}-01-what-ever".encode()) == (TRACE, SPAN, True)
    assert parse_traceparent(f"cc-{TRACE}-{SPAN}-01".encode()) == (TRACE, SPAN, True)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"01-{TRACE}-{SPAN}-01more",
        f"00-{TRACE}-{SPAN}-0g",
    ],
)
def test_anything_else_is_ignored(value: str) -> None:
    """A header that is not valid is as good as none."""
    assert parse_traceparent(value.encode()) is None


def test_no_header_is_none() -> None:
    """Absent is not an error."""
    assert parse_traceparent(None) is None


@given(st.binary(max_size=200))
def test_no_bytes_are_an_error(value: bytes) -> None:
    """Whatever a client sends, parsing answers."""
    parsed = parse_traceparent(value)
    assert parsed is None or len(parsed.trace_id) == 32


@given(st.booleans())
def test_what_is_written_can_be_read(sampled: bool) -> None:
    """The header for an attempt parses to the ids it was made of."""
    exchange = Exchange("r")
    exchange.trace_id, exchange.span_id = new_trace_id(), new_span_id()
    exchange.sampled = sampled
    own = new_span_id()
    assert parse_traceparent(traceparent_for(exchange, own)) == (exchange.trace_id, own, sampled)
    assert parse_traceparent(traceparent_for(exchange)) == (
        exchange.trace_id,
        exchange.span_id,
        sampled,
    )


def test_without_a_trace_there_is_no_header() -> None:
    """A request outside of any trace sends none."""
    assert traceparent_for(Exchange("r"), new_span_id()) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["rojo=00f067aa0ba902b7"], "rojo=00f067aa0ba902b7"),
        (["a=1 , b=2", "c@d=3"], "a=1,b=2,c@d=3"),
        (["a=1,,b=2,"], "a=1,b=2"),
        ([], ""),
        ([""], ""),
        (["a"], ""),
        (["A=1"], ""),
        (["a=1,a=2"], ""),
        (["a=x=y"], ""),
        (["a=\x7f"], ""),
        (["a=" + "x" * 600], ""),
        ([",".join(f"k{i}=1" for i in range(33))], ""),
        (["v=sk-proj-0123456789abcdef"], ""),
    ],
)
def test_the_state_is_taken_whole_or_not_at_all(values: list[str], expected: str) -> None:
    """By its grammar, 32 members and 512 characters; nobody's key is passed around in it."""
    headers = [(b"tracestate", value.encode("latin-1")) for value in values]
    assert parse_tracestate([(b"x", b"a=1"), *headers]) == expected
