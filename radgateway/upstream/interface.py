"""The one narrow seam to a provider: send a request; get status, headers and a stream of bytes.

Two implementations stand behind it: `HTTP1Client`, our own fast HTTP/1.1 client, and
`HTTPXUpstream`, which takes any httpx (or httpx2) client or transport. Neither retries anything,
follows a redirect, or reads a proxy from the environment. Cancelling `send` or closing a response
before its end closes the connection at once and frees its slot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from radgateway.asgi import Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The clocks of one upstream call, in seconds; None turns one off."""

    connect_s: float | None = 2.0
    """TCP and TLS, until a request could be written."""
    pool_s: float | None = 1.0
    """Waiting for a free connection; not counted by `connect_s`."""
    first_byte_s: float | None = None
    """From the request's last byte out to the response's headers."""
    answer_s: float | None = None
    """The same for a request that is known not to stream; None is `first_byte_s`. Only `Deadline`
    knows it, as a client can't tell."""
    idle_s: float | None = None
    """Between two reads of the body, while the reader is waiting."""
    total_s: float | None = None
    """The whole call, to the body's last byte."""


@dataclass(slots=True)
class UpstreamRequest:
    """One request. `headers` carry neither Host nor the body's framing: the client writes those.

    But for `sent` it is not changed once it is made; having Python enforce that would cost a
    microsecond a call.
    """

    method: str
    url: str
    """Absolute, http or https, from configuration only."""
    headers: Headers
    body: bytes | AsyncIterator[bytes] = b""
    """Bytes are sent with a Content-Length, an iterator in chunks as fast as the peer reads."""
    sent: bool = False
    """Whether any byte of it may have reached the provider. By the client, before it waits for an
    answer: a call that is cancelled has no other way to say so."""


class UpstreamResponse(Protocol):
    """A response whose headers have arrived. Read it to its end, or close it."""

    status: int
    headers: Headers
    """Names in lower case, as received otherwise; hop-by-hop headers included."""
    connect_s: float | None
    """Seconds it took to open the connection; None where one was reused or it is not known."""

    async def read(self) -> bytes:
        """The next bytes of the body as they came, b"" once at its end.

        Raises `UpstreamError` where the body breaks off or a clock runs out.
        """

    @property
    def ended(self) -> bool:
        """True when all of the body has been handed out, so a further read would be empty."""

    async def aclose(self) -> None:
        """Let go: a body read to its end returns its connection, any other closes it at once."""


class Upstream(Protocol):
    """A client for any number of origins, shared by any number of tasks of one event loop."""

    async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> UpstreamResponse:
        """Send, and wait for the response's headers. Raises `UpstreamError`."""

    async def aclose(self) -> None:
        """Close every connection; calls under way fail with `ConnectionLost`."""


class UpstreamError(Exception):
    """A call failed below HTTP. The leaf says what happened, the attributes what follows.

    ConnectFailed        refused, unreachable, unknown host, TLS      sent=False
    ConnectTimeout       no usable connection in connect_s            sent=False
    PoolTimeout          no free connection in pool_s                 sent=False
    ConnectionLost       closed or reset while it was in use
    BadResponse          what came is not HTTP, or beyond our bounds
    FirstByteTimeout     sent, and no response in first_byte_s
    IdleTimeout          the body stalled for idle_s
    TotalTimeout         the call took longer than total_s
    """

    code = "upstream_error"
    """The code of `errors.CATALOGUE` it is answered with."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent
        """Whether any byte of the request may have reached the provider."""


class ConnectFailed(UpstreamError):
    """No connection: refused, unreachable, name not found, or TLS failed. Nothing was sent."""

    code = "upstream_unreachable"

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class ConnectTimeout(ConnectFailed):
    """No usable connection within `connect_s`. Nothing was sent."""

    code = "connect_timeout"


class PoolTimeout(ConnectFailed):
    """No free connection within `pool_s`. Nothing was sent."""

    code = "upstream_pool_timeout"


class ConnectionLost(UpstreamError):
    """The peer closed or reset the connection before the response was complete."""

    code = "upstream_connection_lost"


class BadResponse(UpstreamError):
    """The peer's bytes are not HTTP/1.1, or its headers are larger than our bound."""

    code = "upstream_bad_response"


class FirstByteTimeout(UpstreamError):
    """The request was sent, and no response began within `first_byte_s`."""

    code = "first_byte_timeout"


class IdleTimeout(UpstreamError):
    """The body stalled for longer than `idle_s`."""

    code = "idle_timeout"


class TotalTimeout(UpstreamError):
    """The call took longer than `total_s`."""

    code = "total_timeout"
