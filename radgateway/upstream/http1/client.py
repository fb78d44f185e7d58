"""Our own HTTP/1.1 client: the `Upstream` that the reference app runs on.

Why our own: the request path is what a gateway is for, and on one core the best correct library
behind the same gateway reaches a half to a third of what a small protocol over httptools does
(the measurements are in docs/explanation). HTTP/2 and proxies stay with `HTTPXUpstream`.
"""

from __future__ import annotations

import asyncio
import ssl
import time

from radgateway.asgi import Clock
from radgateway.upstream.http1.alarm import NEVER
from radgateway.upstream.http1.pool import Pool, PoolStats
from radgateway.upstream.http1.response import HTTP1Response
from radgateway.upstream.interface import ConnectionLost, Timeouts, UpstreamRequest
from radgateway.upstream.request_head import Origin, parse_url, render_head, start_of_head

_MAX_TARGETS = 1024
_MAX_POOLS = 256


class HTTP1Client:
    """A client for any number of origins, for the tasks of one event loop (`Upstream`).

    Nothing is retried. A connection that its peer closed at rest is replaced before anything is
    written to it; one that breaks after that is a `ConnectionLost`, even if it was reused.
    """

    def __init__(
        self,
        *,
        max_connections: int = 256,
        max_waiting: int = 1024,
        keepalive_expiry_s: float = 30.0,
        ssl_context: ssl.SSLContext | None = None,
        ca_file: str | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        """Limits are per origin.

        max_connections      open at once, in use and at rest
        max_waiting          calls that may wait for one; the next is refused with `PoolTimeout`
        keepalive_expiry_s   how long one may rest; shorter than the usual 60 to 75 s of servers
        ssl_context          replaces ours: the system's CAs, host names verified
        ca_file              certificates to trust instead of the system's; not with `ssl_context`
        """
        for name, value in (("max_connections", max_connections), ("max_waiting", max_waiting)):
            if value < (1 if name == "max_connections" else 0):
                raise ValueError(f"{name} is {value}; it must be positive")
        if keepalive_expiry_s < 0:
            raise ValueError(f"keepalive_expiry_s is {keepalive_expiry_s}; it must not be negative")
        if ssl_context is not None and ca_file is not None:
            raise ValueError("ca_file can't be given beside ssl_context; load it there")
        self._max_connections = max_connections
        self._max_waiting = max_waiting
        self._keepalive_expiry_s = keepalive_expiry_s
        self._ssl_context = ssl_context
        self._ca_file = ca_file
        self._clock = clock
        self._closed = False
        self._pools: dict[Origin, Pool] = {}
        self._targets: dict[tuple[str, str], tuple[Pool, bytes]] = {}

    async def send(self, request: UpstreamRequest, timeouts: Timeouts) -> HTTP1Response:
        """Send, and wait for the response's headers. Raises `UpstreamError`.

        ValueError where the request could not be written as one: an unusable URL, a header with a
        line end in it. An exception of the body's own iterator passes through.
        """
        if self._closed:
            raise ConnectionLost("The client is closed.", sent=False)
        method, body = request.method, request.body
        try:
            pool, start = self._targets[method, request.url]
        except KeyError:
            pool, start = self._resolve(method, request.url)
        length = len(body) if isinstance(body, bytes) else None
        head = render_head(start, method, request.headers, length)
        total_at = NEVER
        if timeouts.total_s is not None:
            total_at = asyncio.get_running_loop().time() + timeouts.total_s
        connect_s = None
        connection = pool.checkout()
        if connection is None:
            connection, connect_s = await pool.acquire(timeouts, total_at)
        response = HTTP1Response(
            connection,
            timeouts,
            total_at=total_at,
            connect_s=connect_s,
            is_head=method == "HEAD",
        )
        connection.begin(response, head, body)
        request.sent = True
        await response.until_head()
        return response

    def stats(self) -> dict[str, PoolStats]:
        """Per origin, what its pool holds at the moment."""
        return {str(origin): pool.stats() for origin, pool in self._pools.items()}

    async def aclose(self) -> None:
        """Close every connection; calls under way fail with `ConnectionLost`."""
        self._closed = True
        self._targets.clear()
        for pool in self._pools.values():
            await pool.aclose()

    def _resolve(self, method: str, url: str) -> tuple[Pool, bytes]:
        origin, host_value, target = parse_url(url)
        start = start_of_head(method, target, host_value)
        pool = self._pools.get(origin)
        if pool is None:
            self._drop_unused_pools()
            pool = self._pools[origin] = Pool(
                origin,
                max_connections=self._max_connections,
                max_waiting=self._max_waiting,
                keepalive_expiry_s=self._keepalive_expiry_s,
                ssl_context=self._tls() if origin.scheme == "https" else None,
                clock=self._clock,
            )
        if len(self._targets) >= _MAX_TARGETS:
            self._targets.clear()
        self._targets[method, url] = pool, start
        return pool, start

    def _drop_unused_pools(self) -> None:
        if len(self._pools) >= _MAX_POOLS:
            self._targets.clear()
            self._pools = {o: pool for o, pool in self._pools.items() if not pool.unused}

    def _tls(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context(cafile=self._ca_file)
            self._ssl_context.set_alpn_protocols(["http/1.1"])
        return self._ssl_context
