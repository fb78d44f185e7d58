"""uvicorn's HTTP protocol, with responses written by us: at once, and with less work a header.

uvicorn writes a head as soon as it has it and the body after it, which are two system calls and
two packets for an answer that fits into one; and it searches every header's name and value with a
regular expression each, which for the twenty headers of a gateway's answer costs as much as a
layer of the stack. ASGI has a server keep the head until the first body message is there (HTTP
message format, "Response Start"); and whether any value holds a line end is seen by counting them
in the finished head.
"""

from __future__ import annotations

import re
from typing import Any
from weakref import ref

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from radgateway.asgi import Message

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_MAX_NAMES = 512
_BODILESS = frozenset({204, 304})


class OneWriteProtocol(HttpToolsProtocol):
    """Give it to uvicorn as `http=`."""

    def on_headers_complete(self) -> None:
        """A request is to be answered: by a writer of ours, which its task will find there."""
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:  # else it is an upgrade
            self.cycle.send = ResponseWriter(self.cycle).send  # type: ignore[method-assign,assignment]


class _NameLines(dict[bytes, bytes]):
    """Header names that have been checked, each as the start of its line; bounded."""

    def __missing__(self, name: bytes) -> bytes:
        lower = name.lower()
        if not _TOKEN.fullmatch(lower):
            raise RuntimeError("Invalid HTTP header name.")
        line = b"\r\n" + lower + b": "
        if len(self) < _MAX_NAMES:
            self[name] = line
        return line


_name_lines = _NameLines()


class ResponseWriter:
    """The `send` of one request, over the state of uvicorn's cycle, which goes on from there.

    Raises RuntimeError, as uvicorn does, for messages out of order, a header that would break the
    head, and a body that is not as long as it was said to be.
    """

    __slots__ = ("_chunked", "_cycle", "_head", "_left")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        # Weak, as the cycle has us: a circle would be left to the garbage collector at every
        # request. uvicorn's task has the cycle for as long as the app runs.
        self._cycle = ref(cycle)
        self._head = b""
        self._chunked = False
        self._left: int | None = None
        """Bytes of the body still to come, where they were announced."""

    async def send(self, message: Message) -> None:
        """Take one message of the response."""
        cycle = self._cycle()
        if cycle is None:
            return  # the request is long over
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        kind = message["type"]
        if not cycle.response_started:
            if kind != "http.response.start":
                raise RuntimeError(
                    f"Expected ASGI message 'http.response.start', but got {kind!r}."
                )
            cycle.response_started = True
            cycle.waiting_for_100_continue = False
            self._begin(cycle, message["status"], message.get("headers", ()))
        elif cycle.response_complete:
            raise RuntimeError(f"Unexpected ASGI message {kind!r} after the response's end.")
        elif kind != "http.response.body":
            raise RuntimeError(f"Expected ASGI message 'http.response.body', but got {kind!r}.")
        else:
            self._part(cycle, message.get("body", b""), message.get("more_body", False))

    def _begin(self, cycle: RequestResponseCycle, status: int, headers: Any) -> None:
        lines = [STATUS_LINE[status][:-2]]
        framed = closes = False
        fields = 0
        for name, value in (*cycle.default_headers, *headers):
            line = _name_lines[name]
            lines += (line, value)
            fields += 1
            if line == b"\r\ncontent-length: " and not framed:
                framed = True
                self._left = int(value)
            elif line == b"\r\ntransfer-encoding: " and value.lower() == b"chunked":
                framed, self._chunked, self._left = True, True, None
            elif line == b"\r\nconnection: " and b"close" in value.lower():
                closes, cycle.keep_alive = True, False
        if not cycle.keep_alive and not closes:
            lines.append(b"\r\nconnection: close")
            fields += 1
        if not framed and cycle.scope["method"] != "HEAD" and status not in _BODILESS:
            self._chunked = True
            lines.append(b"\r\ntransfer-encoding: chunked")
            fields += 1
        lines.append(b"\r\n\r\n")
        head = b"".join(lines)
        # One line end for the status line, each field and the empty line; any more came in through
        # a value. Two scans in C are cheaper than a search of each value.
        if head.count(b"\n") != fields + 2 or head.count(b"\r") != fields + 2 or b"\0" in head:
            raise RuntimeError("Invalid HTTP header value.")
        self._head = head

    def _part(self, cycle: RequestResponseCycle, body: bytes, more: bool) -> None:
        head, self._head = self._head, b""
        if cycle.scope["method"] == "HEAD":
            body, self._left = b"", None
        elif self._chunked:
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
            if not more:
                body += b"0\r\n\r\n"
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0:
                raise RuntimeError("Response content longer than Content-Length")
        elif body:
            raise RuntimeError("Response content for a status that has none")
        if head or body:
            cycle.transport.write(head + body if head else body)
        if more:
            return
        if self._left:
            raise RuntimeError("Response content shorter than Content-Length")
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
