"""One connection: an asyncio protocol that carries one exchange at a time, parsed by llhttp.

llhttp bounds nothing and takes no end of file, so header sizes are counted here, and whether the
end of the connection is the end of a body is decided here from the headers (RFC 9112 §6.3).
Whatever is odd about a response (a byte too many, an upload cut short, HTTP/1.0) costs the
connection, never the next response.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, cast

import httptools

from radgateway.upstream.http1.alarm import NEVER, Alarm
from radgateway.upstream.http1.response import HTTP1Response
from radgateway.upstream.http1.upload import SLICE_BYTES, BytesUpload, StreamUpload, Upload
from radgateway.upstream.interface import (
    BadResponse,
    ConnectionLost,
    FirstByteTimeout,
    IdleTimeout,
    TotalTimeout,
    UpstreamError,
)

if TYPE_CHECKING:
    from radgateway.upstream.http1.pool import Pool

MAX_HEAD_BYTES = 64 * 1024
"""Headers and trailers of one response, and any other bytes of it that carry no body."""
MAX_FIELDS = 256
"""Header and trailer fields of one response."""
HIGH_WATER_BYTES = 256 * 1024
"""Unread body at which we stop reading from the socket, until the reader has taken it all."""
POLL_AFTER_S = 0.05
"""A connection that rested for longer is asked whether the peer has closed it before it is used:
the loop has seen what happened earlier, and a poll costs microseconds that busy ones save."""


class Connection(asyncio.Protocol):
    """A connection of a pool. Idle while it has no response; closed for good by any surprise."""

    __slots__ = (
        "_alarm",
        "_close_delimited",
        "_field_bytes",
        "_fields",
        "_has_framing",
        "_parser",
        "_poll",
        "_pool",
        "_quiet_bytes",
        "_reading_paused",
        "_response",
        "_reusable",
        "_upload",
        "closed",
        "idle_since",
        "loop",
        "transport",
        "write_paused",
    )

    transport: asyncio.Transport

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.closed = False
        self.idle_since = 0.0
        self.write_paused = False
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._poll: select.poll | None = None
        self._response: HTTP1Response | None = None
        self._upload: Upload | None = None
        self._reading_paused = False
        self._alarm = Alarm(loop, self._on_alarm)
        self._forget_exchange()

    def _forget_exchange(self) -> None:
        self._reusable = False
        self._close_delimited = False
        self._has_framing = False
        self._fields = 0
        self._field_bytes = 0
        self._quiet_bytes = 0

    # an exchange, from the caller's side

    def begin(
        self, response: HTTP1Response, head: bytes, body: bytes | AsyncIterator[bytes]
    ) -> None:
        """Write the request, as much of it as goes at once, and start its clocks."""
        self._forget_exchange()
        self._response = response
        if not isinstance(body, bytes):
            self.transport.write(head)
            self._alarm.set(response.total_at)
            self._upload = StreamUpload(self, body)
        elif len(body) <= SLICE_BYTES:
            self.transport.write(head + body if body else head)
            self._watch_for(response, response.timeouts.first_byte_s)
        else:
            self.transport.write(head + body[:SLICE_BYTES])
            self._alarm.set(response.total_at)
            self._upload = BytesUpload(self, body, SLICE_BYTES)
            self._upload.resume()

    def upload_done(self) -> None:
        """The request's last byte has been written."""
        self._upload, response = None, self._response
        if response is not None and response.status == 0:
            self._watch_for(response, response.timeouts.first_byte_s)

    def watch_body(self, response: HTTP1Response) -> None:
        """A reader waits: the idle clock runs."""
        self._watch_for(response, response.timeouts.idle_s)

    def resume(self) -> None:
        """All that had arrived was read."""
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()

    def fail(self, error: Exception) -> None:
        """End the exchange and the connection at once; the slot is free when this returns."""
        response = self._response
        if response is None:
            return
        self._detach(response)
        response.error = error
        self.transport.abort()
        self._pool.discard(self)
        response.wake()

    # a connection at rest

    def rest(self, expiry_s: float) -> None:
        """Wait for the next exchange, for `expiry_s` at most."""
        self.idle_since = self.loop.time()
        self._alarm.set(self.idle_since + expiry_s)

    def usable(self) -> bool:
        """Whether a request may be written to it, as far as can be known."""
        if self.closed or self.transport.is_closing():
            return False
        self._alarm.due = NEVER
        if self.loop.time() - self.idle_since <= POLL_AFTER_S:
            return True
        if self._poll is None:
            # uvloop's socket object can do little more than name its descriptor.
            self._poll = select.poll()
            self._poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        # At rest nothing may be readable: it is the end of the connection, or not HTTP.
        return not self._poll.poll(0)

    def close(self) -> None:
        """End a connection at rest, with TLS's goodbye."""
        self.closed = True
        self.transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open (with TLS: after the handshake)."""
        self.transport = cast(asyncio.Transport, transport)
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        """Parse, and wake the waiting task once for all that came."""
        response = self._response
        if response is None:
            self._surprised()
            return
        if response.status == 0 and not self._quiet_bytes and data[0] != 0x48:
            # llhttp would take RTSP and ICE as well, and skip empty lines.
            self.fail(BadResponse("The response does not start with HTTP/1."))
            return
        unread, status = response.unread, response.status
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not response.complete:
                ours = error.__context__
                other = BadResponse(f"The response is not HTTP/1.1: {error}")
                self.fail(ours if isinstance(ours, UpstreamError) else other)
                return
            self._reusable = False
        if response.complete:
            self._finish(response)
        elif response.unread != unread:
            self._quiet_bytes = 0
            self._alarm.due = response.total_at
            if response.unread > HIGH_WATER_BYTES and not self._reading_paused:
                self._reading_paused = True
                self.transport.pause_reading()
            response.wake()
        else:
            self._quiet_bytes += len(data)
            if self._quiet_bytes > MAX_HEAD_BYTES:
                self.fail(_too_large())
            elif response.status != status:
                self._alarm.due = response.total_at
                response.wake()

    def eof_received(self) -> None:
        """The peer closed its side: the end of a body that has no other, or of the connection."""
        response = self._response
        if response is None:
            self._surprised()
        elif self._close_delimited and self._said_goodbye():
            response.complete = True
            self._finish(response)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed, whoever closed it."""
        self.closed = True
        response = self._response
        if response is None:
            self._pool.forget(self)
        elif response.status == 0:
            self.fail(ConnectionLost(f"The provider closed the connection unanswered{_why(exc)}."))
        else:
            self.fail(ConnectionLost(f"The connection broke inside the response{_why(exc)}."))
        # Both hold our bound methods; without them there is no cycle to collect.
        self._alarm.cancel()
        del self._alarm, self._parser
        self._pool.lost(self)

    def pause_writing(self) -> None:
        """The peer reads more slowly than we write."""
        self.write_paused = True
        response = self._response
        if self._upload is not None and response is not None and response.status == 0:
            self._watch_for(response, response.timeouts.idle_s)

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self.write_paused = False
        if self._upload is not None and self._response is not None:
            if self._response.status == 0:
                self._alarm.due = self._response.total_at
            self._upload.resume()

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        """A status line begins."""
        response = self._response
        if response is not None and response.status:
            raise BadResponse("More bytes came than the response has.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header or trailer field, complete."""
        self._fields += 1
        self._field_bytes += len(name) + len(value) + 4
        if self._fields > MAX_FIELDS or self._field_bytes > MAX_HEAD_BYTES:
            raise _too_large()
        response = self._response
        if response is None or response.status:
            return  # a trailer: nobody asked for it (RFC 9110 §6.5.1)
        name = name.lower()
        if name == b"content-length":
            # Several, or one beside Transfer-Encoding, llhttp refuses; so do we, should it not.
            self._frame_once()
        elif name == b"transfer-encoding":
            self._frame_once()
            if value.strip().lower() != b"chunked":
                raise BadResponse("The response has a transfer coding other than chunked.")
        response.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head of an interim or of the final response is here."""
        response = self._response
        if response is None:
            return
        status = self._parser.get_status_code()
        version = self._parser.get_http_version()
        if version not in {"1.1", "1.0"} or not 100 <= status <= 599 or status == 101:
            raise BadResponse(f"The response is HTTP/{version} with status {status}.")
        if status < 200:
            response.headers.clear()
            self._has_framing = False
            return
        response.status = status
        self._reusable = version == "1.1" and self._parser.should_keep_alive()
        if response.is_head:
            # llhttp can't be told that no body follows, so it is not asked to go on.
            response.complete = True
            self._reusable = False
        elif not self._has_framing and status not in {204, 304}:
            self._close_delimited = True
            self._reusable = False
        if status >= 300 and self._upload is not None:
            # RFC 9112 §9.5: the answer is there, and it is not a yes; the rest is not wanted.
            self._stop_upload()

    def on_body(self, body: bytes) -> None:
        """Bytes of the body, without its framing."""
        response = self._response
        if response is not None and not response.complete:
            response.chunks.append(body)
            response.unread += len(body)

    def on_message_complete(self) -> None:
        """The end of an interim or of the final response."""
        response = self._response
        if response is not None and response.status:
            response.complete = True

    # inside

    def _said_goodbye(self) -> bool:
        """Whether the end is the peer's word: over TLS, only after its closure alert (§9.8)."""
        tls = self.transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            # asyncio reports a bare end of the TCP stream just like the alert; OpenSSL knows.
            return not tls.read(1)
        except ssl.SSLError:
            return False

    def _frame_once(self) -> None:
        if self._has_framing:
            raise BadResponse("The response says twice how long it is.")
        self._has_framing = True

    def _finish(self, response: HTTP1Response) -> None:
        """The response is complete: keep the connection if nothing about it was odd."""
        self._detach(response)
        self.resume()
        if (
            self._reusable
            and not self.transport.is_closing()
            and not self.transport.get_write_buffer_size()
        ):
            self._pool.release(self)
        else:
            self.transport.abort()
            self._pool.discard(self)
        response.wake()

    def _detach(self, response: HTTP1Response) -> None:
        self._response = response.connection = None
        self._alarm.due = NEVER
        if self._upload is not None:
            self._stop_upload()

    def _stop_upload(self) -> None:
        upload, self._upload = self._upload, None
        self._reusable = False
        if upload is not None:
            upload.stop()

    def _surprised(self) -> None:
        """Something came while at rest: it answers nothing we asked, so it can't be trusted."""
        self.closed = True
        self._pool.forget(self)
        self.transport.abort()

    # the clocks

    def _watch_for(self, response: HTTP1Response, seconds: float | None) -> None:
        due = response.total_at
        if seconds is not None:
            due = min(due, self.loop.time() + seconds)
        self._alarm.set(due)

    def _on_alarm(self) -> None:
        if self._response is None:
            self._pool.forget(self)
            self.close()
        else:
            self.fail(self._expired(self._response))

    def _expired(self, response: HTTP1Response) -> UpstreamError:
        timeouts = response.timeouts
        if self._alarm.reached(response.total_at):
            return TotalTimeout(f"The call took longer than {timeouts.total_s:g} s.")
        if response.status:
            return IdleTimeout(f"No byte of the body came for {timeouts.idle_s:g} s.")
        if self._upload is not None:
            return IdleTimeout(f"The request was not read for {timeouts.idle_s:g} s.")
        return FirstByteTimeout(f"No response began within {timeouts.first_byte_s:g} s.")


def _too_large() -> BadResponse:
    return BadResponse(
        f"The response's headers are larger than {MAX_HEAD_BYTES} bytes or {MAX_FIELDS} fields."
    )


def _why(exc: Exception | None) -> str:
    return "" if exc is None else f" ({type(exc).__name__})"
