"""An HTTP/1.1 client for the request path: asyncio protocols over llhttp, in a small pool.

Read in this order: `client` (what is called), `pool` (slots and connections), `connection` (one
exchange), `upload` and `response` (its two bodies). Needs httptools, of the `server` extra.
"""

from __future__ import annotations

from radgateway.upstream.http1.client import HTTP1Client
from radgateway.upstream.http1.pool import PoolStats
from radgateway.upstream.http1.response import HTTP1Response

__all__ = ["HTTP1Client", "HTTP1Response", "PoolStats"]
