"""The seam to a provider: `Upstream`, its errors and clocks, and the two implementations.

`HTTP1Client` is imported when it is first asked for: it needs httptools, of the `server` extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from radgateway.upstream.httpx_upstream import HTTPXUpstream
from radgateway.upstream.interface import (
    BadResponse,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    FirstByteTimeout,
    IdleTimeout,
    PoolTimeout,
    Timeouts,
    TotalTimeout,
    Upstream,
    UpstreamError,
    UpstreamRequest,
    UpstreamResponse,
)

if TYPE_CHECKING:
    from radgateway.upstream.http1 import HTTP1Client

__all__ = [
    "Upstream",
    "UpstreamRequest",
    "UpstreamResponse",
    "Timeouts",
    "HTTP1Client",
    "HTTPXUpstream",
    "UpstreamError",
    "ConnectFailed",
    "ConnectTimeout",
    "PoolTimeout",
    "ConnectionLost",
    "BadResponse",
    "FirstByteTimeout",
    "IdleTimeout",
    "TotalTimeout",
]


def __getattr__(name: str) -> Any:
    if name == "HTTP1Client":
        from radgateway.upstream.http1 import HTTP1Client  # noqa: PLC0415 - an optional extra

        return HTTP1Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
