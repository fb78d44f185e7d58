"""Streams of events under load: a client of plain sockets that looks at nothing it need not.

A number of connections each ask for a stream, read it to its end and ask for the next. Counted are
whole streams, their content events, and the time from the request's last byte out to the body's
first byte in. A stream that is cut, refused or short is an error.

Run alone: `python -m benchmarks.stream_load --port N` prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from dataclasses import asdict, dataclass, field
from typing import cast

import uvloop

from benchmarks.upstream import CHUNKS

_BODY = json.dumps(
    {
        "model": "bench-model",
        "messages": [{"role": "user", "content": "Count to a hundred."}],
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    separators=(",", ":"),
).encode()
_LAST_CHUNK = b"0\r\n\r\n"
_CONTENT = b'"content": "word'
"""Stands once in each content event of `upstream.py`, whose bytes every system must pass on."""
_STREAM_LIMIT_S = 30.0


@dataclass
class Result:
    """What one run measured."""

    seconds: float = 0.0
    streams: int = 0
    chunks: int = 0
    errors: int = 0
    first_byte_p50_ms: float = 0.0
    first_byte_p99_ms: float = 0.0
    first_error: str = ""


@dataclass
class _Tally:
    request: bytes
    ends_at: float
    streams: int = 0
    chunks: int = 0
    errors: int = 0
    first_error: str = ""
    first_bytes_s: list[float] = field(default_factory=list)

    def fail(self, reason: str) -> None:
        """Count an error, and keep the first one's words."""
        self.errors += 1
        self.first_error = self.first_error or reason


class _Connection(asyncio.Protocol):
    """One connection, a stream at a time."""

    def __init__(self, tally: _Tally, done: asyncio.Future[None]) -> None:
        self._tally = tally
        self._done = done
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        self._head: bytes | None = b""
        self._chunks = 0
        self._first_s = 0.0
        self._tail = b""
        self._asked = time.perf_counter()
        self._transport.write(self._tally.request)

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            at = self._head.find(b"\r\n\r\n")
            if at < 0 or len(self._head) == at + 4:
                return
            if not self._head.startswith(b"HTTP/1.1 200"):
                self._end(self._head[:300].decode("latin-1"))
                return
            self._first_s = time.perf_counter() - self._asked
            data = self._head[at + 4 :]
            self._head = None
        # A mark may be split between two reads; what could be its beginning is looked at again.
        window = self._tail + data
        self._chunks += window.count(_CONTENT)
        self._tail = window[-(len(_CONTENT) - 1) :]
        if window.endswith(_LAST_CHUNK):
            self._finish()

    def _finish(self) -> None:
        tally = self._tally
        if self._chunks != CHUNKS:
            self._end(f"a stream of {self._chunks} content events instead of {CHUNKS}")
            return
        tally.streams += 1
        tally.chunks += self._chunks
        tally.first_bytes_s.append(self._first_s)
        if time.perf_counter() < tally.ends_at:
            self._ask()
        else:
            self._end(None)

    def _end(self, reason: str | None) -> None:
        if reason is not None:
            self._tally.fail(reason)
        if not self._done.done():
            self._done.set_result(None)
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._end(f"the connection was lost: {exc}")


async def load(port: int, key: str, *, connections: int, seconds: float) -> Result:
    """Keep `connections` streams going for `seconds`, then let those under way end."""
    loop = asyncio.get_running_loop()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(_BODY)}\r\n\r\n"
    )
    began = time.perf_counter()
    tally = _Tally(head.encode() + _BODY, began + seconds)
    ends: list[asyncio.Future[None]] = []
    for _ in range(connections):
        end = loop.create_future()
        ends.append(end)
        async with asyncio.timeout(_STREAM_LIMIT_S):
            await loop.create_connection(
                lambda end=end: _Connection(tally, end),  # type: ignore[misc]
                "127.0.0.1",
                port,
            )
    _, stuck = await asyncio.wait(ends, timeout=seconds + _STREAM_LIMIT_S)
    for _ in stuck:
        tally.fail(f"a stream took longer than {_STREAM_LIMIT_S:g} s")
    result = Result(time.perf_counter() - began, tally.streams, tally.chunks, tally.errors)
    result.first_error = tally.first_error
    if len(tally.first_bytes_s) > 1:
        cuts = statistics.quantiles(tally.first_bytes_s, n=100, method="inclusive")
        result.first_byte_p50_ms, result.first_byte_p99_ms = cuts[49] * 1000, cuts[98] * 1000
    return result


def main() -> None:
    """Parse the arguments, load, and print the result."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stream_load",
        description="Ask for streams of events, and count what comes back.",
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", default="none", help="the API key to send")
    parser.add_argument("--connections", type=int, default=16, help="streams at once")
    parser.add_argument("--seconds", type=float, default=5.0)
    asked = parser.parse_args()
    result = uvloop.run(
        load(asked.port, asked.key, connections=asked.connections, seconds=asked.seconds)
    )
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
