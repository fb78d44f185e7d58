"""Choosing the client for the way to the providers."""

from __future__ import annotations

import importlib.util
import ssl
from typing import Literal

import httpx

from radgateway.upstream.httpx_upstream import HTTPXUpstream
from radgateway.upstream.interface import Upstream

ClientName = Literal["auto", "http1", "httpx"]


def connect(
    client: ClientName = "auto",
    *,
    max_connections: int = 512,
    keepalive_expiry_s: float = 30.0,
    ssl_context: ssl.SSLContext | None = None,
) -> Upstream:
    """An upstream client: `http1` is our own fast one, `httpx` the portable one.

    `auto` takes `http1` where its parser, httptools, is installed (the `server` extra).
    `max_connections` is per origin for `http1`, over all of them for `httpx`; idle connections
    close after `keepalive_expiry_s` seconds. Raises ImportError where `http1` is asked for and
    can't be had.
    """
    if client == "auto":
        client = "http1" if importlib.util.find_spec("httptools") is not None else "httpx"
    if client == "http1":
        from radgateway.upstream.http1.client import HTTP1Client  # noqa: PLC0415 - needs the extra

        return HTTP1Client(
            max_connections=max_connections,
            keepalive_expiry_s=keepalive_expiry_s,
            ssl_context=ssl_context,
        )
    limits = httpx.Limits(
        max_connections=max_connections,
        max_keepalive_connections=max_connections,
        keepalive_expiry=keepalive_expiry_s,
    )
    transport = httpx.AsyncHTTPTransport(
        verify=ssl_context if ssl_context is not None else True, trust_env=False, limits=limits
    )
    return HTTPXUpstream(transport, max_connections=max_connections)


def trusting(ca_file: str | None) -> ssl.SSLContext | None:
    """TLS settings that trust the authorities of one file; None for the system's.

    Raises OSError for a file that holds none.
    """
    return ssl.create_default_context(cafile=ca_file) if ca_file is not None else None
