"""A provider that is not the bottleneck: canned answers from one asyncio protocol on uvloop.

It knows as much HTTP/1.1 as a load test needs: it finds the end of the headers and the
Content-Length, and pipelines nothing. A body with `"stream":true` gets 100 events, each written in
a turn of the loop of its own, as a model's tokens are, or every `--pace-ms`. It also plays the
collector that traces are exported to (POST /v1/traces), tells what it has received (GET /received),
and fails on demand: after GET /fail every chat is answered 500, until GET /serve.

Run alone: `python -m benchmarks.upstream` prints its port and serves until its input closes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from typing import cast

import uvloop

CHUNKS = 100
"""Content events of one stream."""

_MODEL = "bench-model"
_ANSWER = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1700000000,
        "model": _MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Four, as far as anybody knows."},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20},
    }
).encode()


def _response(body: bytes, content_type: bytes = b"application/json") -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: "
        + content_type
        + b"\r\ncontent-length: %d\r\n\r\n" % len(body)
        + body
    )


def _event(data: bytes) -> bytes:
    """One server-sent event as one chunk of the transfer coding."""
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n" % len(event) + event + b"\r\n"


def _chunk(choices: list[object], usage: object = None) -> bytes:
    head = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1700000000}
    return _event(
        json.dumps({**head, "model": _MODEL, "choices": choices, "usage": usage}).encode()
    )


def _delta(delta: dict[str, str], finish: str | None = None) -> bytes:
    return _chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])


_CHAT = _response(_ANSWER)
_FAILURE = _response(b'{"error":{"message":"out of order","type":"server_error"}}').replace(
    b"200 OK", b"500 Internal Server Error", 1
)
_TRACES = _response(b"", b"application/x-protobuf")
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
_USAGE = {"prompt_tokens": 12, "completion_tokens": CHUNKS, "total_tokens": 12 + CHUNKS}
_STREAM = (
    _STREAM_HEAD + _delta({"role": "assistant", "content": ""}),
    *(_delta({"content": f"word{at} "}) for at in range(CHUNKS)),
    _delta({}, "stop") + _chunk([], _USAGE) + _event(b"[DONE]") + b"0\r\n\r\n",
)


class Received:
    """What has come in, so that a run can show that it measured what it says."""

    def __init__(self) -> None:
        self.chats = 0
        self.streams = 0
        self.exports = 0
        self.export_bytes = 0
        self.refused = 0
        self.cut = 0
        """Streams whose reader left before their end."""
        self.open = 0
        """Connections at this moment."""
        self.failing = 0
        """1 while every chat is refused."""


class UpstreamProtocol(asyncio.Protocol):
    """One connection."""

    def __init__(
        self, received: Received, loop: asyncio.AbstractEventLoop, pace_s: float = 0.0
    ) -> None:
        self._received = received
        self._loop = loop
        self._pace_s = pace_s
        self._buffer = b""
        self._at = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; uvloop sets TCP_NODELAY."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._received.open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop writing; a stream in progress ends at its next event."""
        self._transport = None
        self._received.open -= 1
        self._received.cut += bool(self._at)

    def data_received(self, data: bytes) -> None:
        """Collect a request, and answer it when its last byte is here."""
        buffer = self._buffer + data if self._buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = buffer
            return
        total = end + 4 + _content_length(buffer, end)
        if len(buffer) < total:
            self._buffer = buffer
            return
        self._buffer = b""
        self._answer(buffer, end)

    def _answer(self, request: bytes, end: int) -> None:
        transport, received = self._transport, self._received
        if transport is None:
            return
        if request.startswith(b"POST /v1/traces"):
            received.exports += 1
            received.export_bytes += len(request) - end - 4
            transport.write(_TRACES)
        elif request.startswith(b"GET "):
            if not request.startswith(b"GET /received"):
                received.failing = int(request.startswith(b"GET /fail"))
            transport.write(_response(json.dumps(vars(received)).encode()))
        elif received.failing:
            received.refused += 1
            transport.write(_FAILURE)
        elif _streams(request, end):
            received.streams += 1
            self._write(0)
        else:
            received.chats += 1
            transport.write(_CHAT)

    def _write(self, at: int) -> None:
        if self._transport is None:
            return
        self._transport.write(_STREAM[at])
        self._at = at = (at + 1) % len(_STREAM)
        if at and self._pace_s:
            self._loop.call_later(self._pace_s, self._write, at)
        elif at:
            self._loop.call_soon(self._write, at)


def _content_length(request: bytes, end: int) -> int:
    for name in (b"content-length:", b"Content-Length:"):
        at = request.find(name, 0, end)
        if at >= 0:
            return int(request[at + len(name) : request.index(b"\r\n", at)])
    return 0


def _streams(request: bytes, end: int) -> bool:
    return request.find(b'"stream":true', end) >= 0 or request.find(b'"stream": true', end) >= 0


async def serve(port: int, pace_s: float = 0.0) -> None:
    """Serve until the standard input closes, which it does when whoever started this ends."""
    loop = asyncio.get_running_loop()
    received = Received()
    server = await loop.create_server(
        lambda: UpstreamProtocol(received, loop, pace_s), "127.0.0.1", port, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    closed = asyncio.Event()
    standard_input = sys.stdin.fileno()

    def read_input() -> None:
        if not os.read(standard_input, 1024):
            loop.remove_reader(standard_input)
            closed.set()

    loop.add_reader(standard_input, read_input)
    await closed.wait()
    server.close()


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.upstream",
        description="The provider that the benchmarks put behind every system under test.",
    )
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0 takes a free one")
    parser.add_argument(
        "--pace-ms", type=float, default=0.0, help="between two events of a stream; default: none"
    )
    asked = parser.parse_args()
    uvloop.run(serve(asked.port, asked.pace_ms / 1000))


if __name__ == "__main__":
    main()
