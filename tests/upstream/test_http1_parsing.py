"""The connection fed directly: any split of a response reads the same, and no bytes break it."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from radgateway.upstream import Timeouts, UpstreamError
from radgateway.upstream.http1.alarm import NEVER
from radgateway.upstream.http1.connection import Connection
from radgateway.upstream.http1.pool import Pool
from radgateway.upstream.http1.response import HTTP1Response


class FakeTransport:
    """A transport that goes nowhere, and calls back as a real one does."""

    def __init__(self) -> None:
        self.closed = False
        self.paused = False

    def write(self, data: bytes) -> None:
        """Taken."""

    def abort(self) -> None:
        """Closed."""
        self.closed = True

    close = abort

    def get_extra_info(self, name: str) -> None:
        """No TLS, no socket."""

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0

    def pause_reading(self) -> None:
        """Asked to stop."""
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        """Asked to go on."""
        assert self.paused
        self.paused = False


class CountingPool:
    """Slots, counted, where a pool would be."""

    def __init__(self) -> None:
        self.active = 1
        self.released = False

    def release(self, connection: Connection) -> None:
        """A slot is free, and the connection rests."""
        self.active -= 1
        self.released = True
        connection.rest(30.0)

    def discard(self, connection: Connection) -> None:
        """A slot is free."""
        self.active -= 1

    def opened(self, connection: Connection) -> None:
        """Of no interest here."""

    forget = lost = opened


class Outcome:
    """What a caller got to see."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.error: type[Exception] | None = None
        self.reused = False

    def key(self) -> tuple[Any, ...]:
        """All of it, to compare."""
        return self.status, self.headers, self.body, self.error, self.reused


async def play(pieces: list[bytes], *, is_head: bool = False, eof: bool = True) -> Outcome:
    """One exchange whose response arrives in these pieces, then the end of the connection."""
    loop = asyncio.get_running_loop()
    pool, transport = CountingPool(), FakeTransport()
    connection = Connection(cast(Pool, pool), loop)
    connection.connection_made(cast(asyncio.Transport, transport))
    response = HTTP1Response(
        connection, Timeouts(), total_at=NEVER, connect_s=None, is_head=is_head
    )
    connection.begin(response, b"GET / HTTP/1.1\r\n\r\n", b"")
    outcome = Outcome()

    async def call() -> None:
        try:
            await response.until_head()
            outcome.status, outcome.headers = response.status, list(response.headers)
            while not response.ended:
                outcome.body += await response.read()
            assert await response.read() == b""
        except UpstreamError as error:
            outcome.error = type(error)

    caller = asyncio.create_task(call())
    for piece in pieces:
        if len(pieces) < 20:
            await asyncio.sleep(0)
        if transport.closed:
            break
        connection.data_received(piece)
    if eof and not transport.closed:
        outcome.reused = pool.released
        connection.eof_received()
    connection.connection_lost(None)
    async with asyncio.timeout(5):
        await caller
    assert pool.active == 0
    assert not transport.paused or outcome.error is not None
    return outcome


def cut(data: bytes, points: list[int]) -> list[bytes]:
    """The data in pieces, cut at the points."""
    edges = [0, *sorted({point % (len(data) + 1) for point in points}), len(data)]
    return [piece for a, b in itertools.pairwise(edges) if (piece := data[a:b])]


TOKENS = st.text("abcXYZ-09", min_size=1, max_size=8).map(lambda text: b"x-" + text.encode())
VALUES = st.text(' !~azAZ09:,;="\u00ff', max_size=12).map(
    lambda text: text.strip(" ").encode("latin-1")
)
FIELDS = st.lists(st.tuples(TOKENS, VALUES), max_size=6)
INTERIM = st.sampled_from(
    [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 X\r\na: b\r\n\r\n"]
)


def lines(fields: list[tuple[bytes, bytes]]) -> bytes:
    """Fields as they are on the wire."""
    return b"".join(b"%b: %b\r\n" % field for field in fields)


@st.composite
def responses(draw: st.DrawFn) -> tuple[bytes, int, list[tuple[bytes, bytes]], bytes, bool]:
    """A valid response: its bytes, and the status, fields, body and reuse they must give."""
    status = draw(st.sampled_from([200, 201, 400, 429, 500, 599]))
    fields = draw(FIELDS)
    chunks = draw(st.lists(st.binary(min_size=1, max_size=300), max_size=5))
    body = b"".join(chunks)
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    reused = framing != "close"
    wire = draw(INTERIM) + b"HTTP/1.1 %d Reason\r\n" % status + lines(fields)
    expected = [(name.lower(), value) for name, value in fields]
    if draw(st.booleans()):
        wire += b"Connection: close\r\n"
        expected.append((b"connection", b"close"))
        reused = False
    if framing == "length":
        wire += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        expected.append((b"content-length", b"%d" % len(body)))
    elif framing == "chunked":
        wire += b"Transfer-Encoding: chunked\r\n\r\n"
        for chunk in chunks:
            wire += b"%x%b\r\n%b\r\n" % (len(chunk), draw(st.sampled_from([b"", b";a=b"])), chunk)
        wire += b"0\r\n" + lines(draw(FIELDS)) + b"\r\n"
        expected.append((b"transfer-encoding", b"chunked"))
    else:
        wire += b"\r\n" + body
    return wire, status, expected, body, reused


@settings(max_examples=300, deadline=None)
@given(responses(), st.lists(st.integers(0, 5000), max_size=12))
def test_any_split_reads_the_same(
    response: tuple[bytes, int, list[tuple[bytes, bytes]], bytes, bool], points: list[int]
) -> None:
    """However a valid response is cut by the network, the caller sees the same."""
    wire, status, fields, body, reused = response
    outcome = asyncio.run(play(cut(wire, points)))
    assert outcome.key() == (status, fields, body, None, reused)


@settings(max_examples=60, deadline=None)
@given(responses())
def test_byte_by_byte(
    response: tuple[bytes, int, list[tuple[bytes, bytes]], bytes, bool],
) -> None:
    """The finest split is no exception."""
    wire, status, fields, body, reused = response
    outcome = asyncio.run(play(cut(wire, list(range(len(wire))))))
    assert outcome.key() == (status, fields, body, None, reused)


@settings(max_examples=300, deadline=None)
@given(
    responses(),
    st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=4)), max_size=3),
    st.lists(st.integers(0, 5000), max_size=6),
    st.booleans(),
)
def test_damaged_responses(
    response: tuple[bytes, int, list[tuple[bytes, bytes]], bytes, bool],
    damage: list[tuple[int, bytes]],
    points: list[int],
    is_head: bool,
) -> None:
    """Damage ends in a response or an UpstreamError, in no hang, and in no slot that is lost."""
    wire = response[0]
    for at, replacement in damage:
        at %= len(wire)
        wire = wire[:at] + replacement + wire[at + 1 :]
    outcome = asyncio.run(play(cut(wire, points), is_head=is_head))
    check_bounds(outcome)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [
                    b"HTTP/1.1 200 OK\r\n",
                    b"HTTP/1.1 100 Continue\r\n\r\n",
                    b"HTTP/1.0 ",
                    b"204 X\r\n",
                    b"content-length: 3\r\n",
                    b"transfer-encoding: chunked\r\n",
                    b"connection: close\r\n",
                    b"\r\n",
                    b"\r\n\r\n",
                    b"3\r\nabc\r\n",
                    b"0\r\n\r\n",
                    b"\n",
                    b"\0",
                ]
            ),
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_arbitrary_bytes(pieces: list[bytes], joined: bool) -> None:
    """Whatever a peer sends, the caller gets a response or an UpstreamError."""
    pieces = [b"".join(pieces)] if joined else pieces
    outcome = asyncio.run(play([piece for piece in pieces if piece]))
    check_bounds(outcome)


@settings(max_examples=100, deadline=None)
@given(responses(), st.integers(0, 5000))
def test_truncation_is_never_a_success(
    response: tuple[bytes, int, list[tuple[bytes, bytes]], bytes, bool], at: int
) -> None:
    """A response that says how long it is, cut anywhere, is an error and never a short body."""
    wire, _, fields, body, _ = response
    at %= len(wire)
    outcome = asyncio.run(play([wire[:at]] if at else []))
    by_close = not {b"content-length", b"transfer-encoding"} & {name for name, _ in fields}
    if not (by_close and outcome.status):
        assert outcome.error is not None
    assert body.startswith(outcome.body)


def check_bounds(outcome: Outcome) -> None:
    """What reaches a caller is fit to be passed on."""
    assert outcome.error is None or issubclass(outcome.error, UpstreamError)
    assert outcome.status == 0 or 200 <= outcome.status <= 599
    for name, value in outcome.headers:
        assert name
        assert not set(b"\r\n\0") & set(name + value)
        assert not set(b" :\t") & set(name)
